"""Rows of excitation on one leg of the network: what is pulled from a target or pushed from a source."""

import math
from typing import NamedTuple

from keras import ops

from pane_keras import backend
from pane_keras.scaled import BITS, Scaled, add, normalized


class Block(NamedTuple):
    """The sum and the difference channel of rows on one leg.

    The pair of positive and negative, (P, N), is carried as S = P + N and D = P - N, in which composition has no
    cross terms. As long as nothing has told positive from negative, both channels are the same object.

    Attributes:
        sum: `Scaled` with mantissa (rows * batch, *shape).
        difference: `Scaled` of the same shape.
    """

    sum: Scaled
    difference: Scaled

    @property
    def split(self):
        """Whether the two channels differ."""
        return self.sum is not self.difference

    @property
    def rows(self):
        """Number of rows."""
        return self.sum.rows

    @property
    def shape(self):
        """Sizes of the legs (channel, batch, row, unit), as opt_einsum reads them."""
        n, *rest = map(backend.static_size, self.sum.lazy.shape)
        return 2, max(n // self.rows, 1), self.rows, math.prod(rest)

    def each(self, on_sum, on_difference=None):
        """Returns the block with `on_sum` applied to S and `on_difference` (default: the same) to D."""
        s = on_sum(self.sum)
        if on_difference is None and not self.split:
            return Block(s, s)
        return Block(s, (on_difference or on_sum)(self.difference))


def closing(weights, room=BITS, units=None):
    """Returns the block that closes a leg with `weights`, a tensor (rows, batch, *shape).

    Its rows are normalised before they may have changed by more than `room` bits. Where each of them selects one unit
    with a weight of 1, `units` are their flat indices, (rows,).

    A unit excites itself positively, so P = weights, N = 0 and S = D = weights. Weights on several units are the
    linear combination of the units' rows.
    """
    rows, batch, *shape = backend.dims(weights)
    units = None if units is None else ops.repeat(ops.convert_to_tensor(units), batch)
    # One weight of 1 is as large as normalised rows are.
    growth = BITS if units is None else 0
    start = Scaled(ops.reshape(weights, (-1, *shape)), rows, growth=growth, room=room, units=units)
    return Block(start, start)


def accumulate(blocks):
    """Returns the sum of blocks that meet at a junction of the graph, aligned channel by channel."""
    if len(blocks) == 1:
        return blocks[0]
    s = add([b.sum for b in blocks])
    if not any(b.split for b in blocks):
        return Block(s, s)
    return Block(s, add([b.difference for b in blocks]))


def fork(block):
    """Returns a block that several chains start from, normalised, so that they need not do it each for itself.

    What comes back together with the same scales is added up as it is.
    """
    return block.each(normalized)


def in_range(block, alive):
    """Returns whether rows are finite, and not zero where something should be left, as far as the host can see.

    Args:
        block: The rows.
        alive: Boolean tensor (rows * batch,): rows that are not zero from their first stage on.
    """
    channels = [block.sum, block.difference] if block.split else [block.sum]
    if any(backend.is_symbolic(t.mantissa) for t in channels):
        return True
    peaks = [ops.reshape(t.peak, (-1,)) for t in channels]
    return all(bool(ops.all(ops.isfinite(peak) & ((peak > 0) | ~alive))) for peak in peaks)
