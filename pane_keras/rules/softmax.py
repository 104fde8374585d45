"""Softmax and sparsemax inside a model: what normalises them is held fixed."""

from keras import ops

from pane_keras.pieces import elementwise

# What Keras puts where a mask leaves something out.
_LOWEST = -1e9


def softmax_piece(function, axis, kept=None):
    """Returns the piece of y = e^x / Z with the normaliser Z and the mean m of the inputs held fixed.

    c = (y - e^m / Z) / (x - m), b = e^m / Z - c m. With u = x - m, c = e^m / Z expm1(u) / u near u = 0 and the
    quotient itself away from it, so nothing cancels and nothing overflows.

    Args:
        function: The softmax.
        axis: Its axis or axes.
        kept: 0/1 tensor of the shape of x: elsewhere y is 0, and x counts neither for Z nor for m. None for all.
    """

    def held(x):
        if kept is None:
            mean, normaliser = ops.mean(x, axis=axis, keepdims=True), ops.logsumexp(x, axis=axis, keepdims=True)
        else:
            count = ops.maximum(ops.sum(kept, axis=axis, keepdims=True), 1)
            mean = ops.sum(x * kept, axis=axis, keepdims=True) / count
            normaliser = ops.logsumexp(ops.where(kept > 0, x, _LOWEST), axis=axis, keepdims=True)
        return mean, ops.exp(mean - normaliser) * (1 if kept is None else kept)

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


def log_softmax_piece(function, axis):
    """Returns the piece of y = x - log Z with the normaliser Z held fixed: c = 1, b = -log Z."""
    return elementwise(
        function,
        lambda x, y: ops.ones_like(x),
        bias=lambda x, y: -ops.logsumexp(x, axis=axis, keepdims=True) * ops.ones_like(x),
        through_zero=False,
        bounded=True,
        kind="log softmax",
    )


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
