"""Normalizations: y = scale x + shift, with statistics that are stored or held at the sample's own (III.B.5)."""

import keras
from keras import ops

from pane_keras import backend
from pane_keras.backend import snapshot
from pane_keras.pieces import affine
from pane_keras.registry import register


@register(keras.layers.BatchNormalization)
def batch_normalization(layer, inputs, arguments):
    """Eq. (15): scale = gamma / sqrt(variance + epsilon), shift = beta - mean scale."""
    # A mask changes which statistics are learned, not what is computed from them.
    del arguments
    scale = ops.rsqrt(snapshot(layer.moving_variance) + layer.epsilon)
    scale = scale * snapshot(layer.gamma) if layer.scale else scale
    shift = -snapshot(layer.moving_mean) * scale
    shift = shift + snapshot(layer.beta) if layer.center else shift
    return affine(_along(scale, inputs, layer.axis), _along(shift, inputs, layer.axis))


@register(keras.layers.LayerNormalization)
def layer_normalization(layer, inputs):
    """The sample's own mean and deviation over `axis`, held fixed."""
    axis = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    mean, variance = ops.moments(inputs, axes=axis, keepdims=True)
    if getattr(layer, "rms_scaling", False):
        scale = ops.rsqrt(ops.var(inputs, axis=axis, keepdims=True) + layer.epsilon)
        return affine(scale * _along_axes(snapshot(layer.gamma), inputs, axis), None)
    scale = ops.rsqrt(variance + layer.epsilon)
    scale = scale if layer.gamma is None else scale * _along_axes(snapshot(layer.gamma), inputs, axis)
    shift = -mean * scale
    return affine(scale, shift if layer.beta is None else shift + _along_axes(snapshot(layer.beta), inputs, axis))


@register(keras.layers.RMSNormalization)
def rms_normalization(layer, inputs):
    """The sample's own root mean square, held fixed."""
    axis = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    power = ops.mean(ops.square(inputs), axis=axis, keepdims=True)
    return affine(ops.rsqrt(power + layer.epsilon) * _along_axes(snapshot(layer.scale), inputs, axis), None)


@register(keras.layers.GroupNormalization)
def group_normalization(layer, inputs):
    """The sample's own mean and deviation over each group of channels, held fixed."""
    axis = layer.axis % len(inputs.shape)
    shape = backend.dims(inputs)
    groups = inputs.shape[axis] if layer.groups == -1 else layer.groups
    grouped = ops.reshape(inputs, (*shape[:axis], groups, inputs.shape[axis] // groups, *shape[axis + 1 :]))
    axes = [i for i in range(1, len(grouped.shape)) if i != axis]
    mean, variance = ops.moments(grouped, axes=axes, keepdims=True)
    scale, mean = (
        ops.reshape(ops.broadcast_to(t, _grouped_like(grouped, axis)), _channels_like(inputs, axis))
        for t in (ops.rsqrt(variance + layer.epsilon), mean)
    )
    scale = scale * _along(snapshot(layer.gamma), inputs, axis) if layer.scale else scale
    shift = -mean * scale
    shift = shift + _along(snapshot(layer.beta), inputs, axis) if layer.center else shift
    return affine(scale, shift)


@register(keras.layers.UnitNormalization)
def unit_normalization(layer, inputs):
    """The sample's own length over `axis`, held fixed."""
    axis = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    power = ops.sum(ops.square(inputs), axis=axis, keepdims=True)
    return affine(ops.rsqrt(ops.maximum(power, 1e-12)), None)


@register(keras.layers.Normalization)
def feature_normalization(layer, inputs):
    """scale = 1 / deviation, shift = -mean scale, from stored statistics; inverted where the layer inverts."""
    mean, variance = _statistics(layer, inputs)
    deviation = ops.maximum(ops.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return affine(deviation * ops.ones_like(mean), mean)
    return affine(1 / deviation, -mean / deviation)


@register(keras.layers.Rescaling)
def rescaling(layer, inputs):
    """y = scale x + offset, as the layer was given them."""
    scale, offset = (ops.convert_to_tensor(v, dtype=inputs.dtype) for v in (layer.scale, layer.offset))
    if len(scale.shape) and keras.config.image_data_format() == "channels_first":
        # Keras does so with the scale alone.
        scale = ops.reshape(scale, (*scale.shape, *[1] * (3 - len(scale.shape))))
    return affine(scale, offset, kind="rescaling")


def _statistics(layer, inputs):
    """`adapt` makes constants of its variables: Keras computes with them, but a graph would keep them for ever."""
    constants = layer.mean, layer.variance
    if layer.input_mean is not None or not backend.is_symbolic(inputs):
        return constants
    variables = layer.adapt_mean, layer.adapt_variance
    return [ops.cast(ops.reshape(v, c.shape), layer.compute_dtype) for v, c in zip(variables, constants)]


def _along(vector, inputs, axis):
    shape = [1] * len(inputs.shape)
    shape[axis] = -1
    return ops.reshape(vector, shape)


def _along_axes(weight, inputs, axes):
    axes = sorted(axis % len(inputs.shape) for axis in axes)
    return ops.reshape(weight, [inputs.shape[i] if i in axes else 1 for i in range(len(inputs.shape))])


def _grouped_like(grouped, axis):
    return (
        backend.dims(grouped)[0],
        *[grouped.shape[i] if i in (axis, axis + 1) else 1 for i in range(1, len(grouped.shape))],
    )


def _channels_like(inputs, axis):
    return (backend.dims(inputs)[0], *[inputs.shape[i] if i == axis else 1 for i in range(1, len(inputs.shape))])
