"""Pooling (III.B.4): the average is linear with equal weights, the maximum selects one element."""

import math

import keras
import numpy as np
from keras import ops

from pane_keras import backend, pieces
from pane_keras.registry import exported, register
from pane_keras.windows import stencil


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

    def transpose(x, y):
        return backend.max_pool_transpose(x, y, layer.pool_size, layer.strides, layer.padding)

    def pool(x):
        return ops.max_pool(x, layer.pool_size, layer.strides, layer.padding, layer.data_format)

    def reach(space, out_space):
        return stencil(space, out_space, layer.pool_size, layer.strides, (1,) * len(space), layer.padding)

    last = layer.data_format == "channels_last"
    local = last and None not in inputs.shape[1:]
    return pieces.selection(
        pool, index, kind="max pooling", stencil=reach if local else None, transpose=transpose if last else None
    )


@register(keras.layers.GlobalAveragePooling1D)
def global_average_pooling_1d(layer, inputs, arguments):
    """Equal weights over the steps that no mask leaves out."""
    mask = arguments.mask("inputs")
    if mask is None:
        return global_average_pooling(layer, inputs)
    axis = _space(layer, inputs)[0]
    weights = ops.expand_dims(ops.cast(mask, inputs.dtype), 3 - axis)
    weights = weights / ops.sum(weights, axis=axis, keepdims=True)
    mean = lambda x, kernel: ops.sum(x * kernel, axis=axis, keepdims=layer.keepdims)  # noqa: E731
    total = lambda x: mean(x, weights)  # noqa: E731
    return pieces.signed_sum(total, [(mean, None, weights)], per_sample=True, kind="global average pooling")


@register(keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling3D)
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


@register(*exported("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D"))
def adaptive_average_pooling(layer, inputs):
    """Equal weights over each window, whose size depends on the input's."""
    return pieces.nonnegative(layer.call, kind="adaptive average pooling")


@register(*exported("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D"))
def adaptive_max_pooling(layer, inputs):
    """1 at the largest element of each window, the first one on ties."""
    first = layer.data_format == "channels_first"
    axes = _space(layer, inputs)

    def index(x, y):
        moved, out = (_last(x), _last(y)) if first else (x, y)
        found = _in_windows(moved, [inputs.shape[axis] for axis in axes], out.shape[1:-1])
        return _channels_first_index(found, x) if first else found

    return pieces.selection(layer.call, index, kind="adaptive max pooling")


def _in_windows(x, space, outs):
    """Positions in the flat sample (*space, channels) of the largest element of every window from floor to ceil."""
    channels, size = x.shape[-1], math.prod(space)
    inside = _windows(space, outs)
    rows = ops.reshape(ops.transpose(ops.reshape(x, (-1, size, channels)), (0, 2, 1)), (-1, 1, size))
    found = ops.argmax(ops.where(inside[None], rows, -math.inf), axis=-1)
    found = ops.transpose(ops.reshape(ops.cast(found, "int64"), (-1, channels, math.prod(outs))), (0, 2, 1))
    return ops.reshape(found * channels + ops.arange(channels, dtype="int64"), (-1, *outs, channels))


def _windows(space, outs):
    """0/1 matrix (outputs, positions): window i of m over n entries runs from floor(i n / m) to ceil((i + 1) n / m)."""
    matrix = np.ones((1, 1), bool)
    for n, m in zip(space, outs):
        i, j = np.ogrid[:m, :n]
        matrix = np.kron(matrix, (j >= i * n // m) & (j < -(-(i + 1) * n // m)))
    return ops.convert_to_tensor(matrix)


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
