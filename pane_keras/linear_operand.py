"""Linear maps as operands: S = W [x != 0], D = sign(o') |W| sign(x), by native kernels."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops, tree

from pane_keras import backend
from pane_keras.factors import Factor, axes_of
from pane_keras.operand import Operand
from pane_keras.remembered import Remembered
from pane_keras.scaled import with_room


@dataclass(frozen=True, kw_only=True)
class LinearOperand(Operand):
    """A linear map with known coefficients; the transpose is native or derived.

    Attributes:
        forward: Function (x, kernel) -> o', linear in both.
        transpose: Function (rows, kernel, shape of x) -> rows, or None: derived; `same` where rows stay as they are.
        leaves_out: `transpose` takes x as well, and may leave out what comes where x is zero, since it never counts: it
            is masked here, or a neighbour's coefficient is zero there.
        kernel: Tensor, or None for fixed coefficients that are not negative (|w| = w).
        magnitude: Function without arguments that returns |kernel|.
        nonnegative: x is known not to be negative, so sign(x) = [x != 0].
        elementary: Function (kernel, in_shape, out_shape) -> factors of W, the kernel as a function without arguments;
            or None: one dense tensor.
        per_sample: The kernel has the batch as its first axis.
        taps: Multiply-adds of the kernel for each unit of the output.
        rescale: Function (kernel, c) -> the kernel whose outputs are multiplied by c, a tensor (channels,) along the
            last axis of the output; or None.
        pick: Function (kernel, units, pull) -> the rows of W of some units of the output, or the columns of W of some
            units of the input, (n, *shape); or None.
        local: Function (in_space, out_space, window) -> (forward, transpose, window of the input), the map restricted
            to a `Window` of the output; or None.
        kernel_of: Function (kernel, below, above) -> the kernel of some channels of the input and of the output, the
            last axes of both, given as indices or None for all; or None.
    """

    forward: Callable
    transpose: Callable | None = None
    leaves_out: bool = False
    kernel: object = None
    magnitude: Callable | None = None
    nonnegative: bool = False
    elementary: Callable | None = None
    per_sample: bool = False
    taps: int = 0
    rescale: Callable | None = None
    pick: Callable | None = None
    local: Callable | None = None
    kernel_of: Callable | None = None

    @property
    def work(self):
        return 2 * self.taps * math.prod(self.out_shape) + super().work

    @property
    def kernels(self):
        return [kernel for kernel in tree.flatten(self.kernel) if kernel is not None]

    @property
    def picked_work(self):
        return 0 if self.pick is None else 2 * self.taps * math.prod(self.out_shape)

    def pull(self, block):
        return block.each(self._pull_sum, None if self.single and not block.split else self._pull_difference)

    def push(self, block):
        return block.each(self._push_sum, None if self.single and not block.split else self._push_difference)

    def rescaled(self, c, gain):
        """Returns the operand of diag(c) W: S := c S and D := c D, whose outer sign(o') keeps the sign of o' = W x."""
        rescale, magnitude = self.rescale, self.magnitude
        return replace(
            self,
            kernel=rescale(self.kernel, c),
            magnitude=Remembered(lambda: rescale(magnitude(), c)),
            rescale=None,
            gain=self.gain + gain,
        )

    def reach(self, window):
        return None if self.local is None else self._at(window)[2]

    def within(self, window):
        forward, transpose, inner = self._at(window)
        x, out = inner.cut(self.x), window.cut(self.out)
        return replace(self, x=x, out=out, forward=forward, transpose=transpose, pick=None, local=None)

    @property
    def channels(self):
        return None if self.kernel_of is None else "mixed"

    def of_channels(self, below, above):
        if below is None and above is None:
            return self
        kernel_of, magnitude = self.kernel_of, self.magnitude
        return replace(
            self,
            x=backend.take_channels(self.x, below),
            out=backend.take_channels(self.out, above),
            kernel=kernel_of(self.kernel, below, above),
            magnitude=Remembered(lambda: kernel_of(magnitude(), below, above)),
            taps=self.taps if below is None else self.taps * len(below) // self.in_shape[-1],
            pick=None,
        )

    def apply(self, rows):
        """Returns W rows for rows (rows * batch, *in), without masks."""
        return self._applied(rows, self.kernel)

    def factors(self, difference=False):
        split = difference and not self.single
        kernel = self.magnitude if split else lambda: self.kernel
        elementary = self.elementary or self._dense_factors
        signs = self._sign_factors() if split else [self._zero_factor()]
        return [*elementary(kernel, self.in_shape, self.out_shape), *signs]

    def _at(self, window):
        return self.local(self.in_shape[:-1], self.out_shape[:-1], window)

    def _sign_factors(self):
        out_axes = ("b", *axes_of("out", len(self.out_shape)))
        signs = Factor("sign of o'", out_axes, lambda: np.sign(np.asarray(self.out)))
        return [signs, self._signal_factor("sign of x", np.sign)]

    def _dense_factors(self, kernel, in_shape, out_shape):
        size, batch = math.prod(in_shape), self.x.shape[0] if self.per_sample else 1

        def coefficients():
            units = np.repeat(np.eye(size, dtype=keras.backend.standardize_dtype(self.x.dtype)), batch, axis=0)
            columns = np.asarray(self._applied(ops.convert_to_tensor(units.reshape(-1, *in_shape)), kernel()))
            dense = np.moveaxis(columns.reshape(size, batch, -1), 0, 2).reshape(batch, *out_shape, *in_shape)
            return dense if self.per_sample else dense[0]

        axes = (*axes_of("out", len(out_shape)), *axes_of("in", len(in_shape)))
        return [Factor("coefficients", ("b", *axes) if self.per_sample else axes, coefficients)]

    def _pull_sum(self, t, masked=None):
        masked = self.masks_sum if masked is None else masked
        t = with_room(t, self.gain)
        return t.grown(self._mask(self._transposed(t.lazy, self.kernel, t.units), masked, t.rows), self.gain)

    def _pull_difference(self, t):
        if self.single:
            return self._pull_sum(t, self.masks_difference)
        t = with_room(t, self.gain)
        flipped = backend.flip_signs(t.lazy, self.out, t.rows)
        return t.grown(self._input_signs(self._transposed(flipped, self.magnitude(), t.units), t.rows), self.gain)

    def _push_sum(self, t, masked=None):
        masked = self.masks_sum if masked is None else masked
        t = with_room(t, self.gain)
        return t.grown(self._pushed(self._mask(t.lazy, masked, t.rows), self.kernel, t.units), self.gain)

    def _push_difference(self, t):
        if self.single:
            return self._push_sum(t, self.masks_difference)
        t = with_room(t, self.gain)
        pushed = self._pushed(self._input_signs(t.lazy, t.rows), self.magnitude(), t.units)
        return t.grown(backend.flip_signs(pushed, self.out, t.rows), self.gain)

    def _input_signs(self, t, rows):
        if not self.nonnegative:
            return backend.flip_signs(t, self.x, rows)
        return backend.keep_positive(t, self.x, rows) if self.masks_difference else t

    def _pushed(self, t, kernel, units):
        t, picked = backend.taken(t), units is not None and self.pick is not None
        pushed = self._picked(t, kernel, units, False) if picked else self._applied(t, kernel)
        return backend.with_sample_shape(pushed, self.out_shape)

    def _picked(self, t, kernel, units, pull):
        """The one entry of each row times the coefficients of its unit."""
        flat = ops.reshape(t, (-1, math.prod(backend.dims(t)[1:])))
        entries = ops.take_along_axis(flat, units[:, None], axis=1)
        coefficients = self.pick(kernel, units, pull)
        return coefficients * ops.reshape(entries, (-1, *[1] * (len(coefficients.shape) - 1)))

    def _applied(self, rows, kernel):
        return self.forward(rows, self._for_rows(kernel, rows))

    def _for_rows(self, kernel, rows):
        return backend.repeat_samples(kernel, rows) if self.per_sample else kernel

    def _transposed(self, t, kernel, units):
        if self.transpose is same:
            return t
        t = backend.taken(t)
        if units is not None and self.pick is not None:
            return backend.with_sample_shape(self._picked(t, kernel, units, True), self.in_shape)
        shape = (backend.dims(t)[0], *backend.dims(self.x)[1:])
        transpose = self.transpose or self._derived_transpose
        wanted = (backend.taken(self.x),) if self.leaves_out else ()
        return backend.with_sample_shape(transpose(t, self._for_rows(kernel, t), shape, *wanted), self.in_shape)

    def _derived_transpose(self, t, kernel, shape):
        return backend.transpose_linear(lambda x: self.forward(x, kernel), t, shape)


def same(rows, *_):
    """The identity, and its own transpose: what is put off stays so."""
    return rows
