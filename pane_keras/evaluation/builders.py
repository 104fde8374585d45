"""The paper's two networks, AlexNet and VGG-16, for pictures from 28 pixels a side: plain, or with shortcuts.

Both end with a Dense layer `logits` and a Softmax `probabilities`. Without batch normalization a convolution has its
ReLU fused; with it, the order is convolution, BatchNormalization, ReLU.
"""

import keras
from keras import layers

from pane_keras.errors import InputError

SMALLEST = 28
# (convolutions, filters) of the five blocks of VGG-16.
_VGG_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
# (filters, kernel size, whether pooled) of the five convolutions of AlexNet.
_ALEXNET = ((96, 11, True), (256, 5, True), (384, 3, False), (384, 3, False), (256, 3, True))
_HIDDEN = 4096


def alexnet(input_shape, classes, width=1.0, batch_normalization=False, residual=False, dropout=0.5):
    """Returns AlexNet: five convolutions, two hidden Dense layers and the logits.

    Local response normalization is left out, as in the versions that are used today, and the two halves that once ran
    on two GPUs are one. The stride of the first convolution is 4 from 128 pixels a side, 2 from 56 and 1 below, so that
    smaller pictures leave something for the later layers to see; all padding is "same".

    Args:
        input_shape: (height, width, channels), at least 28 pixels a side.
        classes: Number of classes.
        width: Factor on the number of filters and hidden units.
        batch_normalization: Whether each convolution is followed by a BatchNormalization.
        residual: Whether the last three convolutions get a shortcut, added before their ReLU (a 1x1 convolution where
            the number of channels differs); includes batch normalization.
        dropout: Rate before each hidden Dense layer.

    Raises:
        InputError: A picture too small, a width that is not positive, or fewer than two classes.
    """
    _check("alexnet", input_shape, classes, width)
    block = _Block(width, batch_normalization or residual)
    inputs = x = keras.Input(input_shape, name="picture")
    for number, (filters, size, pooled) in enumerate(_ALEXNET, 1):
        strides = _stem_stride(min(input_shape[:2])) if number == 1 else 1
        x = block.convolved(x, f"conv{number}", filters, size, strides, shortcut=x if residual and number > 2 else None)
        x = _pooled(x, f"pool{number}", 3) if pooled else x
    return keras.Model(inputs, _head(x, classes, width, dropout), name="alexnet")


def vgg16(input_shape, classes, width=1.0, batch_normalization=False, residual=False, dropout=0.5):
    """Returns VGG-16: thirteen convolutions of 3x3 in five blocks, two hidden Dense layers and the logits.

    Pooling is padded, so 28 pixels a side are enough; from multiples of 32 the shapes are those of the original.

    Args:
        input_shape: (height, width, channels), at least 28 pixels a side.
        classes: Number of classes.
        width: Factor on the number of filters and hidden units.
        batch_normalization: Whether each convolution is followed by a BatchNormalization.
        residual: Whether the first convolution's output of each block is added to the last one's before its ReLU;
            includes batch normalization.
        dropout: Rate before each hidden Dense layer.

    Raises:
        InputError: A picture too small, a width that is not positive, or fewer than two classes.
    """
    _check("vgg16", input_shape, classes, width)
    block = _Block(width, batch_normalization or residual)
    inputs = x = keras.Input(input_shape, name="picture")
    for number, (convolutions, filters) in enumerate(_VGG_BLOCKS, 1):
        first = None
        for k in range(1, convolutions + 1):
            shortcut = first if residual and k == convolutions else None
            x = block.convolved(x, f"block{number}_conv{k}", filters, 3, 1, shortcut)
            first = x if first is None else first
        x = _pooled(x, f"block{number}_pool", 2)
    return keras.Model(inputs, _head(x, classes, width, dropout), name="vgg16")


BUILDERS = {"alexnet": alexnet, "vgg16": vgg16}


class _Block:
    """Makes convolutions of one width, with or without batch normalization."""

    def __init__(self, width, normalized):
        self.width, self.normalized = width, normalized

    def convolved(self, x, name, filters, size, strides, shortcut):
        """Convolution, ReLU; with a shortcut that is added in between."""
        filters = _scaled(filters, self.width)
        if not self.normalized:
            return self._convolution(filters, size, strides, name, activation="relu")(x)
        x = self._linear(x, name, filters, size, strides)
        if shortcut is not None:
            same = shortcut.shape[-1] == filters
            shortcut = shortcut if same else self._linear(shortcut, f"{name}_shortcut", filters, 1, 1)
            x = layers.Add(name=f"{name}_add")([x, shortcut])
        return layers.ReLU(name=f"{name}_relu")(x)

    def _linear(self, x, name, filters, size, strides):
        x = self._convolution(filters, size, strides, name, use_bias=False)(x)
        return layers.BatchNormalization(name=f"{name}_bn")(x)

    def _convolution(self, filters, size, strides, name, **kwargs):
        # Sixteen layers without normalization do not start to learn from Keras's default, which suits tanh.
        return layers.Conv2D(
            filters, size, strides, padding="same", kernel_initializer="he_normal", name=name, **kwargs
        )


def _pooled(x, name, size):
    return layers.MaxPooling2D(size, 2, padding="same", name=name)(x)


def _head(x, classes, width, dropout):
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
        units = _scaled(_HIDDEN, width)
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal", name=name)(x)
    return layers.Softmax(name="probabilities")(layers.Dense(classes, name="logits")(x))


def _stem_stride(side):
    return 4 if side >= 128 else 2 if side >= 56 else 1


def _scaled(number, width):
    return max(1, round(number * width))


def _check(builder, input_shape, classes, width):
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape) or min(shape[:2]) < SMALLEST:
        raise InputError(
            f"{builder} expects input_shape=(height, width, channels) with at least {SMALLEST} pixels a side. "
            f"Received: {shape}. Resize the pictures."
        )
    if not width > 0:
        raise InputError(f"{builder} expects a width above 0, a factor on the number of filters. Received: {width!r}.")
    if not isinstance(classes, int) or classes < 2:
        raise InputError(f"{builder} expects at least 2 classes. Received: classes={classes!r}.")
