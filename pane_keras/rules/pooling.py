"""Pooling (III.B.4): the average is linear with equal weights, the maximum selects one element."""

import math

import keras
from keras import ops

from pane_keras import backend, pieces
from pane_keras.registry import register


@register(keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D)
def average_pooling(layer, inputs):
    """Eq. (13): equal weights over the part of the window that lies inside."""
    first = layer.data_format == "channels_first"

    def pool(x):
        return ops.average_pool(x, layer.pool_size, layer.strides, layer.padding, "channels_last")

    def transpose(rows, shape):
        rows, shape = (_last(rows), (shape[0], *shape[2:], shape[1])) if first else (rows, shape)
        pooled = backend.transpose_average_pool(pool, rows, layer.pool_size, layer.strides, layer.padding, shape)
        return _first(pooled) if first else pooled

    forward = (lambda x: _first(pool(_last(x)))) if first else pool
    return pieces.nonnegative(forward, transpose=transpose, kind="average pooling")


@register(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)
def max_pooling(layer, inputs):
    """Eq. (12): 1 at the largest element of the window, the first one on ties."""
    move = _last if layer.data_format == "channels_first" else (lambda x: x)

    def index(x, y):
        found = backend.max_pool_index(move(x), move(y), layer.pool_size, layer.strides, layer.padding)
        return _channels_first_index(found, x) if layer.data_format == "channels_first" else found

    def pool(x):
        return ops.max_pool(x, layer.pool_size, layer.strides, layer.padding, layer.data_format)

    return pieces.selection(pool, index, kind="max pooling")


@register(keras.layers.GlobalAveragePooling1D, keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)
def global_average_pooling(layer, inputs):
    """Equal weights over the whole space."""
    axes = _space(layer, inputs)
    size = math.prod(inputs.shape[axis] for axis in axes)

    def transpose(rows, shape):
        for axis in [] if layer.keepdims else axes:
            rows = ops.expand_dims(rows, axis)
        return ops.broadcast_to(rows / size, shape)

    return pieces.nonnegative(
        lambda x: ops.mean(x, axis=axes, keepdims=layer.keepdims), transpose=transpose, kind="global average pooling"
    )


@register(keras.layers.GlobalMaxPooling1D, keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D)
def global_max_pooling(layer, inputs):
    """1 at the largest element of each channel, the first one on ties."""
    axes = _space(layer, inputs)
    last = axes[0] == 1
    size, channels = math.prod(inputs.shape[a] for a in axes), inputs.shape[-1 if last else 1]

    def index(x, y):
        flat = ops.reshape(x, (backend.dims(x)[0], size, channels) if last else (ops.shape(x)[0], channels, size))
        found = ops.cast(ops.argmax(flat, axis=1 if last else 2), "int64")
        channel = ops.arange(channels, dtype="int64")
        position = found * channels + channel if last else found + channel * size
        return ops.reshape(position, backend.dims(y))

    return pieces.selection(lambda x: ops.max(x, axis=axes, keepdims=layer.keepdims), index, kind="global max pooling")


def _space(layer, inputs):
    axes = list(range(1, len(inputs.shape) - 1))
    return axes if layer.data_format == "channels_last" else [axis + 1 for axis in axes]


def _last(x):
    return ops.transpose(x, (0, *range(2, len(x.shape)), 1))


def _first(x):
    return ops.transpose(x, (0, len(x.shape) - 1, *range(1, len(x.shape) - 1)))


def _channels_first_index(found, x):
    """Turns positions in (*space, channels) into positions in (channels, *space)."""
    channels, space = x.shape[1], math.prod(x.shape[2:])
    return _first(found // channels + (found % channels) * space)
