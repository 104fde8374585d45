"""A layer's local excitation as one symbolic operand of the tensor network.

Notation, fixed here for the whole library. For one sample, a layer linearised at its input x reads
`o' = o - b = W x`. Its operand has the legs

    s    the channel: sum (S) or difference (D). Never summed: a hyper-index
    b    the batch: every sample has its own operand. Never summed either
    out  the units of o', in   the units of x

and holds, without ever forming them,

    S = W [x != 0]          D = sign(o') |W| sign(x)

To pull is to contract a block of rows with the leg `out` (rows W), to push is to contract it with the leg `in`
(W rows). Both keep the rows' power-of-two scales.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from keras import ops

from pane_keras import backend
from pane_keras.scaled import with_room


@dataclass(frozen=True, kw_only=True)
class Operand(ABC):
    """One excitation from an input to the output of one stage of a layer.

    Attributes:
        name: Layer that it belongs to.
        kind: Word for people, such as "convolution".
        x: Tensor (batch, *in): the signal that the coefficients multiply.
        out: Tensor (batch, *out): o', the output without its bias.
        single: Every output has one term, or terms of one sign, so E- = 0 and S = D.
        masks_sum, masks_difference: Whether a zero of x must be masked here; False where a neighbour's coefficient
            is known to be zero there already.
        gain: Bits by which the coefficients may change the size of rows; 0 for averages, copies and slopes near 1.
        factors: Function that returns the elementary tensors of the operand, or None.
    """

    name: str
    kind: str
    x: object
    out: object
    single: bool = False
    masks_sum: bool = True
    masks_difference: bool = True
    gain: int = 0
    factors: Callable | None = field(default=None, repr=False)

    @property
    def in_shape(self):
        """Shape of one sample of the input."""
        return tuple(self.x.shape[1:])

    @property
    def out_shape(self):
        """Shape of one sample of the output."""
        return tuple(self.out.shape[1:])

    @property
    def shape(self):
        """Sizes of the legs (channel, batch, out, in), as opt_einsum reads them."""
        sizes = [math.prod(map(backend.static_size, shape)) for shape in (self.out_shape, self.in_shape)]
        return 2, backend.static_size(self.x.shape[0]), *sizes

    def without_masks(self, of_sum, of_difference):
        """Returns the operand with the masks left out that a neighbour's zeros make redundant."""
        return replace(
            self,
            masks_sum=self.masks_sum and not of_sum,
            masks_difference=self.masks_difference and not of_difference,
        )

    @abstractmethod
    def pull(self, block):
        """Returns the block on the leg `in` for a block on the leg `out`."""

    @abstractmethod
    def push(self, block):
        """Returns the block on the leg `out` for a block on the leg `in`."""

    def _mask(self, t, wanted, rows):
        return backend.nonzero_mask(self.x, rows)(t) if wanted else t


@dataclass(frozen=True, kw_only=True)
class LinearOperand(Operand):
    """A linear map with known coefficients; the transpose is native or derived.

    Attributes:
        forward: Function (x, kernel) -> o', linear in both.
        transpose: Function (rows, kernel, shape of x) -> rows, or None: derived.
        kernel: Tensor, or None for fixed coefficients that are not negative (|w| = w).
        magnitude: Function kernel -> |kernel|.
        nonnegative: x is known not to be negative, so sign(x) = [x != 0].
    """

    forward: Callable
    transpose: Callable | None = None
    kernel: object = None
    magnitude: Callable = ops.abs
    nonnegative: bool = False

    def pull(self, block):
        return block.each(self._pull_sum, None if self.single and not block.split else self._pull_difference)

    def push(self, block):
        return block.each(self._push_sum, None if self.single and not block.split else self._push_difference)

    def _pull_sum(self, t, masked=None):
        masked = self.masks_sum if masked is None else masked
        t = with_room(t, self.gain)
        return t.grown(self._mask(self._transposed(t.mantissa, self.kernel), masked, t.rows), self.gain)

    def _pull_difference(self, t):
        if self.single:
            return self._pull_sum(t, self.masks_difference)
        t = with_room(t, self.gain)
        flipped = backend.flip_signs(t.mantissa, self.out, t.rows)
        return t.grown(self._input_signs(self._transposed(flipped, self._magnitude()), t.rows), self.gain)

    def _push_sum(self, t, masked=None):
        masked = self.masks_sum if masked is None else masked
        t = with_room(t, self.gain)
        return t.grown(self._pushed(self._mask(t.mantissa, masked, t.rows), self.kernel), self.gain)

    def _push_difference(self, t):
        if self.single:
            return self._push_sum(t, self.masks_difference)
        t = with_room(t, self.gain)
        pushed = self._pushed(self._input_signs(t.mantissa, t.rows), self._magnitude())
        return t.grown(backend.flip_signs(pushed, self.out, t.rows), self.gain)

    def _magnitude(self):
        return None if self.kernel is None else self.magnitude(self.kernel)

    def _input_signs(self, t, rows):
        if not self.nonnegative:
            return backend.flip_signs(t, self.x, rows)
        return backend.keep_positive(t, self.x, rows) if self.masks_difference else t

    def _pushed(self, t, kernel):
        return backend.with_sample_shape(self.forward(t, kernel), self.out_shape)

    def _transposed(self, t, kernel):
        shape = (backend.dims(t)[0], *backend.dims(self.x)[1:])
        transpose = self.transpose or self._derived_transpose
        return backend.with_sample_shape(transpose(t, kernel, shape), self.in_shape)

    def _derived_transpose(self, t, kernel, shape):
        return backend.transpose_linear(lambda x: self.forward(x, kernel), t, shape)


@dataclass(frozen=True, kw_only=True)
class SingleOperand(Operand):
    """One term for each output: the sign of a sum of one term is that term's sign, so E- = 0 and S = D."""

    single: bool = True

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
            return lambda t: self._stepped(t, lambda mantissa: function(mantissa, masked))

        return block.each(channel(self.masks_sum), channel(self.masks_difference) if block.split else None)

    def _stepped(self, t, function):
        t = with_room(t, self.gain)
        return t.grown(function(t.mantissa), self.gain)

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
    """

    multiplier: Callable

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
    """

    index: Callable

    def _puller(self):
        index, size, shape = self._flat_index(), self.shape[3], backend.dims(self.x)[1:]
        return lambda t, rows: ops.reshape(backend.scatter_rows(_flat(t), index, size, rows), (-1, *shape))

    def _pusher(self):
        index, shape = self._flat_index(), backend.dims(self.out)[1:]
        return lambda t, rows: ops.reshape(backend.gather_rows(_flat(t), index, rows), (-1, *shape))

    def _flat_index(self):
        return _flat(self.index())


def unbroadcast(t, shape):
    """Returns t (n, *out) summed over the axes along which a sample of `shape` was broadcast."""
    for _ in range(len(t.shape) - 1 - len(shape)):
        t = ops.sum(t, axis=1)
    axes = [i + 1 for i, size in enumerate(shape) if size == 1 and t.shape[i + 1] != 1]
    return ops.sum(t, axis=axes, keepdims=True) if axes else t


def broadcast(t, shape):
    """Returns t (n, *in) broadcast to samples of `shape`."""
    n, *own = backend.dims(t)
    if tuple(own) == tuple(shape):
        return t
    missing = len(shape) - len(own)
    return ops.broadcast_to(ops.reshape(t, (n, *[1] * missing, *own)), (n, *shape))


def _flat(t):
    return ops.reshape(t, (-1, math.prod(backend.dims(t)[1:])))
