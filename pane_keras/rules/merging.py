"""Layers with several inputs. For sums the sign of o' is that of the total."""

from functools import partial, reduce

import keras
from keras import ops

from pane_keras import backend, pieces
from pane_keras.linear_operand import same
from pane_keras.registry import register
from pane_keras.single_operand import broadcast, unbroadcast


@register(keras.layers.Add)
def add(layer, inputs):
    """y = sum of the inputs, broadcast to one another."""
    return sum_piece(inputs, "add")


@register(keras.layers.Average)
def average(layer, inputs):
    """y = sum of the inputs / n."""
    n = len(inputs)
    parts = [
        (lambda x, f=f: f(backend.taken(x)) / n, lambda rows, shape, t=t: t(rows, shape) / n)
        for f, t in _broadcast_parts(inputs)
    ]
    return _sum(parts, "average")


@register(keras.layers.Subtract)
def subtract(layer, inputs):
    """y = x_1 - x_2: coefficients 1 and -1."""
    return difference_piece(inputs)


@register(keras.layers.Multiply)
def multiply(layer, inputs, arguments):
    """y = x_1 ... x_n: each factor gets (product of the others) / n."""
    return pieces.graph(layer, inputs, arguments) if arguments.hung else pieces.gate()


@register(keras.layers.Maximum)
def maximum(layer, inputs, arguments):
    """1 at the largest input, the first one on ties."""
    if arguments.hung:
        return pieces.graph(layer, inputs, arguments)
    return pieces.choice(lambda *xs: reduce(ops.maximum, xs), first_equal, kind="maximum")


@register(keras.layers.Minimum)
def minimum(layer, inputs, arguments):
    """1 at the smallest input, the first one on ties."""
    if arguments.hung:
        return pieces.graph(layer, inputs, arguments)
    return pieces.choice(lambda *xs: reduce(ops.minimum, xs), first_equal, kind="minimum")


@register(keras.layers.Concatenate)
def concatenate(layer, inputs):
    """Every output is one input: a slice of the output pulls it back."""
    return concatenation(inputs, layer.axis)


def concatenation(values, axis):
    """Returns the piece that joins inputs of the shapes of `values` along an axis."""
    axis %= len(values[0].shape)
    sizes = [x.shape[axis] for x in values]
    parts = [placed(axis, sum(sizes[:k]), sizes[k], sum(sizes)) for k in range(len(values))]
    return pieces.nonnegative_sum(lambda *xs: ops.concatenate(xs, axis=axis), parts, copies=True, kind="concatenate")


def sum_piece(values, kind):
    """Returns the piece y = sum of its inputs, of the shapes of `values`, broadcast to one another."""
    return _sum(_broadcast_parts(values), kind)


def difference_piece(values):
    """Returns the piece y = x_1 - x_2 of inputs with the shapes of `values`."""
    parts = [
        (
            lambda x, kernel, f=f: f(x) * kernel,
            lambda rows, kernel, shape, t=t: t(rows, shape) * kernel,
            ops.convert_to_tensor(sign, dtype=values[0].dtype),
        )
        for (f, t), sign in zip(_broadcast_parts(values), (1.0, -1.0))
    ]
    (first, *_), (second, *_) = _broadcast_parts(values)
    return pieces.signed_sum(lambda a, b: first(a) - second(b), parts, kind="subtract")


def _sum(parts, kind):
    forwards = [forward for forward, _ in parts]

    def total(*xs):
        return reduce(partial(backend.step, ops.add), [f(x) for f, x in zip(forwards, xs)])

    return pieces.nonnegative_sum(total, parts, kind=kind, puts_off=True)


def first_equal(*tensors):
    """Returns for (*xs, y) a 0/1 mask for each x: where it is y, and no x before it is."""
    *xs, y = tensors
    masks, free = [], ops.ones_like(y)
    for x in xs:
        masks.append(free * ops.cast(ops.equal(x, y), y.dtype))
        free = free - masks[-1]
    return masks


def _broadcast_parts(inputs):
    """One (forward, transpose) an input: broadcast to the common shape, and the sum over what was broadcast."""
    rank = max(len(x.shape) for x in inputs)
    common = [max((x.shape[i - rank] for x in inputs if len(x.shape) + i >= rank), key=lambda s: s != 1)
              for i in range(rank)]  # fmt: skip
    return [_broadcast_part(x, tuple(common[1:])) for x in inputs]


def _broadcast_part(x, common):
    own = tuple(x.shape[1:])
    if own == common:
        return same, same
    return (lambda x: broadcast(x, common)), (lambda rows, shape: unbroadcast(rows, own))


def placed(axis, start, size, total):
    """Returns (forward, transpose) that put a tensor at `start` on an axis of `total` entries, among zeros."""

    def forward(x):
        padding = [[start, total - start - size] if i == axis else [0, 0] for i in range(len(x.shape))]
        return ops.pad(x, padding)

    def transpose(rows, shape):
        index = [slice(None)] * len(rows.shape)
        index[axis] = slice(start, start + size)
        return rows[tuple(index)]

    return forward, transpose
