"""Full-Grad (Srinivas, Fleuret 2019): the input gradient times the input, and the bias gradients of every layer.

f(x) = grad . x + sum over layers of (df / do) . b

where b is what a layer f adds to its linear part: the bias of a convolution or Dense layer, beta - gamma mean / sigma
of a BatchNormalization, and f(x) - f'(x) x of a function that is not linear (zero for a ReLU and for pooling).
"""

from dataclasses import dataclass

import numpy as np
from keras import activations, layers, ops

from pane_keras.backend.tensorflow.saliency_baselines import full_gradients
from pane_keras.evaluation.linear_part import LinearPart
from pane_keras.evaluation.methods.flat import flat

# f(x) = A x + f(0).
_AFFINE = (
    LinearPart,
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.BatchNormalization,
    layers.Normalization,
    layers.Rescaling,
)
# f(x) = f'(x) x, with f'(x) the same in a neighbourhood of x.
_WITHOUT_BIAS = (
    layers.Add,
    layers.Average,
    layers.AveragePooling2D,
    layers.Concatenate,
    layers.Cropping2D,
    layers.Dropout,
    layers.Flatten,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.Identity,
    layers.InputLayer,
    layers.LeakyReLU,
    layers.MaxPooling2D,
    layers.Permute,
    layers.Reshape,
    layers.SpatialDropout2D,
    layers.Subtract,
    layers.UpSampling2D,
    layers.ZeroPadding2D,
)
_FUNCTIONS_WITHOUT_BIAS = (activations.relu, activations.linear, activations.leaky_relu)


@dataclass(frozen=True)
class Decomposition:
    """What the logits of a batch are made of, each term as an array.

    Attributes:
        logits: (n,).
        image: Gradient times image, (n, height, width, channels).
        biases: {name of the step: bias gradients, (n, *shape)}.
    """

    logits: np.ndarray
    image: np.ndarray
    biases: dict

    def total(self):
        """Returns the sum of all terms, float64 (n,): the logits, up to rounding."""
        terms = (self.image, *self.biases.values())
        return sum(np.sum(term, axis=tuple(range(1, term.ndim)), dtype="float64") for term in terms)


class FullGradient:
    """Full-Grad maps.

    As in the paper, terms without spatial axes are left out of the map; each of the others is taken by magnitude,
    scaled to [0, 1] over the sample, enlarged bilinearly and summed over channels. `decompose` has them all.
    """

    def __init__(self, model, names, settings):
        parts = flat(model, split=True)
        kinds = [_bias_of(step.operation) for step in parts.steps]
        steps = [(step.inputs, step.outputs, step.run, kind) for step, kind in zip(parts.steps, kinds)]
        self._gradients = full_gradients(steps, parts.output)
        self._names = [
            step.name if len(step.outputs) == 1 else f"{step.name}[{k}]"
            for step, kind in zip(parts.steps, kinds)
            if kind
            for k in range(len(step.outputs))
        ]

    def __call__(self, images, targets):
        """Returns {"full-grad": maps}, (n, height, width), nowhere below zero."""
        parts, size = self.decompose(images, targets), images.shape[1:3]
        terms = [parts.image, *(term for term in parts.biases.values() if term.ndim == 4)]
        return {"full-grad": sum(_spread(term, size) for term in terms)}

    def decompose(self, images, targets):
        """Returns the `Decomposition` of the chosen logits.

        Args:
            images: Array (n, height, width, channels).
            targets: Class indices (n,).
        """
        logits, gradients, layer_gradients, biases = self._gradients(images, targets)
        named = zip(self._names, layer_gradients, biases, strict=True)
        terms = {name: np.asarray(gradient * bias) for name, gradient, bias in named}
        return Decomposition(np.asarray(logits), np.asarray(gradients * images), terms)


def _bias_of(operation):
    """How a step's bias is found: None, "offset" or "remainder", see `full_gradients`."""
    if type(operation) in _AFFINE and getattr(operation, "activation", activations.linear) is activations.linear:
        return "offset"
    function = operation.activation if type(operation) is layers.Activation else operation
    if function in _FUNCTIONS_WITHOUT_BIAS or type(operation) in _WITHOUT_BIAS or _is_plain_relu(operation):
        return None
    return "remainder"


def _is_plain_relu(operation):
    return type(operation) is layers.ReLU and operation.max_value is None and not np.asarray(operation.threshold).any()


def _spread(term, size):
    """Magnitudes (n, h, w, channels), scaled to [0, 1] in each sample, summed over channels, and enlarged."""
    magnitude, axes = np.abs(term), (1, 2, 3)
    low, high = magnitude.min(axes, keepdims=True), magnitude.max(axes, keepdims=True)
    scaled = (magnitude - low) / np.where(high > low, high - low, 1)
    summed = scaled.sum(axis=-1, keepdims=True)
    return np.asarray(ops.image.resize(summed, size, data_format="channels_last"))[..., 0]
