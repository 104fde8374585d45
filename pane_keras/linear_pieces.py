"""Pieces of linear stages: known coefficients of any sign, fixed ones that are not negative, sums of several inputs."""

import math

from keras import ops

from pane_keras import backend
from pane_keras.linear_operand import LinearOperand, same
from pane_keras.remembered import Remembered


def linear(
    forward,
    kernel,
    bias=None,
    *,
    transpose=None,
    leaves_out=False,
    magnitude=ops.abs,
    kind="linear",
    elementary=None,
    taps=None,
    rescale=None,
    pick=None,
    local=None,
    kernel_of=None,
):
    """Returns the piece y = W x + b with known coefficients of any sign: S = W [x != 0], D = sign(o') |W| sign(x).

    Args:
        forward: Function (x, kernel) -> W x, linear in both, so that `forward(x, magnitude(kernel))` is |W| x.
        kernel: Tensor of coefficients.
        bias: Tensor that broadcasts to the output, or None.
        transpose: Function (rows, kernel, shape of x) -> W^T rows; derived from `forward` unless given.
        leaves_out: `transpose`, and that of `local`, takes x as a fourth argument: where x is zero for the whole batch,
            what it returns does not count, and zero will do.
        magnitude: Function kernel -> the kernel of |W|.
        kind: Word for people.
        elementary: Function (kernel, in_shape, out_shape) -> factors of W with named axes, for `expression()`, where
            `kernel` is a function that returns it; one dense tensor unless given.
        taps: Multiply-adds for each unit of the output; by default all axes of the kernel but the last.
        rescale: Function (kernel, c) -> the kernel whose outputs, along their last axis, are multiplied by c
            (channels,). With it, a normalization that follows is taken into the kernel where that is faster.
        pick: Function (kernel, units, pull) -> (n, *shape), so that rows that select one unit need no product: with
            `pull` the rows of W of flat units of the output, else the columns of W of flat units of the input.
        local: Function (in_space, out_space, window) -> (forward, transpose, window of the input), channels last.
        kernel_of: Function (kernel, below, above) -> the kernel of some channels of input and output, by their indices.
    """
    shared = _remembered(magnitude, kernel)  # the steps of a recurrence run one piece

    def run(record, slot):
        weights, shift = weights_like(kernel, slot.value), weights_like(bias, slot.value)
        apply = _in_dtype(forward, slot.value)
        linear_part = apply(slot.value, weights)
        value = linear_part if shift is None else backend.step(ops.add, linear_part, shift)
        operand = LinearOperand(
            name=record.name,
            kind=kind,
            x=slot.lazy,
            # With a bias, o' is no value of the model's, and only its signs are kept.
            out=linear_part if shift is None else backend.signs(linear_part),
            forward=apply,
            transpose=transpose,
            leaves_out=leaves_out,
            kernel=weights,
            magnitude=shared if weights is kernel else _remembered(magnitude, weights),
            nonnegative=slot.nonnegative,
            gain=record.gain,
            elementary=elementary,
            taps=_taps(weights) if taps is None else taps,
            rescale=rescale,
            pick=pick,
            local=local,
            kernel_of=kernel_of,
        )
        # Without a bias the value is o', and D carries sign(o').
        output = record.slot(value, blocks_difference=shift is None)
        return record.stage([slot], output, [operand], None if shift is None else lambda: shift)

    return run


def nonnegative(forward, *, transpose=None, copies=False, kind="fixed"):
    """Returns the piece y = W x with fixed coefficients w >= 0, so |W| = W.

    Args:
        forward: Linear function x -> y.
        transpose: Function (rows, shape of x) -> rows; derived from `forward` unless given.
        copies: Every output is one input or a constant zero: E- = 0 and S = D.
        kind: Word for people.
    """
    return nonnegative_sum(lambda x: forward(x), [(forward, transpose)], copies=copies, kind=kind)


def nonnegative_sum(total, parts, *, copies=False, bias=None, kind="fixed", puts_off=False):
    """Returns the piece y = sum of W_k x_k with fixed coefficients w >= 0; the sign of o' is that of the total.

    Args:
        total: Function of all inputs -> y.
        parts: One (forward, transpose) for each input, as in `nonnegative`; `forward` may be None where only the
            transpose differs from an identity.
        copies, kind: As in `nonnegative`.
        bias, puts_off: As in `signed_sum`.
    """
    signed = [(_without_kernel(f), _without_kernel_transposed(t), None) for f, t in parts]
    return signed_sum(total, signed, copies=copies, bias=bias, kind=kind, puts_off=puts_off)


def signed_sum(total, parts, *, copies=False, per_sample=False, bias=None, kind="sum", puts_off=False):
    """Returns the piece y = sum of W_k x_k + b, each part (forward, transpose, kernel) with coefficients of any sign.

    Args:
        total: Function of all inputs -> y.
        parts: One (forward, transpose, kernel) for each input, as in `linear`; a kernel None means w >= 0, fixed.
        copies: Every output is one input or a constant zero: E- = 0 and S = D.
        per_sample: Every kernel has the batch as its first axis.
        bias: Tensor of the shape of y, of constants among the inputs; None for zero.
        kind: Word for people.
        puts_off: `total` takes steps that are put off, and may return one.
    """

    def run(record, *slots):
        xs = [slot.lazy if puts_off else slot.value for slot in slots]
        value = in_dtype_of(total(*xs), xs[0])
        kernels = [weights_like(kernel, x) for x, (*_, kernel) in zip(xs, parts)]
        plain = all(kernel is None for kernel in kernels) and all(slot.nonnegative for slot in slots)
        operands = [
            LinearOperand(
                name=record.name,
                kind=kind,
                x=x,
                out=value if bias is None or copies else backend.signs(backend.step(ops.subtract, value, bias)),
                forward=_in_dtype(forward, x),
                transpose=transpose,
                kernel=weights,
                magnitude=_remembered(ops.abs, weights),
                per_sample=per_sample,
                taps=kernel.shape[-1] if per_sample else 1,
                nonnegative=slot.nonnegative,
                # With neither a negative coefficient nor a negative input, every term has the sign of the sum.
                single=copies or plain,
            )
            for slot, x, (forward, transpose, kernel), weights in zip(slots, xs, parts, kernels, strict=True)
        ]
        clean = bias is None
        flags = {"blocks_sum": copies or (plain and clean), "blocks_difference": copies or clean}
        output = record.slot(value, nonnegative=plain and clean, **flags)
        return record.stage(slots, output, operands, None if clean else lambda: bias)

    return run


def _remembered(magnitude, kernel):
    return Remembered(lambda: None if kernel is None else magnitude(kernel))


def weights_like(values, x):
    """Returns weights as tensors of the dtype of x."""
    return None if values is None else backend.snapshot(values, x.dtype)


def _taps(kernel):
    return math.prod(kernel.shape[:-1]) if backend.is_tensor(kernel) else 1


def in_dtype_of(value, x):
    return value if value.dtype == x.dtype else ops.cast(value, x.dtype)


def _in_dtype(forward, x):
    """Returns a linear map that keeps the dtype: a layer of half precision rounds what it emits."""
    return lambda rows, kernel: in_dtype_of(forward(rows, kernel), x)


def _without_kernel(forward):
    return lambda x, kernel: forward(x)


def _without_kernel_transposed(transpose):
    return transpose if transpose is same else transpose and (lambda rows, kernel, shape: transpose(rows, shape))
