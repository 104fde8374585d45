"""Layers that change pictures for training, or before it."""

import keras
from keras import ops

from pane_keras import pieces
from pane_keras.registry import TRANSPARENT, exported, register, register_as


@register_as(
    *exported(
        "AugMix", "CutMix", "Equalization", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
        "RandomColorJitter", "RandomContrast", "RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip",
        "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective",
        "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear",
        "RandomTranslation", "RandomZoom", "Solarization",
    ),
    group=TRANSPARENT,
)  # fmt: skip
def augmentation(layer, inputs):
    """y = x: pictures are changed in training only."""
    return pieces.identity


@register(keras.layers.CenterCrop)
def center_crop(layer, inputs):
    """The middle of a picture, or the picture resized where it is too small: weights that are not negative."""
    return pieces.nonnegative(lambda x: layer.call(x, training=False), kind="center crop")


@register(*exported("AutoContrast"))
def auto_contrast(layer, inputs):
    """y = scale x + shift, with the darkest and brightest value of each channel held fixed."""
    low, high = layer.value_range
    darkest, brightest = (f(inputs, axis=(1, 2), keepdims=True) for f in (ops.min, ops.max))
    flat = ops.equal(darkest, brightest)
    scale = ops.where(flat, 1.0, (high - low) / ops.where(flat, 1.0, brightest - darkest))
    return pieces.affine(scale, ops.where(flat, 0.0, low - darkest * scale), kind="contrast")
