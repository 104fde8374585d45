"""Where a network's boxes and junctions stand: a rank from the source down to the target, and a lane beside others."""

import itertools
from typing import NamedTuple


class Place(NamedTuple):
    """A cell of the grid: rank from the top, lane from the left."""

    rank: int
    lane: int


class Layout(NamedTuple):
    """The places of a network.

    Attributes:
        junctions: {key: Place}.
        lines: For each line of the network, the `Place` of its first box; the others stand below it.
    """

    junctions: dict
    lines: tuple


def layout_of(network):
    """Returns the `Layout` of a `Network`: chains side by side have a lane each, and no two things share a cell."""
    ranks = _ranks(network)
    taken, junctions, starts = set(), {}, {}
    for key in network.junctions:
        lanes = [starts[id(line)].lane for line in network.lines if line.end == key]
        junctions[key] = _placed(taken, ranks[key], ranks[key] + 1, min(lanes, default=0))
        leaving = [line for line in network.lines if line.start == key]
        for line in sorted(leaving, key=lambda line: -ranks[line.end]):
            starts[id(line)] = _placed(taken, ranks[key] + 1, ranks[line.end], junctions[key].lane)
    return Layout(junctions, tuple(starts[id(line)] for line in network.lines))


def _ranks(network):
    """The length of the longest way from the source to each junction."""
    ranks = {}
    for key in network.junctions:
        ways = [ranks[line.start] + len(line.boxes) + 1 for line in network.lines if line.end == key]
        ranks[key] = max(ways, default=0)
    return ranks


def _placed(taken, first, last, wanted):
    """The place in the lane that is wanted, or in the leftmost one that is free on all ranks in between."""
    ranks = range(first, last)
    lanes = itertools.chain([wanted], itertools.count())
    lane = next(lane for lane in lanes if not any((rank, lane) in taken for rank in ranks))
    taken.update((rank, lane) for rank in ranks)
    return Place(first, lane)
