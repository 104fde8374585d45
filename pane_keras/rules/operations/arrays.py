"""Operations that move, copy or drop elements: every output is one input, or a constant."""

from keras import ops

from pane_keras import backend, pieces
from pane_keras.arguments import is_live, values_of
from pane_keras.errors import UnsupportedLayerError
from pane_keras.record import Slot
from pane_keras.registry import register_as
from pane_keras.rules.merging import placed
from pane_keras.rules.operations.samples import refuse, refuse_axis, refuse_shape


@register_as("Reshape", "Squeeze", "ExpandDims", "Ravel")
def reshape(operation, arguments):
    """The same elements in another shape."""
    function = arguments.function()

    def run(record, slot):
        y = function(slot.value)
        refuse_shape(operation, slot.value, y)
        shape = backend.dims(y)[1:]
        return pieces.nonnegative(
            lambda x: ops.reshape(x, (-1, *shape)),
            transpose=lambda rows, own: ops.reshape(rows, own),
            copies=True,
            kind="reshape",
        )(record, slot)

    return run


@register_as("Transpose", "Moveaxis", "Swapaxes")
def transpose(operation, arguments):
    """The axes in another order."""
    (slot,) = arguments.live
    rank = len(slot.value.shape)
    axes = {
        "Transpose": lambda: operation.axes,
        "Moveaxis": lambda: [*operation.source, *operation.destination],
        "Swapaxes": lambda: [operation.axis1, operation.axis2],
    }[type(operation).__name__]()
    if type(operation).__name__ == "Transpose":
        if axes is None or axes[0] % rank != 0:
            refuse(operation)
    else:
        refuse_axis(operation, axes, rank)
    return _copies(arguments)


@register_as("Flip", "Roll", "Repeat", "Tril", "Triu", "Rot90", "DepthToSpace", "SpaceToDepth", "Rearrange",
             "CropImages", "ExtractPatches")  # fmt: skip
def rearrange(operation, arguments):
    """Elements at other places, or several times; what comes in between is zero."""
    (slot,) = arguments.live
    rank = len(slot.value.shape)
    axes = {"Rot90": "axes", "Flip": "axis", "Roll": "axis", "Repeat": "axis"}.get(type(operation).__name__)
    if axes:
        refuse_axis(operation, getattr(operation, axes), rank)
    if type(operation).__name__ in ("Tril", "Triu"):
        refuse_axis(operation, (-2, -1), rank)
    return _copies(arguments)


@register_as("Tile")
def tile(operation, arguments):
    """Copies along axes other than the batch axis."""
    (slot,) = arguments.live
    repeats = [operation.repeats] if isinstance(operation.repeats, int) else list(operation.repeats)
    if len(repeats) > len(slot.value.shape) or (len(repeats) == len(slot.value.shape) and repeats[0] != 1):
        refuse(operation)
    return _copies(arguments)


@register_as("BroadcastTo")
def broadcast_to(operation, arguments):
    """Copies along axes of size 1."""
    (slot,) = arguments.live
    refuse_shape(operation, slot.value, arguments.function()(slot.value))
    if len(operation.shape) != len(slot.value.shape):
        refuse(operation)
    shape = tuple(operation.shape[1:])
    return pieces.nonnegative(
        lambda x: ops.broadcast_to(x, (backend.dims(x)[0], *shape)), copies=True, kind="broadcast"
    )


@register_as("Pad")
def pad(operation, arguments):
    """The input inside a frame: of a constant, or of its own elements again."""
    if any(operation.pad_width[0]):
        refuse(operation)
    return _with_constants(arguments, "padding")


@register_as("GetItem", "Slice")
def get_item(operation, arguments):
    """Elements picked by a slice or by indices."""
    (slot,) = arguments.live
    key = values_of(arguments.get("key", arguments.get("start_indices")))
    if type(operation).__name__ == "GetItem" and not _leaves_batch(key, len(slot.value.shape)):
        refuse(operation)
    y = arguments.function()(slot.value)
    refuse_shape(operation, slot.value, y)
    if type(operation).__name__ == "Slice":
        start, size = [int(s) for s in key], backend.dims(y)
        index = tuple(slice(a, a + n) for a, n in list(zip(start, size))[1:])
        return pieces.nonnegative(lambda x: x[(slice(None), *index)], copies=True, kind="slice")
    return _copies(arguments)


@register_as("Take")
def take(operation, arguments):
    """Elements picked by indices; rows of a constant table, picked by live indices, are vectors like an embedding's."""
    x, indices = arguments.get("x"), values_of(arguments.get("indices"))
    if not is_live(x):
        return pieces.source(
            lambda *_: ops.take(backend.snapshot(values_of(x)), ops.cast(indices, "int32"), operation.axis)
        )
    refuse_axis(operation, operation.axis, len(x.value.shape))
    if isinstance(arguments.get("indices"), Slot):
        raise UnsupportedLayerError(
            f"The operation {operation.name!r} picks elements by indices that differ from sample to sample, which has "
            "no rule. Use one_hot and a product instead, or put it into a layer of your own and register that."
        )
    return pieces.nonnegative(
        lambda t: ops.take(t, ops.cast(indices, "int32"), operation.axis), copies=True, kind="take"
    )


@register_as("Concatenate", "Append")
def concatenate(operation, arguments):
    """Every output is one input or a constant."""
    xs = arguments.get("xs") or [arguments.get("x1"), arguments.get("x2")]
    return _joined(operation, arguments, xs, lambda x: x)


@register_as("Stack")
def stack(operation, arguments):
    """Tensors, live or constant, side by side along a new axis."""
    return _joined(operation, arguments, arguments.get("x"), lambda x: ops.expand_dims(x, operation.axis))


@register_as("Split")
def split(operation, arguments):
    """Parts of a tensor along an axis, each an output."""
    (slot,) = arguments.live
    refuse_axis(operation, operation.axis, len(slot.value.shape))
    axis = operation.axis % len(slot.value.shape)
    sizes = [part.shape[axis] for part in arguments.function()(slot.value)]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    return _parts([_slice(axis, start, size) for start, size in zip(starts, sizes)])


@register_as("Unstack")
def unstack(operation, arguments):
    """The entries of an axis, each an output."""
    (slot,) = arguments.live
    refuse_axis(operation, operation.axis, len(slot.value.shape))
    axis = operation.axis % len(slot.value.shape)
    return _parts([_slice(axis, k) for k in range(operation.num or slot.value.shape[axis])])


def _leaves_batch(key, rank):
    """Whether a key takes the whole batch axis as it is; an ellipsis may stand for no axis at all."""
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    if keys[0] is Ellipsis:
        covered = rank - sum(one is not None and one is not Ellipsis for one in keys)
        return covered > 0 or (len(keys) > 1 and _whole(keys[1]))
    return _whole(keys[0])


def _whole(key):
    return isinstance(key, slice) and key == slice(None)


def _copies(arguments):
    return pieces.nonnegative(arguments.function(), copies=True, kind=type(arguments.operation).__name__.lower())


def _with_constants(arguments, kind):
    """An affine operation: what it emits for zeros is its bias."""
    function = arguments.function()

    def run(record, slot):
        bias = function(ops.zeros_like(slot.value))
        forward = lambda x: function(x) - function(ops.zeros_like(x))  # noqa: E731
        return pieces.nonnegative_sum(function, [(forward, None)], copies=True, bias=bias, kind=kind)(record, slot)

    return run


def _joined(operation, arguments, xs, widen):
    function = arguments.function()

    def run(record, *slots):
        y = function(*(slot.value for slot in slots))
        refuse_axis(operation, operation.axis, len(y.shape))
        refuse_shape(operation, slots[0].value, y)
        axis = operation.axis % len(y.shape)
        sizes = [widen(ops.convert_to_tensor(backend.snapshot(values_of(x)))).shape[axis] for x in xs]
        live = [k for k, x in enumerate(xs) if is_live(x)]
        parts = [_widened(placed(axis, sum(sizes[:k]), sizes[k], sum(sizes)), widen) for k in live]
        bias = None if len(live) == len(xs) else function(*(ops.zeros_like(slot.value) for slot in slots))
        return pieces.nonnegative_sum(lambda *_: y, parts, copies=True, bias=bias, kind="concatenate")(record, *slots)

    return run


def _widened(part, widen):
    forward, back = part
    return (lambda x: forward(widen(x))), (lambda rows, shape: ops.reshape(back(rows, shape), shape))


def _slice(axis, start, size=None):
    index = (*[slice(None)] * axis, start if size is None else slice(start, start + size))
    return lambda x: x[index]


def _parts(functions):
    outputs = [pieces.nonnegative(function, copies=True, kind="split") for function in functions]
    return lambda record, slot: [output(record, slot) for output in outputs]
