"""Class activation maps, by tf-keras-vis: Grad-CAM, Grad-CAM++ and Score-CAM, over one layer with spatial axes.

A map is enlarged to the picture bilinearly, corners on corners, and is not normalised.
"""

import numpy as np

from pane_keras.evaluation.methods import peer
from pane_keras.evaluation.methods.flat import flat, spatial_layer
from pane_keras.keras_internals import same_names

# name -> (module, class) of tf-keras-vis, and the score.
_GRADIENT_WEIGHTED = {
    "grad-cam": ("gradcam", "Gradcam", peer.score),
    "grad-cam++": ("gradcam_plus_plus", "GradcamPlusPlus", peer.zero_score),
}


class ClassActivation:
    """Grad-CAM (Selvaraju and others 2017) and Grad-CAM++ (Chattopadhay and others 2018), of the logit.

    Raises:
        UnknownLayerError: No such layer with spatial axes.
        MissingExtraError: tf-keras-vis is not installed.
    """

    def __init__(self, model, names, settings):
        network, self._layer = _network(model, settings)
        self._made = {}
        for name in names:
            module, cls, score = _GRADIENT_WEIGHTED[name]
            self._made[name] = _peer_class(module, cls)(network), score

    def __call__(self, images, targets):
        """Returns {name: maps}, (n, height, width), nowhere below zero."""
        return {name: _maps(made, score(targets), images, self._layer) for name, (made, score) in self._made.items()}


class ScoreCAM:
    """Score-CAM (Wang and others 2020): one forward pass for each channel of the layer.

    tf-keras-vis applies a softmax of its own, so it is given the logits: channels are weighted by probabilities.

    Raises:
        UnknownLayerError: No such layer with spatial axes.
        MissingExtraError: tf-keras-vis is not installed.
    """

    def __init__(self, model, names, settings):
        network, self._layer = _network(model, settings)
        self._made = _peer_class("scorecam", "Scorecam")(network)

    def __call__(self, images, targets):
        """Returns {"score-cam": maps}, (n, height, width), nowhere below zero."""
        # One image at a time: it keeps a masked copy of the batch for each channel.
        maps = [
            _maps(self._made, peer.score([target]), image[None], self._layer) for image, target in zip(images, targets)
        ]
        return {"score-cam": np.concatenate(maps)}


def _network(model, settings):
    steps = flat(model)
    step = spatial_layer(steps.steps, settings.layer)
    network, names = steps.model()
    return network, names[step.name]


def _peer_class(module, name):
    return getattr(peer.module(module), name)


def _maps(made, score, images, layer):
    how = {"penultimate_layer": layer, "seek_penultimate_conv_layer": False, "normalize_cam": False}
    # It makes a model at every call, which Keras would number.
    with same_names():
        return np.asarray(made(score, images, **how))
