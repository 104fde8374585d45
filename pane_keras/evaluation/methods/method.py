"""`Method`: one way of explaining a classifier's decision by a map over the picture; and many of them in few passes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from pane_keras import backend
from pane_keras.errors import InputError
from pane_keras.evaluation.heads import logits_of
from pane_keras.inputs import prepare_inputs
from pane_keras.reading import read_graph
from pane_keras.selection import checked_classes
from pane_keras.wrapping import PaneModel


@dataclass(frozen=True)
class Settings:
    """What methods can be told.

    Attributes:
        split_below: Layer at and below which `pos-split` tells positive from negative; None for the middle one of the
            layers with a kernel.
        layer: Layer that class activation maps lie over; None for the last one with spatial axes that does not pool.
        steps: Points on the path of integrated gradients.
        baseline: Where that path starts, in the model's input units: a number, one a channel, or an image.
        samples: Noisy copies of each image in SmoothGrad.
        noise: Their standard deviation, as a share of the image's range.
        seed: Of the noise, and of the random maps.
    """

    split_below: str | None = None
    layer: str | None = None
    steps: int = 32
    baseline: object = 0.0
    samples: int = 20
    noise: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """One way of explaining a classifier.

    Attributes:
        name: What it is asked for by.
        title: What tables call it.
        about: What it is, in one line.
        settings: What it was told.
        family: Function (model, names, settings) -> function (images, targets) -> {name: maps}: what computes this
            map, and others that share its passes; None for a product.
        factors: Two methods that it is the product of.
        extra: The extra of `pane-keras` that it needs, or None.
    """

    name: str
    title: str
    about: str
    settings: Settings
    family: Callable | None = None
    factors: tuple = ()
    extra: str | None = None

    def explain(self, model, images, targets=None, batch_size=8):
        """Returns maps of images, float32 or float64 (n, height, width, channels) or (n, height, width).

        Only the order of the numbers within one map means anything: PANE's maps are mantissas, each in units of a power
        of two of its own.

        Args:
            model: A built Keras classifier, or a `PaneModel`.
            images: Array (n, height, width, channels) in the model's own input units.
            targets: Class indices (n,), or one class; None for each image's top class.
            batch_size: Images at a time.

        Raises:
            PaneError: The method cannot explain this model, or the images or classes do not fit it.
        """
        return Explainers(model, [self]).explain(images, targets, batch_size)[self.name]


class Explainers:
    """Methods that are ready to explain one model; methods that share a pass share it.

    Args:
        model: A built Keras classifier, or a `PaneModel`. Make new ones after its weights change.
        methods: `Method`s with different names.

    Raises:
        PaneError: A method cannot explain this model.
    """

    def __init__(self, model, methods):
        self._model = model.model if isinstance(model, PaneModel) else model
        self._graph, self._methods = read_graph(self._model), list(methods)
        logits = logits_of(self._model)
        self._classes_count = logits.output.shape[-1]
        self._logits = backend.any_batch(lambda some: logits(some, training=False))
        self._families = [
            family(self._model, tuple(names), settings) for family, settings, names in _families(self._methods)
        ]

    def explain(self, images, targets=None, batch_size=8, progress=False):
        """Returns {name: maps} of all methods; errors as for `Method.explain`.

        Args:
            images, targets, batch_size: As for `Method.explain`.
            progress: Whether to show a progress bar.
        """
        images = self._checked(images)
        targets = self._classes(images, targets, batch_size)
        batches, total = backend.batches([images, targets], batch_size)
        parts = {method.name: [] for method in self._methods}
        for (some, classes), count in tqdm(batches, total=total, disable=not progress, unit="batch"):
            for name, maps in self.explain_batch(some, classes).items():
                parts[name].append(maps[:count])
        return {name: np.concatenate(maps) for name, maps in parts.items()}

    def explain_batch(self, images, targets):
        """Returns {name: maps} of one batch: arrays (n, height, width, channels) and integers (n,)."""
        (tensor,) = prepare_inputs(self._graph, self._model.name, images, self._graph.specs[0].dtype)
        images, maps = np.asarray(tensor), {}
        for family in self._families:
            maps.update(family(images, targets))
        return {method.name: _map_of(method, maps) for method in self._methods}

    def _checked(self, images):
        images = np.asarray(images)
        if images.ndim != 4 or not len(images):
            raise InputError(
                f"Expected images (n, height, width, channels), at least one. Received: an array of {images.shape}."
            )
        return images

    def _classes(self, images, targets, batch_size):
        if targets is None:
            parts = [self._logits(images[k : k + batch_size]) for k in range(0, len(images), batch_size)]
            return np.argmax(np.concatenate(list(map(np.asarray, parts))), axis=-1).astype("int32")
        chosen = checked_classes(targets, (len(images), self._classes_count), "logits")
        return np.broadcast_to(np.asarray(chosen), (len(images),)).astype("int32")


def _families(methods):
    """[(family, settings, names)] of all maps that are needed, factors of products included, each of them once."""
    grouped = {}
    for method in methods:
        for part in method.factors or (method,):
            key = part.family, id(part.settings)
            names = grouped.setdefault(key, (part.family, part.settings, []))[2]
            names += [part.name] if part.name not in names else []
    return list(grouped.values())


def _map_of(method, maps):
    if not method.factors:
        return maps[method.name]
    first, second = (maps[factor.name] for factor in method.factors)
    # A class activation map has no channels: it weighs all of a pixel's alike.
    return (first[..., None] if first.ndim < second.ndim else first) * second
