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
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
    keras.layers.InputLayer,
    group=TRANSPARENT,
)
def passing(layer, inputs):
    """y = x: noise is drawn in training only."""
    return identity
