"""`Excitation`: the positive and negative excitation between two layers, asked for as maps, effects or densely."""

import math

import keras
import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.block import Block, closing
from pane_keras.composition import Composition, told_apart
from pane_keras.errors import DenseSizeError, NoPathError, TargetError
from pane_keras.expression import Expression
from pane_keras.maps import ExcitationMap, map_of
from pane_keras.scaled import BITS, ZERO_EXPONENT, Scaled, normalized
from pane_keras.selection import one_hot_rows, unit_rows, weight_rows

_SHARE_OF_MEMORY = 0.25
_ROWS_PER_BLOCK = 256


class Excitation:
    """Everything that one layer excites in another, over all paths of the graph. Made by `Trace.between`.

    Args:
        record: What the forward pass recorded.
        source, target: Slots.
        names: (source, target), as the user calls them.
        edges: The excitations to compose; by default all of the record.
        joined: Whether a path has to lead from the source to the target; if not, its coefficients are zero.
        locate: Function layer name -> slot, for `split_below`.

    Raises:
        NoPathError: No excitation leads from the source to the target.
    """

    def __init__(self, record, source, target, names, edges=None, joined=True, locate=None):
        self._record, self._locate, self._edges = record, locate, edges
        self.source, self.target = names
        self._from, self._to = record.signal(source), record.signal(target)
        self._ends = (source, target)
        self._composition = self._composed(None)
        if joined and not self._composition.connected:
            raise NoPathError(
                f"No path leads from {self.source!r} to {self.target!r}: nothing that {self.source!r} emits excites "
                f"{self.target!r}. Swap the two, or choose a source that {self.target!r} depends on."
            )

    @property
    def source_shape(self):
        """Shape of one sample of the source layer's output."""
        return tuple(self._from.shape[1:])

    @property
    def target_shape(self):
        """Shape of one sample of the target layer's output."""
        return tuple(self._to.shape[1:])

    @backend.as_written
    def map(self, target=None, *, weights=None, split_below=None):
        """Returns what in the source excites units of the target, as an `ExcitationMap` over the source.

        Args:
            target: One unit, a tuple with an index for each axis of the target (or an int, if it has one axis); or
                a list of units.
            weights: Instead of units, weights of the target's shape, with or without the batch axis. The map is the
                same linear combination of the units' maps.
            split_below: Name of a layer at and below which positive is told from negative; above it both carry the
                sum (section 2). By default everything is told apart, as in the paper.

        Returns:
            Maps (batch, *source shape); (batch, n, *source shape) for a list of n units.

        Raises:
            TargetError: The selection does not fit the target.
            UnknownLayerError: No layer is called `split_below`.
        """
        rows, several = _rows(target, weights, self._to, self.target, "target")
        block = self._pull(rows, self._composed(split_below) if split_below else None)
        of = f"{self.target}{'' if target is None else f'[{target}]'}"
        return map_of(block, several, signal=self._from, over=self.source, of=of)

    @backend.as_written
    def effect(self, source=None, *, weights=None, split_below=None):
        """Returns what units of the source excite in the target, as an `ExcitationMap` over the target.

        Args:
            source: One unit or a list of units of the source, as in `map`.
            weights: Instead of units, weights of the source's shape.
            split_below: As in `map`.

        Raises:
            TargetError: The selection does not fit the source.
            UnknownLayerError: No layer is called `split_below`.
        """
        rows, several = _rows(source, weights, self._from, self.source, "source")
        block = self._push(rows, self._composed(split_below) if split_below else None)
        return map_of(block, several, signal=self._to, over=self.target, of=self.source)

    @backend.as_written
    def dense(self, max_bytes=None):
        """Returns all coefficients of the pair as a `DenseExcitation`, which unpacks to (positive, negative).

        Args:
            max_bytes: Largest size of the result; by default a quarter of the free memory.

        Raises:
            DenseSizeError: The result would be larger.
        """
        self._refuse_size(_SHARE_OF_MEMORY * backend.device_memory() if max_bytes is None else max_bytes)
        pull = math.prod(self.target_shape) <= math.prod(self.source_shape)
        block = self._rows_of_target() if pull else _transposed(self._rows_of_source(), self._from, self._to)
        flat = map_of(block, True, signal=self._from, over=self.source, of=self.target)
        return _folded(flat, self.target_shape, self.source_shape)

    def expression(self):
        """Returns the `Expression` of the pair: einsum, operands, path, FLOPs, largest intermediate of each chain."""
        return Expression(self._composition.chains, self.source, self.target)

    def __repr__(self):
        return f"Excitation({self.source!r} {self.source_shape} -> {self.target!r} {self.target_shape})"

    def _composed(self, split_below):
        source, target = self._ends
        told = None if split_below is None else told_apart(self._record, self._locate(split_below))
        return Composition(self._record, (source,), target, self._edges, told)

    def _pull(self, rows, composition=None):
        composition = composition or self._composition
        return composition.pull(rows)[self._ends[0]] if composition.connected else _zero_block(rows, self.source_shape)

    def _push(self, rows, composition=None):
        composition = composition or self._composition
        return composition.push(rows) if composition.connected else _zero_block(rows, self.target_shape)

    def _refuse_size(self, limit):
        batch = backend.static_size(self._from.shape[0])
        units = math.prod(self.target_shape) * math.prod(self.source_shape)
        size = 3 * batch * units * self._itemsize()
        if size > limit:
            raise DenseSizeError(
                f"The dense pair {self.source!r} -> {self.target!r} has positive, negative and sum of shape "
                f"{(batch, *self.target_shape, *self.source_shape)}: {size / 2**30:.3g} GiB, over the limit of "
                f"{limit / 2**30:.3g} GiB. Ask for map(target=...) or effect(source=...), or raise max_bytes."
            )

    def _itemsize(self):
        return np.dtype(keras.backend.standardize_dtype(self._from.dtype)).itemsize

    def _rows_of_target(self):
        return _in_blocks(self._to, self._pull)

    def _rows_of_source(self):
        return _in_blocks(self._from, self._push)


class DenseExcitation(ExcitationMap):
    """All coefficients of a pair: (batch, *target shape, *source shape). Unpacks to (positive, negative).

    The scales are (batch, *target shape): one for each unit of the target.
    """

    def __iter__(self):
        return iter((self.positive, self.negative))


class ExcitationView:
    """E+ or E- of one layer: a lazy view that becomes an array only when asked.

    Args:
        excitation: The layer's own `Excitation`, from one of its inputs to its output.
        part: "positive" or "negative".

    Attributes:
        shape: (batch, *output shape, *input shape).
    """

    def __init__(self, excitation, part):
        self.excitation, self.part = excitation, part
        self.shape = (excitation._from.shape[0], *excitation.target_shape, *excitation.source_shape)

    def dense(self, max_bytes=None):
        """Returns the tensor of coefficients. Raises DenseSizeError over `max_bytes`."""
        return self._values(self.excitation.dense(max_bytes))

    def map(self, target=None, *, weights=None):
        """Returns the tensor (batch, *input shape) of coefficients for units of the output, as `Excitation.map`."""
        return self._values(self.excitation.map(target, weights=weights))

    def _values(self, maps):
        """The coefficients of one layer are numbers of the dtype, so their scale can be multiplied out."""
        values = getattr(maps, self.part)
        factor = backend.power_of_two(maps.log2_scale, values.dtype)
        missing = len(values.shape) - len(factor.shape)
        return values * ops.reshape(factor, (*backend.dims(factor), *[1] * missing))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.dense(), dtype=dtype)

    def __repr__(self):
        return f"ExcitationView({self.part} of {self.excitation.target!r}, shape={self.shape})"


def views(record, sources, target, name, several):
    """Returns (positive, negative) views of a layer; lists with one view an input where it has several."""
    pairs = [
        Excitation(record, source, target, (f"input {k} of {name}", name), _own_edges(record, name, sources, k), False)
        for k, source in enumerate(sources)
    ]
    positive, negative = ([ExcitationView(pair, part) for pair in pairs] for part in ("positive", "negative"))
    return (positive, negative) if several else (positive[0], negative[0])


def _own_edges(record, name, sources, k):
    """The edges of a layer from its k-th input on: not what reaches it around another layer, or as another input."""
    occurrence = sources[:k].count(sources[k])
    edges = []
    for stage in record.stages:
        if stage.name == name:
            from_input = [e for e in stage.edges if e.source == sources[k]]
            edges += [e for e in stage.edges if e not in from_input] + from_input[occurrence : occurrence + 1]
    return edges


def _zero_block(rows, shape):
    """What rows become where no path leads."""
    return closing(ops.zeros((*backend.dims(rows)[:2], *shape), rows.dtype))


def _rows(units, weights, tensor, layer, word):
    if (units is None) == (weights is None):
        raise TargetError(f"Expected either {word}= or weights=, to say which units of {layer!r} are meant.")
    return (weight_rows(weights, tensor, layer), False) if units is None else unit_rows(units, tensor, layer)


def _in_blocks(tensor, query):
    """Runs a query for every unit of a layer, some rows at a time, and returns one block."""
    size = math.prod(tensor.shape[1:])
    blocks = []
    for start in range(0, size, _ROWS_PER_BLOCK):
        blocks.append(query(one_hot_rows(np.arange(start, min(start + _ROWS_PER_BLOCK, size)), tensor)))
    return _joined(blocks)


def _joined(blocks):
    s = _concatenated([b.sum for b in blocks])
    return Block(s, _concatenated([b.difference for b in blocks])) if any(b.split for b in blocks) else Block(s, s)


def _concatenated(parts):
    mantissa, exponent = (ops.concatenate(ts, axis=0) for ts in zip(*((p.mantissa, p.exponent) for p in parts)))
    return Scaled(mantissa, sum(p.rows for p in parts), exponent, growth=BITS)


def _transposed(block, source, target):
    """Turns rows of the source over the target into rows of the target over the source, with a scale a row."""
    return block.each(lambda t: _transposed_rows(normalized(t), source, target))


def _transposed_rows(t, source, target):
    """Aligns what every row of the source says of one unit of the target at that unit's own largest entry."""
    units, batch = t.rows, backend.dims(source)[0]
    exponent = ops.reshape(t.exponent, (units, batch, 1))
    mantissa = ops.reshape(t.mantissa, (units, batch, -1))
    power = backend.binade(ops.abs(mantissa))
    own = ops.where(power > 0, exponent + backend.log2(power), ZERO_EXPONENT)
    top = ops.max(own, axis=0)
    values = mantissa * backend.power_of_two(exponent - top, mantissa.dtype)
    rows = ops.reshape(ops.transpose(values, (2, 1, 0)), (-1, *source.shape[1:]))
    return Scaled(rows, top.shape[1], ops.reshape(ops.transpose(top), (-1,)), growth=BITS)


def _folded(flat, target_shape, source_shape):
    batch = backend.dims(flat.sum)[0]
    parts = [ops.reshape(t, (batch, *target_shape, *source_shape)) for t in (flat.positive, flat.negative, flat.sum)]
    scales = [ops.reshape(t, (batch, *target_shape)) for t in (flat.log2_scale, flat.sum_log2_scale)]
    return DenseExcitation(*parts, *scales, flat.signal, flat.over, flat.of)
