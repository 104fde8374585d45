"""Guided backpropagation (Springenberg and others 2015), by tf-keras-vis, for ReLUs of every kind.

tf-keras-vis changes the gradient of layers whose `activation` is a ReLU and leaves the others alone without a word. So
it is given a model in which every ReLU has an `Activation("relu")` of ours in front of it: a fused one is taken apart,
a layer or operation of its own follows it. ReLU(ReLU(x)) = ReLU(x), and a ReLU6 keeps its own gradient above 6.
"""

from dataclasses import replace

import keras
import numpy as np
from keras import activations, layers, ops

from pane_keras import backend
from pane_keras.errors import UnsupportedLayerError
from pane_keras.evaluation.heads import logits_of
from pane_keras.evaluation.methods import peer
from pane_keras.evaluation.methods.flat import OwnLayer, flat
from pane_keras.evaluation.methods.gradient_methods import inference

_RELUS = (activations.relu, activations.relu6)
# Names of the classes of operations that `keras.ops` and `keras.activations` make.
_OPERATIONS = ("Relu", "Relu6", "ReLU")


class GuidedBackpropagation:
    """The gradient with what is below zero left out behind every ReLU.

    Raises:
        UnsupportedLayerError: The model has no ReLU, or one that cannot be taken out of its layer; or (when called)
            the maps are the plain gradient, which would be something else under this name.
        MissingExtraError: tf-keras-vis is not installed.
    """

    def __init__(self, model, names, settings):
        parts = flat(model, split=True)
        _refuse_hidden(parts.steps, model.name)
        guided = replace(parts, steps=tuple(_with_own_relus(parts.steps, parts)))
        if len(guided.steps) == len(parts.steps):
            raise UnsupportedLayerError(
                f"Guided backpropagation changes the gradient of ReLUs, and model {model.name!r} has none that stands "
                "in its graph: it would be the plain gradient. Choose the method 'gradient'."
            )
        modifier = peer.module("utils.model_modifiers").GuidedBackpropagation()
        self._saliency = peer.module("saliency").Saliency(guided.model()[0], model_modifier=modifier, clone=False)
        self._plain = backend.input_gradients(inference(logits_of(model)))
        self._name, self._compared = model.name, False

    def __call__(self, images, targets):
        """Returns {"guided-backpropagation": maps}, (n, height, width, channels)."""
        maps = peer.saliency_map(self._saliency, images, targets)
        self._refuse_plain(maps, images, targets)
        return {"guided-backpropagation": maps}

    def _refuse_plain(self, maps, images, targets):
        """Looks at the first batch only: it costs a second gradient."""
        if self._compared:
            return
        plain = np.asarray(self._plain(images, targets))
        if np.allclose(maps, plain, rtol=1e-4, atol=1e-6 * np.abs(plain).max(initial=0)):
            raise UnsupportedLayerError(
                f"Guided backpropagation of model {self._name!r} is the plain gradient: no ReLU stands between the "
                "picture and the logits that a gradient below zero meets. Choose the method 'gradient'."
            )
        self._compared = True


def is_relu(operation):
    """Returns whether a layer, operation or function is a ReLU: 0 below 0, with or without a largest value."""
    if isinstance(operation, layers.Activation):
        operation = operation.activation
    if isinstance(operation, layers.ReLU) or type(operation).__name__ in _OPERATIONS:
        slopes = [getattr(operation, word, 0) for word in ("negative_slope", "threshold")]
        return not any(np.asarray(slope).any() for slope in slopes)
    return operation in _RELUS or _clips_below_zero(operation)


def _clips_below_zero(function):
    """Whether a function of another library, or of the user, is a ReLU by what it does."""
    if not callable(function) or isinstance(function, keras.Operation):
        return False
    x = np.array([-3, -1, -0.25, 0, 0.25, 1], "float32")
    try:
        return np.array_equal(np.asarray(function(ops.convert_to_tensor(x))), np.maximum(x, 0))
    except Exception:  # it may want any shape
        return False


def _with_own_relus(steps, parts):
    free = 1 + max([parts.output, *(i for step in steps for i in step.outputs)])
    for number, step in enumerate(steps):
        if is_relu(step.operation):
            between = (free + number,)
            own = OwnLayer(layers.Activation("relu", name=f"guided{number}", autocast=False))
            yield replace(step, name=f"{step.name} (guided)", operation=own, outputs=between)
            step = replace(step, inputs=between)
        yield step


def _refuse_hidden(steps, model):
    """A ReLU that is fused into a layer which cannot be taken apart keeps its own gradient."""
    for step in steps:
        own = isinstance(step.operation, layers.Layer) and not isinstance(step.operation, layers.Activation)
        if own and is_relu(getattr(step.operation, "activation", None)):
            raise UnsupportedLayerError(
                f"Guided backpropagation has to change the ReLU of layer {step.name!r} of model {model!r}, which is "
                f"fused into a {type(step.operation).__name__}. Build it with activation=None and a ReLU layer."
            )
