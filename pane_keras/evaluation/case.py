"""What an experiment is given: the maps of one method on some images, and what may be asked of the model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pane_keras.evaluation.ranking import Ranking


@dataclass(frozen=True)
class Case:
    """What an experiment is given.

    Attributes:
        model: The Keras model.
        classifier: Its `Classifier`.
        method: The `Method` that made the maps.
        images: Array (n, height, width, channels) in the model's own input units.
        targets: Class that is explained of each, (n,).
        maps: {name of a method: maps of these images}, those of `method` among them.
        ranking: The `Ranking`, or None.
        black, step: In input units, see `remove_salient` and `change_logits`.
        adversarial: Function () -> the images as `iterative_fgsm` made them.
        others: Function () -> the maps of `method` for each image's highest class but the target.
        seed: Of new weights.
    """

    model: object
    classifier: object
    method: object
    images: np.ndarray
    targets: np.ndarray
    maps: dict
    ranking: Ranking | None = None
    black: object = 0.0
    step: object = 1.0
    adversarial: Callable | None = None
    others: Callable | None = None
    seed: int = 0

    def how(self):
        """Returns what the metrics of a region are given: model, images, maps, and the ranking by name."""
        return (self.classifier, self.images, self.maps[self.method.name]), {"ranking": self.ranking}
