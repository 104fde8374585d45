"""`Excitation`: the positive and negative excitation between two layers, asked for as maps, effects or densely."""

import math
from collections.abc import Iterable
from os import PathLike
from typing import Any

import keras
import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.block import closing
from pane_keras.channels import ChannelExcitation, channel_excitation
from pane_keras.composition import composed
from pane_keras.dense import DenseExcitation, DensePair, folded
from pane_keras.dense_files import stream_dense
from pane_keras.display.pairs import pair_html
from pane_keras.errors import DenseSizeError, NoPathError
from pane_keras.expression import Expression
from pane_keras.maps import ExcitationMap, PartOfMaps, joined_maps
from pane_keras.neighbours import in_groups
from pane_keras.plain_network import segments_of
from pane_keras.portions import portions
from pane_keras.reusable import REUSABLE
from pane_keras.selection import Selection, UnitRows, closing_of, units_text
from pane_keras.sizes import size
from pane_keras.types import Tensor

SHARE_OF_MEMORY = 0.25
"""Share of the free memory that a dense result may take unless `max_bytes` says otherwise."""


class Excitation:
    """Everything that one layer excites in another, over all paths of the graph. Made by `Trace.between`.

    Args:
        record: What the forward pass recorded.
        source, target: Slots.
        names: (source, target), as the user calls them.
        edges: Function without arguments that returns the excitations to compose; by default all of the record.
        joined: Whether a path has to lead from the source to the target; if not, its coefficients are zero.
        locate: Function layer name -> slot, for `split_below`.

    Attributes:
        source, target: Names of the two layers.
        source_shape, target_shape: Shapes of one sample of their outputs.

    Raises:
        NoPathError: No excitation leads from the source to the target.
    """

    def __init__(self, record, source, target, names, edges=None, joined=True, locate=None):
        self._record, self._locate, self._edges = record, locate, edges
        self.source, self.target = names
        self.source_shape, self.target_shape = (tuple(record.signal(end).shape[1:]) for end in (source, target))
        self._ends = source, target
        if joined and not self.composition().connected:
            raise NoPathError(
                f"No path leads from {self.source!r} to {self.target!r}: nothing that {self.source!r} emits excites "
                f"{self.target!r}. Swap the two, or choose a source that {self.target!r} depends on."
            )

    @property
    def record(self):
        """What the forward pass recorded."""
        return self._record

    @property
    def signal(self) -> Tensor:
        """Output of the source, (batch, *shape)."""
        return self._record.signal(self._ends[0])

    @property
    def output(self) -> Tensor:
        """Output of the target, (batch, *shape)."""
        return self._record.signal(self._ends[1])

    @backend.as_written
    def map(
        self,
        target: Any = None,
        *,
        weights: Any = None,
        channel: int | Iterable[int] | None = None,
        region: Any = None,
        split_below: str | None = None,
        per_sample: bool = False,
        channel_axis: int = -1,
    ) -> ExcitationMap:
        """Returns what in the source excites units of the target, as an `ExcitationMap` over the source.

        Args:
            target: One unit, a tuple with an index for each axis of the target (or an int, if it has one axis); or
                an iterable of units.
            weights: Instead of units, weights of the target's shape, with or without the batch axis, or a list of
                arrays of weights. The map is the same linear combination of the units' maps.
            channel: Instead, all units of a channel, each with weight 1, or an iterable of channels.
            region: Instead, or within the channel: a boolean array of the target's shape, or of its shape without the
                channel axis; or a list of arrays.
            split_below: Name of a layer at and below which positive is told from negative; above it both carry the
                sum. By default everything is told apart, as in the paper.
            per_sample: Whether a list holds one selection for each sample.
            channel_axis: Which axis of a sample the channels are.

        Returns:
            Maps (batch, *source shape); (batch, n, *source shape) for a list of n selections, from one sweep.

        Raises:
            TargetError: The selection does not fit the target.
            UnknownLayerError: No layer is called `split_below`.
        """
        selection = Selection(target, weights, channel, region, per_sample, channel_axis)
        rows, several = selection.rows(self.output, self.target, "target")
        words = {"signal": self.signal, "over": self.source, "of": self.target + units_text(target, rows.shape[0])}
        return self._maps(True, rows, several, self.source_shape, split_below, words)

    @backend.as_written
    def effect(
        self,
        source: Any = None,
        *,
        weights: Any = None,
        channel: int | Iterable[int] | None = None,
        region: Any = None,
        split_below: str | None = None,
        per_sample: bool = False,
        channel_axis: int = -1,
    ) -> ExcitationMap:
        """Returns what units of the source excite in the target, as an `ExcitationMap` over the target.

        Args:
            source, weights, channel, region: Which units of the source, as in `map`.
            split_below, per_sample, channel_axis: As in `map`.

        Raises:
            TargetError: The selection does not fit the source.
            UnknownLayerError: No layer is called `split_below`.
        """
        selection = Selection(source, weights, channel, region, per_sample, channel_axis)
        rows, several = selection.rows(self.signal, self.source, "source")
        words = {"signal": self.output, "over": self.target, "of": self.source}
        return self._maps(False, rows, several, self.target_shape, split_below, words)

    @backend.as_written
    def channels(
        self, *, contribution: bool = False, source_axis: int = -1, target_axis: int = -1
    ) -> ChannelExcitation:
        """Returns the `ChannelExcitation` of the pair, (batch, target channels, source channels).

        Args:
            contribution: Add up coefficient times signal instead of coefficients.
            source_axis, target_axis: Which axis of a sample the channels are.

        Raises:
            TargetError: A layer has no such axis.
        """
        return channel_excitation(self, contribution, (source_axis, target_axis))

    @backend.as_written
    def dense(
        self, max_bytes: float | None = None, *, out: str | PathLike | None = None, progress: bool = True
    ) -> DenseExcitation:
        """Returns all coefficients of the pair as a `DenseExcitation`, which unpacks to (positive, negative).

        They are computed in blocks of rows from whichever side, or layer in between, is cheapest.

        Args:
            max_bytes: Largest size of the result, or with `out`, of what is computed at a time; by default a quarter
                of the free memory.
            out: A folder that the result is written to, block by block: `positive.npy`, `negative.npy`, `sum.npy`,
                `log2_scale.npy`, `sum_log2_scale.npy`. What is returned lies in these files (`numpy.memmap`). Until it
                is whole the folder is called `<out>.part`; called again with the same pair at the same sample, the
                blocks in it are kept.
            progress: Whether to show a progress bar, with `out`.

        Raises:
            DenseSizeError: The result would be larger.
            SaveError: The folder cannot be written, the disk is too small, or the folder holds another pair.
        """
        if out is not None:
            return stream_dense(self, out, _limit(max_bytes), progress)
        self.refuse_size(max_bytes)
        return self.folded(self.dense_pair().block() if self.composition().connected else self._no_rows())

    def folded(self, block):
        """Returns the `DenseExcitation` of a block with one row for each unit of the target."""
        return folded(block, self.output, self.signal, over=self.source, of=self.target)

    def expression(self) -> Expression:
        """Returns the `Expression` of the pair: einsum, operands, path, FLOPs, largest intermediate of each chain."""
        source, target = self._ends
        segments = lambda: segments_of(self._compose, source, target, self._record.signal)  # noqa: E731
        return Expression(self.composition().chains, self.source, self.target, segments)

    def dense_pair(self, plan=None):
        """Returns the `DensePair` that computes the dense block, by a `Plan` or by the cheapest one."""
        return DensePair(self._compose, *self._ends, self._record.signal, plan)

    def _compose(self, source, target):
        return composed(self._record, (source,), target, self._edges and self._edges())

    def composition(self, split_below=None):
        """Returns the `Composition` of the pair, made once for each `split_below`."""
        source, target = self._ends
        cut = None if split_below is None else self._locate(split_below)
        return composed(self._record, (source,), target, self._edges and self._edges(), cut)

    def pull(self, rows, split_below=None):
        """Returns the block over the source for weights (rows, batch, *shape) on the target; zeros without a path."""
        composition = self.composition(split_below)
        weights, units = closing_of(rows)
        if not composition.connected:
            return _zeros(weights, self.source_shape)
        return composition.pull(weights, units)[self._ends[0]]

    def push(self, rows, split_below=None):
        """Returns the block over the target for weights (rows, batch, *shape) on the source; zeros without a path."""
        composition = self.composition(split_below)
        weights, units = closing_of(rows)
        return composition.push(weights, units) if composition.connected else _zeros(weights, self.target_shape)

    def _pull_within(self, rows, split_below):
        """The block over the source, and the window that it fills, or None for all of it."""
        composition = self.composition(split_below)
        if not composition.connected:
            return self.pull(rows, split_below), None
        return composition.pull_within(*closing_of(rows))

    def _maps(self, pull, rows, several, shape, split_below, words):
        """Many rows are swept a portion at a time: the maps take memory, what is on the way to them does not."""
        self._refuse_maps(rows.shape[0], shape)
        parts = self._portions(pull, rows, split_below)
        numbers = [np.arange(rows.shape[0])[part] if several else None for part in parts]
        found = (self._part(pull, rows[part], own, split_below) for part, own in zip(parts, numbers))
        return joined_maps(found, rows.shape[0], shape, **words)

    def _part(self, pull, rows, numbers, split_below):
        """The `PartOfMaps` of some rows."""
        block, window = self._pull_within(rows, split_below) if pull else (self.push(rows, split_below), None)
        return PartOfMaps(block, numbers, window)

    def _portions(self, pull, rows, split_below):
        """Slices of the rows, or arrays of row numbers where neighbours are swept together."""
        composition = self.composition(split_below)
        if isinstance(rows, UnitRows) and pull and len(rows.flat) > 1:
            return in_groups(rows.flat, self.target_shape, composition)
        return [slice(part.start, part.stop) for part in portions(rows.shape[0], composition)]

    def _refuse_maps(self, count, shape):
        needed, free = self._bytes(count, *shape), backend.device_memory() + REUSABLE.bytes
        if count > 1 and needed > free:
            raise DenseSizeError(
                f"{count} maps of shape {shape} between {self.source!r} and {self.target!r} take {size(needed)}, "
                f"and {size(free)} are free. Ask for fewer at a time, for channels(), or for "
                "dense(out=...), which writes to files."
            )

    def _bytes(self, *shape):
        """Size of positive, negative and sum of such a shape for each sample."""
        itemsize = np.dtype(keras.backend.standardize_dtype(self.signal.dtype)).itemsize
        return 3 * backend.static_size(self.signal.shape[0]) * math.prod(shape) * itemsize

    @property
    def dense_bytes(self):
        """Size of all coefficients of the pair, in bytes."""
        return self._bytes(*self.target_shape, *self.source_shape)

    def refuse_size(self, max_bytes=None):
        """Raises DenseSizeError where the dense result is larger than `max_bytes`, or than its share of free memory."""
        limit, needed = _limit(max_bytes), self.dense_bytes
        shape = (backend.static_size(self.signal.shape[0]), *self.target_shape, *self.source_shape)
        if needed > limit:
            raise DenseSizeError(
                f"The dense pair {self.source!r} -> {self.target!r} has positive, negative and sum of shape {shape}: "
                f"{size(needed)}, over the limit of {size(limit)}. Ask for map(target=...), "
                "effect(source=...) or channels(), write it to files with out=..., or raise max_bytes."
            )

    def _no_rows(self):
        shape = (math.prod(self.target_shape), backend.dims(self.output)[0], *self.source_shape)
        return closing(ops.zeros(shape, self.signal.dtype))

    def __repr__(self):
        return f"Excitation({self.source!r} {self.source_shape} -> {self.target!r} {self.target_shape})"

    def _repr_html_(self):
        return pair_html(self)


def _limit(max_bytes):
    return SHARE_OF_MEMORY * backend.device_memory() if max_bytes is None else max_bytes


def _zeros(rows, shape):
    """What rows become where no path leads."""
    return closing(ops.zeros((*backend.dims(rows)[:2], *shape), rows.dtype))
