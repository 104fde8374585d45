"""Layers around other layers: a chain of them, a Lambda, and models inside wrappers."""

import keras
from keras import ops

from pane_keras import backend, pieces
from pane_keras.composite import model
from pane_keras.emission import floating, is_float
from pane_keras.masks import Entry
from pane_keras.registry import TRANSPARENT, register_as

register_as(keras.Model)(model)


@register_as(Entry, whole=True)
def entry(operation, arguments):
    """What enters a nested model: an axis of size 1 more or less, and a cast; a float cut to a whole number is held."""
    (slot, *_) = arguments.live
    if not is_float(operation.dtype):
        held = is_float(slot.value.dtype)
        return lambda record, *_: record.slot(arguments.function()(slot.value), held=held)
    return lambda record, *_: _adjusted(operation, record, floating(slot, record))


def _adjusted(operation, record, slot):
    shape = backend.dims(slot.value)
    if len(shape) == operation.rank:
        return slot
    shape = shape[1:-1] if len(shape) > operation.rank else (*shape[1:], 1)
    forward = lambda x: ops.reshape(x, (-1, *shape))  # noqa: E731
    return pieces.nonnegative(forward, transpose=ops.reshape, copies=True, kind="reshape")(record, slot)


@register_as(keras.layers.SpectralNormalization)
def spectral_normalization(layer, inputs):
    """The layer inside, with the weights that training normalised."""
    return pieces.layers(layer.layer)


@register_as(keras.layers.Pipeline)
def pipeline(layer, inputs):
    """Layers one after the other."""
    return pieces.layers(*layer.layers)


@register_as(keras.layers.Lambda, keras.layers.Masking, keras.layers.Dot)
def traced(layer, inputs, arguments):
    """The graph of keras.ops calls that its function makes."""
    return pieces.graph(layer, inputs, arguments)


@register_as("StochasticDepth", group=TRANSPARENT)
def stochastic_depth(layer, inputs):
    """y = x: paths are dropped in training only."""
    return pieces.identity


@register_as("LayerScale")
def layer_scale(layer, inputs):
    """y = gamma x."""
    return pieces.affine(layer.gamma, None, kind="layer scale")


@register_as("CustomScaleLayer")
def scaled_residual(layer, inputs, arguments):
    """y = x_1 + scale x_2."""
    return pieces.graph(layer, inputs, arguments)
