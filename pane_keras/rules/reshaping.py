"""Layers that move, copy or drop elements: fixed coefficients 0 and 1."""

import keras
from keras import ops

from pane_keras.pieces import nonnegative
from pane_keras.registry import register


@register(keras.layers.Reshape)
def reshape(layer, inputs):
    """The same elements in another shape."""
    return nonnegative(layer.call, transpose=_reshape_back, copies=True, kind="reshape")


@register(keras.layers.Flatten)
def flatten(layer, inputs):
    """The same elements in a row; channels that come first are moved to the end on the way."""
    if layer.data_format == "channels_last" or len(inputs.shape) < 3:
        return nonnegative(layer.call, transpose=_reshape_back, copies=True, kind="reshape")

    def transpose(rows, shape):
        n, channels, *space = shape
        moved = ops.reshape(rows, (n, *space, channels))
        return ops.transpose(moved, (0, len(shape) - 1, *range(1, len(shape) - 1)))

    return nonnegative(layer.call, transpose=transpose, copies=True, kind="reshape")


@register(keras.layers.Permute)
def permute(layer, inputs):
    """The axes of a sample in another order."""
    order = (0, *layer.dims)
    inverse = [order.index(axis) for axis in range(len(order))]
    return nonnegative(
        lambda x: ops.transpose(x, order), transpose=lambda rows, shape: ops.transpose(rows, inverse), copies=True,
        kind="permute",
    )  # fmt: skip


@register(keras.layers.RepeatVector)
def repeat_vector(layer, inputs):
    """n copies of a vector."""
    return nonnegative(layer.call, transpose=lambda rows, shape: ops.sum(rows, axis=1), copies=True, kind="repeat")


@register(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
def zero_padding(layer, inputs):
    """The input inside a frame of zeros, which nothing excites."""
    pads = _pairs(layer.padding)
    return nonnegative(
        layer.call, transpose=lambda rows, shape: rows[_inside(layer, pads)], copies=True, kind="padding"
    )


@register(keras.layers.Cropping1D, keras.layers.Cropping2D, keras.layers.Cropping3D)
def cropping(layer, inputs):
    """The inside of the input; what is cut off excites nothing."""
    pads = _pairs(layer.cropping)
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    padding = [[0, 0], [0, 0], *pads] if first else [[0, 0], *pads, [0, 0]]
    return nonnegative(layer.call, transpose=lambda rows, shape: ops.pad(rows, padding), copies=True, kind="cropping")


def _reshape_back(rows, shape):
    return ops.reshape(rows, shape)


def _pairs(padding):
    pairs = [padding] if isinstance(padding[0], int) else padding
    return [list(pair) for pair in pairs]


def _inside(layer, pads):
    space = [slice(before, -after or None) for before, after in pads]
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return (slice(None), slice(None), *space) if first else (slice(None), *space)
