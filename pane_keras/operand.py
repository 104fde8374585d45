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
from pane_keras.scaled import normalized


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
        factors: Function that returns the elementary tensors of the operand, or None.
    """

    name: str
    kind: str
    x: object
    out: object
    single: bool = False
    masks_sum: bool = True
    masks_difference: bool = True
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

    def _mask(self, rows, wanted):
        return backend.keep_nonzero(rows, self.x) if wanted else rows


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
        t = normalized(t)
        return t.grown(self._mask(self._transposed(t.mantissa, self.kernel), masked), by=2)

    def _pull_difference(self, t):
        if self.single:
            return self._pull_sum(t, self.masks_difference)
        t = normalized(t)
        rows = backend.flip_signs(t.mantissa, self.out)
        return t.grown(self._input_signs(self._transposed(rows, self._magnitude())), by=2)

    def _push_sum(self, t, masked=None):
        masked = self.masks_sum if masked is None else masked
        t = normalized(t)
        return t.grown(self._pushed(self._mask(t.mantissa, masked), self.kernel), by=2)

    def _push_difference(self, t):
        if self.single:
            return self._push_sum(t, self.masks_difference)
        t = normalized(t)
        rows = self._pushed(self._input_signs(t.mantissa), self._magnitude())
        return t.grown(backend.flip_signs(rows, self.out), by=2)

    def _magnitude(self):
        return None if self.kernel is None else self.magnitude(self.kernel)

    def _input_signs(self, rows):
        if not self.nonnegative:
            return backend.flip_signs(rows, self.x)
        return backend.keep_positive(rows, self.x) if self.masks_difference else rows

    def _transposed(self, rows, kernel):
        return _by_row(lambda flat: self._transpose(flat, kernel), rows)

    def _transpose(self, flat, kernel):
        shape = (ops.shape(flat)[0], *ops.shape(self.x)[1:])
        if self.transpose is not None:
            return self.transpose(flat, kernel, shape)
        return backend.transpose_linear(lambda x: self.forward(x, kernel), flat, shape)

    def _pushed(self, rows, kernel):
        return _by_row(lambda flat: self.forward(flat, kernel), rows)


@dataclass(frozen=True, kw_only=True)
class SingleOperand(Operand):
    """One term for each output: the sign of a sum of one term is that term's sign, so E- = 0 and S = D.

    Attributes:
        bounded: The coefficients are of the order of 1, so rows keep their scale.
    """

    single: bool = True
    bounded: bool = False

    def pull(self, block):
        pull = self._puller()
        return self._on(block, lambda rows, mask: self._mask(pull(rows), mask))

    def push(self, block):
        push = self._pusher()
        return self._on(block, lambda rows, mask: push(self._mask(rows, mask)))

    def _on(self, block, function):
        def channel(mask):
            return lambda t: self._grown(t, mask, function)

        return block.each(channel(self.masks_sum), channel(self.masks_difference) if block.split else None)

    def _grown(self, t, mask, function):
        if not self.bounded and t.growth > 2:
            t = normalized(t)
        return t.grown(function(t.mantissa, mask), by=0 if self.bounded else 1)

    @abstractmethod
    def _puller(self):
        """Returns the function rows on `out` -> rows on `in`, with what both channels share computed once."""

    @abstractmethod
    def _pusher(self):
        """Returns the function rows on `in` -> rows on `out`."""


@dataclass(frozen=True, kw_only=True)
class ElementwiseOperand(SingleOperand):
    """y = c x, element by element; an input that was broadcast sums over what it was broadcast along.

    Attributes:
        multiplier: Function without arguments that returns the function rows -> rows times c.
    """

    multiplier: Callable

    def _puller(self):
        multiply = self.multiplier()
        return lambda rows: unbroadcast(multiply(rows), self.in_shape)

    def _pusher(self):
        multiply = self.multiplier()
        return lambda rows: multiply(broadcast(rows, self.out))


@dataclass(frozen=True, kw_only=True)
class SelectionOperand(SingleOperand):
    """y_i = x_k(i): 1 at the selected element.

    Attributes:
        index: Function without arguments that returns k, an int64 tensor (batch, *out) into the flat sample of x.
    """

    index: Callable
    bounded: bool = True

    def _puller(self):
        index = self._flat_index()
        return lambda rows: self._like(backend.scatter_rows(_flat(rows), index, self.shape[3]), self.x)

    def _pusher(self):
        index = self._flat_index()
        return lambda rows: self._like(backend.gather_rows(_flat(rows), index), self.out)

    def _flat_index(self):
        index = self.index()
        return ops.reshape(index, (ops.shape(index)[0], -1))

    @staticmethod
    def _like(rows, tensor):
        return ops.reshape(rows, (*ops.shape(rows)[:2], *ops.shape(tensor)[1:]))


def unbroadcast(rows, shape):
    """Returns rows (rows, batch, *out) summed over the axes along which a sample of `shape` was broadcast."""
    for _ in range(len(rows.shape) - 2 - len(shape)):
        rows = ops.sum(rows, axis=2)
    axes = [i + 2 for i, size in enumerate(shape) if size == 1 and rows.shape[i + 2] != 1]
    return ops.sum(rows, axis=axes, keepdims=True) if axes else rows


def broadcast(rows, like):
    """Returns rows (rows, batch, *in) broadcast to the samples of `like`, (batch, *out)."""
    lead, missing = ops.shape(rows)[:2], len(like.shape) + 1 - len(rows.shape)
    rows = ops.reshape(rows, (*lead, *[1] * missing, *ops.shape(rows)[2:])) if missing else rows
    same = tuple(rows.shape[2:]) == tuple(like.shape[1:])
    return rows if same else ops.broadcast_to(rows, (*lead, *ops.shape(like)[1:]))


def _by_row(function, rows):
    """Applies a function of (n, *shape) to (rows, batch, *shape)."""
    lead = ops.shape(rows)[:2]
    result = function(ops.reshape(rows, (lead[0] * lead[1], *ops.shape(rows)[2:])))
    return ops.reshape(result, (*lead, *ops.shape(result)[1:]))


def _flat(rows):
    return ops.reshape(rows, (*ops.shape(rows)[:2], -1))
