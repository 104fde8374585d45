"""Operands with one term for each output, element by element or selected: E- = 0 and S = D."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.factors import Factor, axes_of, kronecker, spread
from pane_keras.operand import Operand
from pane_keras.scaled import BITS, with_room


@dataclass(frozen=True, kw_only=True)
class SingleOperand(Operand):
    """One term for each output: the sign of a sum of one term is that term's sign, so E- = 0 and S = D.

    Attributes:
        binary: Every coefficient is 0 or 1, so a row of one unit stays as large as it is, or is gone.
    """

    single: bool = True
    binary: bool = False

    def pull(self, block):
        pull, mask = self._puller(), self._shared_mask(block)
        return self._on(block, lambda t, masked: mask(pull(t, block.rows), masked))

    def push(self, block):
        push, mask = self._pusher(), self._shared_mask(block)
        return self._on(block, lambda t, masked: push(mask(t, masked), block.rows))

    def _shared_mask(self, block):
        if not (self.masks_sum or self.masks_difference):
            return lambda t, masked: t
        mask = backend.nonzero_mask(self.x, block.rows)
        return lambda t, masked: mask(t) if masked else t

    def _on(self, block, function):
        def channel(masked):
            return lambda t: self._stepped(t, lambda lazy: function(lazy, masked))

        return block.each(channel(self.masks_sum), channel(self.masks_difference) if block.split else None)

    def _stepped(self, t, function):
        t = with_room(t, self.gain)
        # A row of one unit starts normalised, and a slope may be tiny: before the next stage it is normalised again.
        gain = self.gain if t.units is None or self.binary else BITS
        return t.grown(function(t.lazy), gain, t.units if self.keeps_units else None)

    @abstractmethod
    def _puller(self):
        """Returns the function (t on `out`, rows) -> t on `in`, with what both channels share computed once."""

    @abstractmethod
    def _pusher(self):
        """Returns the function (t on `in`, rows) -> t on `out`."""


@dataclass(frozen=True, kw_only=True)
class ElementwiseOperand(SingleOperand):
    """y = c x, element by element; an input that was broadcast sums over what it was broadcast along.

    Attributes:
        multiplier: Function without arguments that returns the function (t, rows) -> t times c.
        by_channel: c itself as a tensor (channels,), where it is one number for each channel, the last axis, in every
            sample; else None.
    """

    multiplier: Callable
    by_channel: object = None

    @property
    def keeps_units(self):
        return self.in_shape == self.out_shape

    def reach(self, window):
        return window if self.in_shape == self.out_shape else None

    def within(self, window):
        return self._part(window.cut)

    @property
    def channels(self):
        return "own" if self.in_shape == self.out_shape and self.in_shape else None

    def of_channels(self, below, above):
        return self if below is None else self._part(lambda t: backend.take_channels(t, below))

    def as_mask(self):
        """Returns the operand with c = 1: what is left when a neighbour takes c over."""
        return replace(self, multiplier=lambda: lambda t, rows: t, by_channel=None, gain=0)

    def factors(self, difference=False):
        shift = len(self.out_shape) - len(self.in_shape)
        axes = ("b", *axes_of("out", len(self.out_shape)))
        coefficient = Factor("coefficient", axes, lambda: np.asarray(self.multiplier()(ops.ones_like(self.out), 1)))
        through = [
            kronecker(j + shift, j, size) if size == self.out_shape[j + shift] else spread(j + shift, j, self.out_shape)
            for j, size in enumerate(self.in_shape)
        ]
        return [coefficient, *through, self._zero_factor()]

    def _part(self, part):
        """The operand of a part of its entries."""
        coefficient = part(self.multiplier()(ops.ones_like(self.x), 1))
        multiplier = lambda: lambda t, rows: backend.multiply_rows(t, coefficient, rows)  # noqa: E731
        return replace(self, x=part(self.x), out=part(self.out), multiplier=multiplier, by_channel=None)

    def _puller(self):
        multiply = self.multiplier()
        return lambda t, rows: unbroadcast(multiply(t, rows), self.in_shape)

    def _pusher(self):
        multiply = self.multiplier()
        return lambda t, rows: multiply(broadcast(t, self.out_shape), rows)


@dataclass(frozen=True, kw_only=True)
class SelectionOperand(SingleOperand):
    """y_i = x_k(i): 1 at the selected element.

    Attributes:
        index: Function without arguments that returns k, an int64 tensor (batch, *out) into the flat sample of x.
        stencil: The `Stencil` that the selected elements lie in, or None.
        channels: "own" where every channel, the last axis, selects from itself.
        transpose: Function without arguments that returns the transpose for one row a sample, faster than the index,
            or None.
    """

    index: Callable
    stencil: object = None
    channels: str | None = None
    transpose: Callable = lambda: None

    def reach(self, window):
        return None if self.stencil is None else self.stencil.reached(window, self.in_shape[:-1])[0]

    def within(self, window):
        inner = self.reach(window)
        index = lambda: _moved(window.cut(self.index()), self.in_shape, inner)  # noqa: E731
        return self._part(inner.cut(self.x), window.cut(self.out), index)

    def of_channels(self, below, above):
        if below is None:
            return self
        taken, count = lambda t: backend.take_channels(t, below), self.in_shape[-1]
        index = lambda: taken(self.index()) // count * len(below) + np.arange(len(below))  # noqa: E731
        return self._part(taken(self.x), taken(self.out), index)

    def factors(self, difference=False):
        def chosen():
            selected = np.eye(self.shape[3])[np.asarray(self._flat_index())]
            return selected.reshape(-1, *self.out_shape, *self.in_shape)

        axes = ("b", *axes_of("out", len(self.out_shape)), *axes_of("in", len(self.in_shape)))
        return [Factor("selection", axes, chosen), self._zero_factor()]

    def _puller(self):
        index, size, shape, direct = self._flat_index(), self.shape[3], backend.dims(self.x)[1:], self.transpose()

        def pull(t, rows):
            t = backend.taken(t)
            if direct and rows == 1:
                return direct(t)
            return ops.reshape(backend.scatter_rows(_flat(t), index, size, rows), (-1, *shape))

        return pull

    def _pusher(self):
        index, shape = self._flat_index(), backend.dims(self.out)[1:]
        return lambda t, rows: ops.reshape(backend.gather_rows(_flat(backend.taken(t)), index, rows), (-1, *shape))

    def _part(self, x, out, index):
        return replace(self, x=x, out=out, index=index, stencil=None, transpose=lambda: None)

    def _flat_index(self):
        return _flat(self.index())


def unbroadcast(t, shape):
    """Returns t (n, *out) summed over the axes along which a sample of `shape` was broadcast."""
    for _ in range(len(t.shape) - 1 - len(shape)):
        t = ops.sum(backend.taken(t), axis=1)
    axes = [i + 1 for i, size in enumerate(shape) if size == 1 and t.shape[i + 1] != 1]
    return ops.sum(backend.taken(t), axis=axes, keepdims=True) if axes else t


def broadcast(t, shape):
    """Returns t (n, *in) broadcast to samples of `shape`."""
    n, *own = backend.dims(t)
    if tuple(own) == tuple(shape):
        return t
    missing = len(shape) - len(own)
    return ops.broadcast_to(ops.reshape(backend.taken(t), (n, *[1] * missing, *own)), (n, *shape))


def _moved(index, shape, window):
    """Flat indices into samples of `shape` as flat indices into the part of them in a window."""
    rest, channel = index // shape[-1], index % shape[-1]
    moved, stride = channel, shape[-1]
    for size, start, inner in reversed(list(zip(shape[:-1], window.start, window.sizes))):
        moved = moved + (rest % size - start) * stride
        rest, stride = rest // size, stride * inner
    return moved


def _flat(t):
    return ops.reshape(t, (-1, math.prod(backend.dims(t)[1:])))
