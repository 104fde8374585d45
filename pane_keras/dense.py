"""All coefficients of a pair: which way they are computed, in blocks of rows, and how they are put together."""

import math
from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.block import Block
from pane_keras.maps import ExcitationMap, axes_of, map_of
from pane_keras.planner import MIDDLE, SOURCE, plans
from pane_keras.portions import in_blocks, portions, rows_at_a_time
from pane_keras.scaled import BITS, ZERO_EXPONENT, Scaled, normalized
from pane_keras.selection import UnitRows
from pane_keras.types import Tensor


class DenseExcitation(ExcitationMap):
    """All coefficients of a pair: (batch, *target shape, *source shape). Unpacks to (positive, negative).

    The scales are (batch, *target shape): one for each unit of the target.
    """

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.positive, self.negative))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes: the sample, those of the target, those of the source."""
        target = len(self.log2_scale.shape) - 1
        ends = ("target", target), ("source", len(self.sum.shape) - 1 - target)
        return ("sample", *(f"{end} {name}" for end, rank in ends for name in axes_of(rank)))


class DensePair:
    """How the dense block of a pair is computed, the cheapest way first.

    Args:
        compose: Function (source slot, target slot) -> `Composition`.
        source, target: Slots.
        signal: Function slot -> tensor (batch, *shape).
        plan: A `Plan` to follow; by default the cheapest.
    """

    def __init__(self, compose, source, target, signal, plan=None):
        self._compose, self._ends, self._signal = compose, (source, target), signal
        self.columns, self.rows = (math.prod(signal(slot).shape[1:]) for slot in (source, target))
        self.plans = plans(compose(source, target), self.rows, self.columns, self._width)
        self.plan = plan or self.plans[0]
        self._lower, self._columns = None, {}

    def block(self):
        """Returns the whole block, rows of the target over the source."""
        if self.plan.start == SOURCE:
            return self.row_block(range(self.rows))
        return joined([self.row_block(rows) for rows in in_blocks(self.rows, self._rows_at_a_time())])

    def stripes(self, max_bytes):
        """Returns the ranges of rows to compute at a time, of no more than `max_bytes` unless one row is more.

        From the source every block sweeps all columns, so its blocks are as large as that allows.
        """
        size = self._rows_within(max_bytes)
        return in_blocks(self.rows, size if self.plan.start == SOURCE else min(size, self._rows_at_a_time()))

    def keep_within(self, max_bytes):
        """Takes the plan that is cheapest when no more than `max_bytes` are computed at a time."""
        possible = [plan for plan in self.plans if self._kept_bytes(plan) <= max_bytes]
        self.plan = min(possible, key=lambda plan: plan.cost * self._sweeps(plan, max_bytes))

    def row_block(self, rows):
        """Returns the rows of some units of the target, a range of flat indices, over the source."""
        source, target = self._ends
        if self.plan.start == SOURCE:
            return self._from_source(rows)
        if self.plan.start != MIDDLE:
            return pulled(self._compose(source, target), self._signal(target), rows)
        middle = self.plan.slot
        upper = self._half(middle, target, rows)
        if self._lower is None:
            self._lower = self._half(source, middle, range(self._width(middle)))
        return product(upper, self._lower, self._signal(middle), self._signal(source))

    def _from_source(self, rows):
        """A column has one scale for all units of the target, so a unit far below its neighbours is lost in it."""
        source, target = self._ends
        composition = self._compose(source, target)
        columns = pushed(composition, self._signal(source), range(self.columns), rows)
        block = transposed(columns, backend.dims(self._signal(source)))
        lost = lost_rows(block, composition.alive(rows))
        if not lost.size:
            return block
        again = pulled(composition, self._signal(target), np.array(rows)[lost])
        order = np.arange(len(rows))
        order[lost] = len(rows) + np.arange(lost.size)
        return chosen_rows(joined([block, again]), order)

    def _rows_at_a_time(self):
        return rows_at_a_time(self._compose(*self._ends))

    def _half(self, source, target, rows):
        """Some rows of `target` over `source`, from the side with fewer rows."""
        composition = self._compose(source, target)
        if self._width(source) < self._width(target):
            return chosen_rows(self._from_columns(composition, source, target), rows)
        return pulled(composition, self._signal(target), rows)

    def _from_columns(self, composition, source, target):
        if (source, target) not in self._columns:
            columns = pushed(composition, self._signal(source), range(self._width(source)))
            self._columns[source, target] = transposed(columns, backend.dims(self._signal(source)))
        return self._columns[source, target]

    def _width(self, slot):
        return math.prod(self._signal(slot).shape[1:])

    def _sweeps(self, plan, max_bytes):
        return -(-self.rows // self._rows_within(max_bytes)) if plan.start == SOURCE else 1

    def _rows_within(self, max_bytes):
        return max(1, int(max_bytes // (self._bytes(1) * self.columns)))

    def _kept_bytes(self, plan):
        """What a plan holds from block to block: a layer in the middle over the source, and what came from columns."""
        if plan.slot is None:
            return 0
        width = self._width(plan.slot)
        below, above = self.columns * (2 if self.columns < width else 1), self.rows if width < self.rows else 0
        return self._bytes(width) * (below + above)

    def _bytes(self, count):
        """Size of so many coefficients of every sample, in both channels."""
        signal = self._signal(self._ends[0])
        itemsize = np.dtype(keras.backend.standardize_dtype(signal.dtype)).itemsize
        return 2 * count * backend.static_size(signal.shape[0]) * itemsize


def pulled(composition, target, rows):
    """Returns rows of units of the target, (batch, *shape), swept down to the one source."""
    parts = [composition.pull(*UnitRows(np.array(part), target).closing()) for part in _parts(rows, composition)]
    return joined([part[composition.sources[0]] for part in parts])


def pushed(composition, source, columns, units=None):
    """Returns rows of units of the source, swept up to the target; there, over a range of flat `units` or over all."""
    parts = (composition.push(*UnitRows(np.array(part), source).closing()) for part in _parts(columns, composition))
    return joined([part if units is None else part.each(lambda t: _restricted(t, units)) for part in parts])


def joined(blocks):
    """Returns blocks of rows, one after the other, as one block."""
    if len(blocks) == 1:
        return blocks[0]
    s = _concatenated([b.sum for b in blocks])
    return Block(s, _concatenated([b.difference for b in blocks])) if any(b.split for b in blocks) else Block(s, s)


def transposed(block, shape):
    """Turns rows of a source over a target into rows of the target over the source, with a scale a row.

    Args:
        block: One row for each unit of the source.
        shape: Shape of the source, (batch, ...).
    """
    return block.each(lambda t: _transposed_rows(normalized(t), shape))


def lost_rows(block, alive):
    """Returns the numbers of rows, an array, that are zero in a sample where one can be lost, as the host can see.

    Args:
        block: The rows.
        alive: Boolean tensor (rows * batch,).
    """
    if backend.is_symbolic(block.sum.mantissa):
        return np.zeros(0, int)
    peaks = [np.reshape(backend.peak(t.mantissa), (-1,)) for t in (block.sum, block.difference)]
    lost = (np.minimum(*peaks) == 0) & np.asarray(alive)
    return np.flatnonzero(lost.reshape(block.rows, -1).any(axis=1))


def chosen_rows(block, rows):
    """Returns some of the rows of a block, by a range or an array of their numbers."""
    return block.each(lambda t: _chosen(t, rows))


def product(upper, lower, middle, source):
    """Returns rows over `source`: rows over `middle` times the rows of all its units, channel by channel."""
    s = _product(upper.sum, lower.sum, middle, source)
    if not (upper.split or lower.split):
        return Block(s, s)
    return Block(s, _product(upper.difference, lower.difference, middle, source))


def folded(block, target, source, **words):
    """Returns the `DenseExcitation` of a block with one row for each unit of the target."""
    flat = map_of(block, True, signal=source, **words)
    batch, target_shape, source_shape = backend.dims(flat.sum)[0], target.shape[1:], source.shape[1:]
    parts = [ops.reshape(t, (batch, *target_shape, *source_shape)) for t in (flat.positive, flat.negative, flat.sum)]
    scales = [ops.reshape(t, (batch, *target_shape)) for t in (flat.log2_scale, flat.sum_log2_scale)]
    return DenseExcitation(*parts, *scales, flat.signal, flat.over, flat.of)


def _parts(indices, composition):
    return [indices[part.start : part.stop] for part in portions(len(indices), composition)]


def _restricted(t, units):
    flat = ops.reshape(t.mantissa, (-1, math.prod(backend.dims(t.mantissa)[1:])))
    return replace(t, lazy=flat[:, units.start : units.stop], units=None)


def _concatenated(parts):
    parts = [normalized(p) for p in parts]
    mantissa, exponent = (ops.concatenate(ts, axis=0) for ts in zip(*((p.mantissa, p.exponent) for p in parts)))
    return Scaled(mantissa, sum(p.rows for p in parts), exponent)


def _transposed_rows(t, shape):
    """Aligns what every row of the source says of one unit of the target at that unit's own largest entry."""
    units, (batch, *rest), width = t.rows, shape, math.prod(t.mantissa.shape[1:])
    exponent = ops.reshape(t.exponent, (units, batch, 1))
    mantissa = ops.reshape(t.mantissa, (units, batch, width))
    values, top = _aligned(mantissa, exponent, axis=0)
    rows = ops.reshape(ops.transpose(values, (2, 1, 0)), (-1, *rest))
    return Scaled(rows, width, ops.reshape(ops.transpose(top), (-1,)), growth=BITS)


def _aligned(mantissa, exponent, axis):
    """Returns (values, top): mantissas at the exponent of the largest magnitude along an axis, which `top` lacks."""
    power = backend.binade(ops.abs(mantissa))
    own = ops.where(power > 0, exponent + backend.log2(power), ZERO_EXPONENT)
    top = ops.max(own, axis=axis, keepdims=True)
    return mantissa * backend.power_of_two(exponent - top, mantissa.dtype), ops.squeeze(top, axis=axis)


def _chosen(t, rows):
    t = normalized(t)
    _, *shape = backend.dims(t.mantissa)
    mantissa = ops.take(ops.reshape(t.mantissa, (t.rows, -1, *shape)), np.array(rows), axis=0)
    exponent = ops.take(ops.reshape(t.exponent, (t.rows, -1)), np.array(rows), axis=0)
    return Scaled(ops.reshape(mantissa, (-1, *shape)), len(rows), ops.reshape(exponent, (-1,)))


def _product(upper, lower, middle, source):
    """Folds the exponents of the lower rows into the columns of the upper ones, then multiplies the matrices."""
    upper, lower = normalized(upper), normalized(lower)
    batch, units = backend.dims(middle)[0], lower.rows
    a = ops.reshape(upper.mantissa, (upper.rows, batch, units))
    values, top = _aligned(a, ops.transpose(ops.reshape(lower.exponent, (units, batch)))[None], axis=2)
    b = ops.reshape(lower.mantissa, (units, batch, -1))
    rows = ops.reshape(ops.einsum("tbm,mbs->tbs", values, b), (-1, *source.shape[1:]))
    exponent = ops.maximum(upper.exponent + ops.reshape(top, (-1,)), ZERO_EXPONENT)
    return Scaled(rows, upper.rows, exponent, growth=BITS)
