"""Layers that change nothing at inference: y = x."""

import keras

from pane_keras.pieces import identity
from pane_keras.registry import TRANSPARENT, register_as


@register_as(
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    group=TRANSPARENT,
)
def noise(layer, inputs):
    """y = x: noise is drawn in training only."""
    return identity


@register_as(keras.layers.ActivityRegularization, group=TRANSPARENT)
def penalty(layer, inputs):
    """y = x: its penalty counts in training only."""
    return identity


@register_as(keras.layers.Identity, keras.layers.InputLayer, group=TRANSPARENT)
def same(layer, inputs):
    """y = x."""
    return identity
