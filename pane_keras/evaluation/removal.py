"""Removing pixels (V.A, V.B, V.C.4): how the probability of a class changes as a region of the map is set to black."""

from dataclasses import dataclass

import numpy as np

from pane_keras.evaluation.checks import checked_images, checked_percents, checked_targets, per_channel
from pane_keras.evaluation.classifier import classifier_of
from pane_keras.evaluation.perturbing import at, by_region
from pane_keras.evaluation.ranking import Ranking

# In percent of the pixels: Fig. 3, Tables I and II; and Fig. 4.
SALIENT_PERCENTS = tuple(k / 10 for k in range(1, 11))
MINOR_PERCENTS = tuple(float(k) for k in range(1, 11))


@dataclass(frozen=True)
class Removal:
    """The probability of each sample's class before and after, from float64 logarithms of it.

    Attributes:
        percents: Sizes of the regions.
        targets: Class of each sample, (n,).
        log_before: log p of the image as it is, (n,).
        log_after: log p with each region removed, (n, regions).
    """

    percents: tuple
    targets: np.ndarray
    log_before: np.ndarray
    log_after: np.ndarray

    @property
    def change(self):
        """p after - p before, (n, regions); below 0 where the probability dropped. Its mean is the paper's APD."""
        return np.exp(self.log_before)[:, None] * self.relative_change

    @property
    def relative_change(self):
        """(p after - p before) / p before, (n, regions), at least -1."""
        return np.expm1(self.log_after - self.log_before[:, None])

    @property
    def average_probability_drop(self):
        """Mean of `change` over the samples (APD), (regions,); negative for a drop, as in the paper's tables."""
        return self.change.mean(axis=0)


def remove_salient(model, images, maps, *, black, percents=SALIENT_PERCENTS, **how):
    """Removes the pixels with the highest scores (V.A, Fig. 3): a faithful map drops the probability much.

    Args:
        model: A Keras model, a `PaneModel` or a `Classifier`.
        images: Array (n, height, width, channels) in the model's own input units.
        maps: Array (n, height, width, channels) or (n, height, width).
        black: What removed pixels are set to, in input units: a number, or one for each channel.
        percents: Sizes of the regions in percent; each is at least one pixel.
        **how: `targets`, `ranking`, `batch_size` and `progress`, as for `remove`.

    Returns:
        A `Removal`.

    Raises:
        PaneError: Wrong shapes, numbers that are not finite, or a model whose logits cannot be read.
    """
    return remove(model, images, maps, "top", black=black, percents=percents, **how)


def remove_minor(model, images, maps, *, black, percents=MINOR_PERCENTS, **how):
    """Removes the pixels with scores nearest to 0 (V.B, Fig. 4): a faithful map changes little.

    Arguments, results and errors as for `remove_salient`.
    """
    return remove(model, images, maps, "nearest_zero", black=black, percents=percents, **how)


def remove_negative_salient(model, images, maps, *, black, percents=SALIENT_PERCENTS, **how):
    """Removes the pixels with the lowest, most negative scores of the sum map (V.C.4, Table II).

    If they hold the class down, its probability rises. Arguments, results and errors as for `remove_salient`.
    """
    return remove(model, images, maps, "bottom", black=black, percents=percents, **how)


def remove(
    model,
    images,
    maps,
    where,
    *,
    black,
    percents,
    targets=None,
    ranking=Ranking(),  # noqa: B008  frozen
    batch_size=32,
    progress=False,
):
    """Returns the `Removal` of the regions at one end of the ranking.

    Args:
        model, images, maps, black, percents: As for `remove_salient`.
        where: "top", "bottom" or "nearest_zero".
        targets: Class of each sample, (n,) or an int; by default the predicted one.
        ranking: The `Ranking` of the entries of a map.
        batch_size: Images that are computed at once; a `Classifier` has its own.
        progress: Whether to show a progress bar.

    Raises:
        PaneError: As `remove_salient`.
    """
    classifier = classifier_of(model, batch_size)
    images = checked_images(images, classifier)
    before = classifier.log_probabilities(images)
    targets, black = checked_targets(targets, before), per_channel(black, images, "black")
    after = by_region(
        images,
        maps,
        where,
        percents,
        lambda mask, index: np.where(mask, black, images[index]),
        lambda changed, index: at(classifier.log_probabilities(changed), targets[index]),
        ranking=ranking,
        batch_size=classifier.batch_size,
        progress=progress,
    )
    return Removal(checked_percents(percents), targets, at(before, targets), after)
