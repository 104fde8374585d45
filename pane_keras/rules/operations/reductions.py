"""Operations that reduce axes: sums and averages are linear, a maximum selects one element."""

import math

from keras import ops

from pane_keras import backend, pieces
from pane_keras.registry import register_as
from pane_keras.rules.merging import first_equal
from pane_keras.rules.operations.arithmetic import pole
from pane_keras.rules.operations.samples import refuse_axis


@register_as("Mean", "Sum", "Cumsum", "Trace")
def reduce(operation, arguments):
    """Equal weights along the axes."""
    (slot,) = arguments.live
    axis = (operation.axis1, operation.axis2) if type(operation).__name__ == "Trace" else operation.axis
    refuse_axis(operation, axis, len(slot.value.shape))
    return pieces.nonnegative(arguments.function(), kind=type(operation).__name__.lower())


@register_as("Max", "Amax")
def maximum(operation, arguments):
    """1 at the largest element, the first one on ties."""
    return _selected(operation, arguments, ops.max, ops.argmax, ops.maximum)


@register_as("Min", "Amin")
def minimum(operation, arguments):
    """1 at the smallest element, the first one on ties."""
    return _selected(operation, arguments, ops.min, ops.argmin, ops.minimum)


@register_as("Var")
def variance(operation, arguments):
    """The mean of squared deviations: three stages."""
    return _variance(operation, arguments)


@register_as("Std")
def deviation(operation, arguments):
    """The root of the mean of squared deviations: four stages."""
    return pieces.sequence(_variance(operation, arguments), pole(ops.sqrt))


@register_as("TopK")
def top_k(operation, arguments):
    """The largest elements are selected, with coefficient 1; their indices are held."""
    function = arguments.function()
    refuse_axis(operation, -1, len(arguments.live[0].value.shape))

    def run(record, slot):
        values, indices = function(slot.value)
        size = slot.value.shape[-1]
        rest = math.prod(slot.value.shape[1:-1])
        starts = ops.reshape(ops.arange(rest, dtype="int64") * size, (1, *slot.value.shape[1:-1], 1))
        chosen = pieces.selection(lambda x: values, lambda x, y: ops.cast(indices, "int64") + starts, kind="top k")
        return [chosen(record, slot), record.slot(indices, held=True)]

    return run


def _variance(operation, arguments):
    (slot,) = arguments.live
    refuse_axis(operation, operation.axis, len(slot.value.shape))
    axes = list(operation.axis)
    size = math.prod(slot.value.shape[axis] for axis in axes)

    def centre(x, kernel):
        return x * kernel[0] - ops.mean(x, axis=axes, keepdims=True) * kernel[1]

    def magnitude(kernel):
        # An element keeps 1 - 1/n of itself and loses 1/n of each other one: |W| = (1 - 2/n) x + mean.
        return [1 - 2 / size, -1.0] if size > 1 else [0.0, 0.0]

    return pieces.sequence(
        pieces.linear(centre, [1.0, 1.0], magnitude=magnitude, kind="centre"),
        pole(ops.square),
        pieces.nonnegative(lambda x: ops.mean(x, axis=axes, keepdims=operation.keepdims), kind="mean"),
    )


def _selected(operation, arguments, reduce, find, against):
    (slot,) = arguments.live
    rank = len(slot.value.shape)
    refuse_axis(operation, operation.axis, rank)
    reduced = sorted(axis % rank for axis in operation.axis)
    order = [axis for axis in range(1, rank) if axis not in reduced] + reduced

    def index(x, y):
        size = math.prod(x.shape[axis] for axis in reduced)
        places = ops.reshape(ops.arange(math.prod(x.shape[1:]), dtype="int64"), x.shape[1:])
        places = ops.reshape(ops.transpose(places, [axis - 1 for axis in order]), (-1,))
        rows = ops.reshape(ops.transpose(x, (0, *order)), (backend.dims(x)[0], -1, size))
        found = ops.cast(find(rows, axis=-1), "int64")
        at = found + ops.arange(rows.shape[1], dtype="int64") * size
        return ops.reshape(ops.take(places, at), backend.dims(y))

    function = lambda x: reduce(x, axis=reduced, keepdims=operation.keepdims)  # noqa: E731
    stage = pieces.selection(function, index, kind=type(operation).__name__.lower())
    initial = getattr(operation, "initial", None)
    return pieces.sequence(stage, None if initial is None else _no_less(initial, against))


def _no_less(initial, function):
    """The larger (or smaller) of the selected element and a number that the reduction starts from."""

    def run(record, slot):
        constant = record.slot(ops.full_like(slot.value, initial), held=True)
        return pieces.choice(function, first_equal, "initial")(record, constant, slot)

    return run
