"""Logit changes (V.C.5, Tables III and IV): a step of one grey level taken off a region, and what the logit does."""

from dataclasses import dataclass

import numpy as np

from pane_keras.evaluation.checks import checked_images, checked_percents, checked_targets, chosen_from, per_channel
from pane_keras.evaluation.classifier import classifier_of
from pane_keras.evaluation.perturbing import at, by_region
from pane_keras.evaluation.ranking import Ranking

# In percent of the pixels.
LOGIT_PERCENTS = tuple(k / 100 for k in range(1, 11))


@dataclass(frozen=True)
class LogitChange:
    """What the logit of each sample's class did.

    Attributes:
        percents: Sizes of the regions.
        where: "top" (Table III) or "bottom" (Table IV).
        targets: Class of each sample, (n,).
        change: Logit after - logit before, (n, regions).
    """

    percents: tuple
    where: str
    targets: np.ndarray
    change: np.ndarray

    @property
    def intended(self):
        """Whether the logit fell (top) or rose (bottom), booleans (n, regions); one that stayed did neither."""
        return self.change < 0 if self.where == "top" else self.change > 0

    @property
    def accumulated(self):
        """Sum of the changes over the samples, (regions,)."""
        return self.change.sum(axis=0)

    @property
    def share(self):
        """Share of samples that changed as intended, (regions,)."""
        return self.intended.mean(axis=0)


def change_logits(
    model,
    images,
    maps,
    where="top",
    *,
    step,
    percents=LOGIT_PERCENTS,
    targets=None,
    ranking=Ranking(),  # noqa: B008  frozen
    batch_size=32,
    progress=False,
):
    """Returns the `LogitChange` for one end of the ranking.

    Pixels are lowered by the step and not clipped: at a pixel that is black already it goes below black.

    Args:
        model: A Keras model, a `PaneModel` or a `Classifier`.
        images: Array (n, height, width, channels) in the model's own input units.
        maps: Array (n, height, width, channels) or (n, height, width).
        where: "top": of the largest scores, the logit shall fall; "bottom": of the smallest, it shall rise.
        step: 1/255 of the range of a pixel in input units: a number above 0, or one for each channel.
        percents: Sizes of the regions in percent; each is at least one pixel.
        targets: Class of each sample, (n,) or an int; by default the predicted one.
        ranking: The `Ranking` of the entries of a map.
        batch_size: Images that are computed at once; a `Classifier` has its own.
        progress: Whether to show a progress bar.

    Raises:
        PaneError: Wrong shapes, numbers that are not finite, or a model whose logits cannot be read.
    """
    chosen_from(where, ("top", "bottom"), "where")
    classifier = classifier_of(model, batch_size)
    images = checked_images(images, classifier)
    logits = classifier.logits(images)
    targets, step = checked_targets(targets, logits), per_channel(step, images, "step", above=0)
    before = at(logits, targets)
    change = by_region(
        images,
        maps,
        where,
        percents,
        lambda mask, index: np.where(mask, images[index] - step, images[index]),
        lambda changed, index: at(classifier.logits(changed), targets[index]) - before[index],
        ranking=ranking,
        batch_size=classifier.batch_size,
        progress=progress,
    )
    return LogitChange(checked_percents(percents), where, targets, change)
