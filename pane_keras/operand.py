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
from dataclasses import dataclass, replace

import numpy as np

from pane_keras import backend
from pane_keras.factors import Factor, axes_of

# What a pass over memory costs beside a multiply-add of a native kernel, both channels.
_PASSES = 8


@dataclass(frozen=True, kw_only=True)
class Operand(ABC):
    """One excitation from an input to the output of one stage of a layer.

    Attributes:
        name: Layer that it belongs to.
        kind: Word for people, such as "convolution".
        x: Tensor (batch, *in): the signal that the coefficients multiply.
        out: Tensor (batch, *out): o', the output without its bias, or its signs as int8. Either may be a step put off.
        single: Every output has one term, or terms of one sign, so E- = 0 and S = D.
        masks_sum, masks_difference: Whether a zero of x must be masked here; False where a neighbour's coefficient
            is known to be zero there already.
        gain: Bits by which the coefficients may change the size of rows; 0 for averages, copies and slopes near 1.
    """

    name: str
    kind: str
    x: object
    out: object
    single: bool = False
    masks_sum: bool = True
    masks_difference: bool = True
    gain: int = 0

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

    @property
    def work(self):
        """Multiply-adds of one row, of both channels; passes over memory count as so many."""
        return _PASSES * (math.prod(self.in_shape) + math.prod(self.out_shape))

    def reach(self, window):
        """Returns the `Window` of the input that a `Window` of the output depends on, or None where it is not local."""
        del window

    def within(self, window):
        """Returns the operand restricted to a `Window` of the output, and of the input to what that reaches."""
        raise NotImplementedError(f"{self.kind} of layer {self.name!r} is not local")

    @property
    def channels(self):
        """How the last axes of input and output belong together: "own", one to one, "mixed", or None: not known."""
        return None

    def of_channels(self, below, above):
        """Returns the operand restricted to some channels of its input and of its output.

        Args:
            below, above: Indices, or None for all; the same ones where `channels` is "own".
        """
        if below is not None or above is not None:
            raise NotImplementedError(f"{self.kind} of layer {self.name!r} has no channels of its own")
        return self

    @property
    def kernels(self):
        """Tensors of coefficients that belong to the layer rather than to the sample: a list."""
        return []

    @property
    def keeps_units(self):
        """Whether a row with one entry stays one: element by element."""
        return False

    @property
    def picked_work(self):
        """Multiply-adds that a row with one entry is spared, since its coefficients are looked up."""
        return 0

    def without_masks(self, of_sum, of_difference):
        """Returns the operand with the masks left out that a neighbour's zeros make redundant."""
        return replace(
            self,
            masks_sum=self.masks_sum and not of_sum,
            masks_difference=self.masks_difference and not of_difference,
        )

    def as_single(self):
        """Returns the operand with S in both channels: it does not tell positive from negative."""
        return replace(self, single=True, masks_difference=self.masks_sum)

    @abstractmethod
    def pull(self, block):
        """Returns the block on the leg `in` for a block on the leg `out`."""

    @abstractmethod
    def push(self, block):
        """Returns the block on the leg `out` for a block on the leg `in`."""

    @abstractmethod
    def factors(self, difference=False):
        """Returns the elementary tensors of S, or of D: a list of `Factor` with named axes, on the host."""

    def _signal_factor(self, name, function):
        return Factor(name, ("b", *axes_of("in", len(self.in_shape))), lambda: function(np.asarray(self.x)))

    def _zero_factor(self):
        return self._signal_factor("nonzero input", lambda x: (x != 0).astype(x.dtype))

    def _mask(self, t, wanted, rows):
        return backend.nonzero_mask(self.x, rows)(t) if wanted else t
