"""What a pair of layers answers about one unit or channel of one sample: the maps, and the strongest channels."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pane_keras.explorer.grid import Grid


class Row(NamedTuple):
    """A channel of the source: its coefficients added up over space, in the units of the answer.

    Attributes:
        channel: Its index; that of the unit where the source is a vector.
        positive, negative, sum: The totals.
    """

    channel: int
    positive: float
    negative: float
    sum: float


@dataclass(frozen=True)
class Answer:
    """The maps of one sample.

    Attributes:
        positive, negative, sum: Arrays of the source's shape, in units of `2**log2_scale` and, for `sum`,
            `2**sum_log2_scale`.
        log2_scale, sum_log2_scale: ints.
        grid: The `Grid` of the source.
    """

    positive: np.ndarray
    negative: np.ndarray
    sum: np.ndarray
    log2_scale: int
    sum_log2_scale: int
    grid: Grid

    @classmethod
    def of(cls, maps, sample, grid):
        """Returns the answer in an `ExcitationMap` about one sample."""
        parts = (np.asarray(part[sample]) for part in (maps.positive, maps.negative, maps.sum))
        scales = (int(scale[sample]) for scale in (maps.log2_scale, maps.sum_log2_scale))
        return cls(*parts, *scales, grid)

    def planes(self, channel=None):
        """Returns POS, NEG and POS+NEG as arrays (rows, columns), of one channel or of all channels summed."""
        return tuple(self.grid.plane(part, channel) for part in (self.positive, self.negative, self.sum))

    def strongest(self, k=5):
        """Returns the channels with the largest sums, k positive ones and k negative ones, as two lists of `Row`."""
        totals = [self.grid.totals(part) for part in (self.positive, self.negative, self.sum)]
        order = np.argsort(totals[2], kind="stable")
        rows = lambda channels: [Row(int(c), *(float(t[c]) for t in totals)) for c in channels]  # noqa: E731
        above = [c for c in order[::-1][:k] if totals[2][c] > 0]
        below = [c for c in order[:k] if totals[2][c] < 0]
        return rows(above), rows(below)

    def strongest_at(self, row, column):
        """Returns the channel with the largest sum, in magnitude, at a place; None where all are zero."""
        sizes = np.abs(self.grid.at(self.sum, row, column))
        return int(np.argmax(sizes)) if sizes.any() else None

    @property
    def is_zero(self):
        """Whether nothing in the source excites or inhibits what is explained."""
        return not (self.positive.any() or self.negative.any() or self.sum.any())
