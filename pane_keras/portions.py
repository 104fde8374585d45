"""How many rows one sweep carries, so that its memory does not grow with the number of rows that are asked for."""

import math

from pane_keras import backend

ENTRIES = 2**26
"""Entries of the widest layer on the way that a sweep may carry, in each channel: 256 MiB in float32."""

MOST_ROWS = 256


def portions(count, composition):
    """Returns the ranges of flat indices that `count` rows are swept in.

    Args:
        count: Number of rows.
        composition: The `Composition` that they are swept through.
    """
    return in_blocks(count, rows_at_a_time(composition))


def rows_at_a_time(composition):
    """Returns how many rows a sweep carries at most."""
    return rows_in(composition.widest)


def rows_in(widest):
    """Returns how many rows a sweep carries whose widest layer has so many entries."""
    return max(1, min(MOST_ROWS, int(ENTRIES // max(widest, 1))))


def in_blocks(count, size):
    """Returns the ranges of flat indices, `size` at a time."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def entries(tensor):
    """Returns the number of entries of a tensor; a batch that is unknown inside a graph counts once."""
    return math.prod(map(backend.static_size, tensor.shape))
