"""The architectures of keras.applications at a small size, with statistics calibrated on real photographs."""

import keras
import numpy as np
from skimage import data, transform

NAMES = sorted(name for name in dir(keras.applications) if name[0].isupper())
CLASSES = 10

# The smallest pictures that every architecture of a family takes.
_SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 75}
_SMALLEST = 48


def build(name):
    """Returns the architecture with seeded random weights and calibrated BatchNormalization."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    size = _SIZES.get(name, _SMALLEST)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=CLASSES)
    calibrate(model, photographs(size))
    return model


def photographs(size):
    """Returns four photographs that ship with scikit-image, (4, size, size, 3), float32 from 0 to 255."""
    pictures = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    return np.stack([transform.resize(picture[..., :3], (size, size)) for picture in pictures]).astype("float32") * 255


def calibrate(model, pictures):
    """Sets the statistics of every BatchNormalization to those of these pictures, as training would in the end."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(pictures, training=True)
    for layer, momentum in zip(norms, momenta):
        layer.momentum = momentum
