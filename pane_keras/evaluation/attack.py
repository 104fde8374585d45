"""Guided adversarial attack (V.C.3, Fig. 6): I-FGSM, kept only where a map is most salient."""

from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from pane_keras.errors import InputError
from pane_keras.evaluation.checks import checked_bounds, checked_images, checked_percents, per_channel
from pane_keras.evaluation.classifier import classifier_of
from pane_keras.evaluation.perturbing import by_region
from pane_keras.evaluation.ranking import Ranking

# In percent of the pixels.
ATTACK_PERCENTS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


@dataclass(frozen=True)
class GuidedAttack:
    """Whose predicted class changed.

    Attributes:
        percents: Sizes of the regions.
        fooled: With the perturbation kept in each region, booleans (n, regions).
        fooled_whole: With the whole perturbation, booleans (n,): what a guided attack can reach.
    """

    percents: tuple
    fooled: np.ndarray
    fooled_whole: np.ndarray

    @property
    def success_rate(self):
        """Share of the samples whose predicted class changed, (regions,)."""
        return self.fooled.mean(axis=0)


def iterative_fgsm(model, images, *, step, bounds, limit=50, stride=7, iterations=10, batch_size=32, progress=False):
    """Returns images that I-FGSM (Kurakin et al.) made adversarial, an array like the images.

    Each iteration moves every pixel by `stride` steps along the sign of the gradient of the cross-entropy of the
    class that was predicted, and takes it back to within `limit` steps of the image (L-infinity) and to the bounds.
    The gradient is that of the log-odds, which has the same sign and does not vanish where the model is sure.

    Args:
        model: A Keras model, a `PaneModel` or a `Classifier`.
        images: Array (n, height, width, channels) in the model's own input units.
        step: 1/255 of the range of a pixel in input units: a number above 0, or one for each channel.
        bounds: Lowest and highest input, each a number or one for each channel.
        limit, stride: In steps, above 0; 50 and 7 in the paper.
        iterations: How many, at least 1; 10 in the paper.
        batch_size: Images that are computed at once; a `Classifier` has its own.
        progress: Whether to show a progress bar.

    Raises:
        PaneError: Wrong shapes, images outside the bounds, numbers that are not finite or not above 0, or a model whose
            logits cannot be read.
    """
    classifier = classifier_of(model, batch_size)
    images = checked_images(images, classifier)
    step = per_channel(step, images, "step", above=0)
    low, high = checked_bounds(bounds, images, step)
    limit, stride = (step * per_channel(v, images, word, above=0) for v, word in ((limit, "limit"), (stride, "stride")))
    if isinstance(iterations, bool) or not isinstance(iterations, (int, np.integer)) or iterations < 1:
        raise InputError(f"Expected iterations to be an int of at least 1. Received: {iterations!r}.")
    targets = classifier.predicted(images)
    lowest, highest = np.maximum(images - limit, low), np.minimum(images + limit, high)
    adversarial = images
    for _ in tqdm(range(iterations), disable=not progress, unit="iteration"):
        slope = np.sign(classifier.log_odds_gradients(adversarial, targets)).astype(images.dtype)
        adversarial = np.clip(adversarial - stride * slope, lowest, highest)
    return adversarial


def guided_attack(
    model,
    images,
    maps,
    adversarial,
    *,
    percents=ATTACK_PERCENTS,
    ranking=Ranking(),  # noqa: B008  frozen
    batch_size=32,
    progress=False,
):
    """Returns the `GuidedAttack`: only the pixels with the highest scores are taken from the adversarial images.

    Args:
        model: A Keras model, a `PaneModel` or a `Classifier`.
        images: Array (n, height, width, channels) in the model's own input units.
        maps: Array (n, height, width, channels) or (n, height, width).
        adversarial: The same images as `iterative_fgsm` or another attack made them; they do not depend on the map.
        percents: Sizes of the regions in percent; each is at least one pixel.
        ranking: The `Ranking` of the entries of a map.
        batch_size: Images that are computed at once; a `Classifier` has its own.
        progress: Whether to show a progress bar.

    Raises:
        PaneError: Wrong shapes, numbers that are not finite, or a model whose logits cannot be read.
    """
    classifier = classifier_of(model, batch_size)
    images, adversarial = (checked_images(array, classifier) for array in (images, adversarial))
    if adversarial.shape != images.shape:
        raise InputError(f"Expected adversarial images of shape {images.shape}. Received: {adversarial.shape}.")
    predicted = classifier.predicted(images)
    fooled = by_region(
        images,
        maps,
        "top",
        percents,
        lambda mask, index: np.where(mask, adversarial[index], images[index]),
        lambda changed, index: classifier.predicted(changed) != predicted[index],
        ranking=ranking,
        batch_size=classifier.batch_size,
        progress=progress,
    )
    return GuidedAttack(checked_percents(percents), fooled, classifier.predicted(adversarial) != predicted)
