"""Which of the units that a query asks for share a sweep: those whose receptive fields are nearly the same.

Rows of one sweep are swept through the window that holds all of them, so units far apart would each pay for the whole
layer; and a sweep of a single row reads every kernel for it alone.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pane_keras.portions import entries, in_blocks, rows_in
from pane_keras.receptive_field import reached
from pane_keras.windows import Window

# What a sweep costs once, beside a multiply-add of a row: a kernel's entry is copied, arranged and made positive.
_PER_KERNEL_ENTRY, _PER_STAGE = 256, 2**21


def in_groups(flat, shape, composition):
    """Returns arrays of row numbers, together 0 ... n - 1: the rows of each are pulled in one sweep.

    Args:
        flat: Array (n,) of flat indices of units of the target.
        shape: Shape of a sample of the target.
        composition: The `Composition` that they are pulled through.
    """
    sweeps = _Sweeps(composition)
    placed = len(shape) > 1 and None not in shape
    groups = _neighbours(np.asarray(flat), shape, sweeps) if placed else [_Group(np.arange(len(flat)), None)]
    return [g.rows[p.start : p.stop] for g in groups for p in in_blocks(len(g.rows), sweeps.most(g.window))]


class _Group(NamedTuple):
    """Row numbers and the window that holds their units, or None for all of the target."""

    rows: np.ndarray
    window: Window | None

    def with_rows_of(self, other):
        """Returns the group of the rows of both."""
        start, stop = (
            map(min, *(g.window.start for g in (self, other))),
            map(max, *(g.window.stop for g in (self, other))),
        )
        return _Group(np.concatenate([self.rows, other.rows]), Window(tuple(start), tuple(stop)))


def _neighbours(flat, shape, sweeps):
    """Places along a curve that fills the space, grouped as long as one sweep is cheaper than two."""
    groups = []
    for place in _places(flat, shape):
        both = groups[-1].with_rows_of(place) if groups else None
        if groups and sweeps.cost(both) <= sweeps.cost(groups[-1]) + sweeps.cost(place):
            groups[-1] = both
        else:
            groups.append(place)
    return groups


def _places(flat, shape):
    """The group of each position, in Morton's order: by the bits of its coordinates interleaved."""
    positions = np.stack(np.unravel_index(flat, shape)[:-1], axis=1)
    places, at = np.unique(positions, axis=0, return_inverse=True)
    bits = np.arange(int(places.max(initial=0)).bit_length())
    ones = ((places[:, None, :] >> bits[None, :, None]) & 1).reshape(len(places), -1)
    order = np.argsort(ones @ 2.0 ** np.arange(ones.shape[1]), kind="stable")
    for k in order:
        window = Window(tuple(map(int, places[k])), tuple(int(p) + 1 for p in places[k]))
        yield _Group(np.flatnonzero(at.reshape(-1) == k), window)


class _Sweeps:
    """What it costs to pull some units in one go, in multiply-adds."""

    def __init__(self, composition):
        operands = composition.operands
        kernels = sum(math.prod(np.shape(kernel)) for operand in operands for kernel in operand.kernels)
        self._once = _PER_KERNEL_ENTRY * kernels + _PER_STAGE * len(operands)
        self._whole = {id(operand): _Cost.of(operand) for operand in operands}
        self._leaving = composition.leaving
        ending = {id(operand) for chain in self._leaving for operand in chain}
        self._elsewhere = _Cost.total([cost for key, cost in self._whole.items() if key not in ending])
        self._through = lru_cache(None)(self._cost_through)

    def most(self, window):
        """How many rows a sweep through a window of the target carries at most."""
        return rows_in(self._through(window).widest)

    def cost(self, group):
        """Work of all rows, and of as many sweeps as they take."""
        count = len(group.rows)
        return count * self._through(group.window).work + self._once * math.ceil(count / self.most(group.window))

    def _cost_through(self, window):
        costs = [self._elsewhere]
        for operands in self._leaving:
            below, steps = (operands, []) if window is None else reached(operands, window)
            costs += [self._whole[id(operand)] for operand in below]
            costs += [self._whole[id(operand)].within(operand, *windows) for operand, *windows in steps]
        return _Cost.total(costs)


class _Cost(NamedTuple):
    """Multiply-adds of a row, and entries of the widest signal on its way."""

    work: float
    widest: float

    @classmethod
    def of(cls, operand):
        """The cost of all of an operand."""
        return cls(operand.work, max(entries(operand.x), entries(operand.out)))

    @classmethod
    def total(cls, costs):
        """The cost of one after the other."""
        return cls(sum(cost.work for cost in costs), max((cost.widest for cost in costs), default=0))

    def within(self, operand, outer, inner):
        """The cost of what lies in a window of the output and one of the input."""
        out, x = _share(outer, operand.out_shape), _share(inner, operand.in_shape)
        return _Cost(self.work * out, max(entries(operand.x) * x, entries(operand.out) * out))


def _share(window, shape):
    """Which part of the positions of a sample (*space, channels) lies in a window."""
    return math.prod(window.sizes) / math.prod(shape[:-1])
