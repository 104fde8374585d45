"""Softmax and sparsemax inside a model: what normalises them is held fixed."""

from keras import ops

from pane_keras.pieces import affine, elementwise, sequence


def softmax_piece(function, axis):
    """Returns the piece of y = e^x / Z with the normaliser Z and the mean m of the inputs held fixed.

    c = (y - e^m / Z) / (x - m), b = e^m / Z - c m. With u = x - m, c = e^m / Z expm1(u) / u near u = 0 and the
    quotient itself away from it, so nothing cancels and nothing overflows.
    """

    def held(x):
        mean = ops.mean(x, axis=axis, keepdims=True)
        return mean, ops.exp(mean - ops.logsumexp(x, axis=axis, keepdims=True))

    def coefficient(x, y):
        mean, level = held(x)
        u = x - mean
        zero = ops.equal(u, 0)
        divisor = ops.where(zero, ops.ones_like(u), u)
        near = level * ops.where(zero, ops.ones_like(u), ops.expm1(ops.clip(u, -1, 1)) / divisor)
        return ops.where(ops.abs(u) < 1, near, (y - level) / divisor)

    def bias(x, y):
        mean, level = held(x)
        return level - coefficient(x, y) * mean

    return elementwise(function, coefficient, bias=bias, nonnegative=True, bounded=True, head=True, kind="softmax")


def masked_softmax(softmax, mask, x):
    """Returns the piece of a softmax over what a mask keeps: the rest counts as a large negative number, and emits 0.

    Args:
        softmax: The piece of the softmax itself.
        mask: Tensor of booleans, or of numbers above 1/2 where it keeps, that broadcasts to x.
        x: The input.
    """
    kept = ops.cast(mask, "bool") if "bool" in str(mask.dtype) else ops.greater(mask, 0.5)
    kept = ops.cast(kept, x.dtype) * ops.ones_like(x)
    lowest = affine(kept, (1 - kept) * -1e9, kind="mask")
    return sequence(lowest, softmax, affine(kept, None, kind="mask"))


def sparsemax_piece(function, axis):
    """Returns the piece of y = max(x - tau, 0) with the threshold tau held fixed: c = [y > 0], b = -tau [y > 0]."""

    def support(x, y):
        return ops.cast(y > 0, x.dtype)

    def threshold(x, y):
        largest = ops.max(x, axis=axis, keepdims=True) - ops.max(y, axis=axis, keepdims=True)
        return -support(x, y) * largest

    return elementwise(
        function, support, bias=threshold, nonnegative=True, bounded=True, through_zero=True, kind="sparsemax"
    )
