"""Layers that change nothing at inference: y = x."""

import keras

from pane_keras.errors import UnsupportedLayerError
from pane_keras.pieces import identity
from pane_keras.registry import register


@register(
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
)
def passing(layer, inputs):
    """y = x: noise is drawn in training only."""
    return identity


def refuse_training(name, kwargs):
    """Raises for a call that was recorded with `training=True`: it draws noise or reads statistics of the batch.

    Args:
        name: The call's name.
        kwargs: The keyword arguments it was recorded with.
    """
    if kwargs.get("training"):
        raise UnsupportedLayerError(
            f"Layer {name!r} is called with training=True inside the model, so what it emits depends on chance or on "
            "the rest of the batch. Rebuild the model without training=True at this layer."
        )
