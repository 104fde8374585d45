"""Randomisation of a model's parameters (Adebayo et al. 2018): a map that stays the same explains no model."""

import random
from dataclasses import dataclass

import keras
import numpy as np
from tqdm.auto import tqdm

from pane_keras.errors import ModelError, UnknownLayerError
from pane_keras.evaluation.checks import checked_images, checked_maps, checked_targets
from pane_keras.evaluation.classifier import Classifier
from pane_keras.evaluation.similarity import rank_correlation
from pane_keras.keras_internals import same_names
from pane_keras.reading import as_functional, read_graph
from pane_keras.wrapping import PaneModel


@dataclass(frozen=True)
class Randomisation:
    """How alike the map of a model and that of its randomised clone are.

    Attributes:
        layers: Names of the layers down to which, from the top, the clone had new weights.
        value: Rank correlation with the map of the model as it is, (n, layers).
        absolute: The same of absolute values, which a flip of all signs does not change.
    """

    layers: tuple
    value: np.ndarray
    absolute: np.ndarray


def cascade_randomisation(model, images, explain, *, targets=None, at=None, seed=0, batch_size=32, progress=False):
    """Returns the `Randomisation` of a map: layers get new weights from the top, one more at a time (cascading).

    New weights are those of the layer's own initialisers; statistics of batch normalisation are as before training.
    What a `Normalization` layer has adapted to the data stays. Everything happens on a clone.

    Args:
        model: A Keras model that `keras.models.clone_model` takes, or a `PaneModel` of one.
        images: Array (n, height, width, channels) in the model's own input units.
        explain: Function (model, images, targets, batch_size) -> maps (n, height, width[, channels]).
        targets: Class of each sample, (n,) or an int; by default what the model predicts, before any randomisation.
        at: Names of the layers at which maps are compared, by default all that have weights. The layers above them
            are randomised in any case.
        seed: Of the new weights; initialisers with a seed of their own keep it.
        batch_size: Images that are computed at once.
        progress: Whether to show a progress bar.

    Raises:
        PaneError: Wrong shapes, a layer name without weights, or a model that cannot be cloned.
    """
    model = model.model if isinstance(model, PaneModel) else model
    classifier = Classifier(model, batch_size)
    images = checked_images(images, classifier)
    targets = checked_targets(targets, classifier.logits(images))
    clone, fresh = _clone(model), _fresh(model, seed)
    downwards = list(_weighted(clone))
    at = _checked_names(at, downwards)
    explained = lambda: checked_maps(explain(clone, images, targets, batch_size), images)  # noqa: E731
    original, rows = explained(), []
    pairs = list(zip(_weighted(clone).items(), _weighted(fresh).values(), strict=True))
    for (name, layer), new in tqdm(pairs, disable=not progress, unit="layer"):
        _assign(layer, new)
        if name in at:
            rows.append(_likeness(original, explained()))
    value, absolute = np.moveaxis(np.array(rows), 0, -1)
    return Randomisation(tuple(name for name in downwards if name in at), value, absolute)


def _likeness(maps, others):
    return rank_correlation(maps, others), rank_correlation(np.abs(maps), np.abs(others))


def _clone(model):
    """Returns a model with layers of its own and the same weights."""
    clone = _fresh(model, 0)
    clone.set_weights(model.get_weights())
    return clone


def _fresh(model, seed):
    """Returns a clone with new weights, and leaves what Keras draws seeds and counts names from as it was."""
    state = random.getstate()
    try:
        random.seed(seed)
        with same_names():
            return keras.models.clone_model(as_functional(model))
    except Exception as error:  # whatever the config of a user's layer raises
        raise ModelError(
            f"Model {model.name!r} cannot be cloned to get new weights: {' '.join(str(error).split())} Give its layers "
            "a get_config() from which keras.models.clone_model rebuilds them; a subclassed model is built "
            "functionally instead: keras.Model(inputs, outputs)."
        ) from None
    finally:
        random.setstate(state)


def _weighted(model):
    """Layers with weights to train, from the top, by the name of the last call of each."""
    layers = {}
    for call in reversed(read_graph(model).calls):
        layer = call.operation
        if isinstance(layer, keras.layers.Normalization) or not any(map(_is_float, getattr(layer, "weights", ()))):
            continue
        if all(layer is not other for other in layers.values()):
            layers[call.name] = layer
    return layers


def _is_float(variable):
    return keras.backend.is_float_dtype(variable.dtype)


def _assign(layer, new):
    """Takes over the weights; what is no float is the state of a random generator."""
    for variable, value in zip(layer.weights, new.weights, strict=True):
        if _is_float(variable):
            variable.assign(value)


def _checked_names(at, known):
    if at is None:
        return known
    unknown = [name for name in at if name not in known]
    if unknown or not at or isinstance(at, str):
        raise UnknownLayerError(f"Expected a list of names of layers with weights, of {known}. Received: {at!r}.")
    return list(at)
