"""The metrics that quantus has as well, on the same model, images and maps. Its maps have the channels first."""

import keras
import numpy as np
import pytest
from agreement import filled
from keras import layers

import pane_keras
from pane_keras.evaluation import Classifier, Ranking, class_sensitivity, rank_correlation, remove_salient

quantus = pytest.importorskip("quantus", reason="quantus is in the extra `test` only")

SHAPE = (7, 6, 2)


def classifier(classes):
    x = keras.Input(SHAPE)
    y = layers.Conv2D(4, 3, activation="relu")(x)
    return filled(x, layers.Dense(classes, activation="softmax")(layers.Flatten()(y)))


def without_ties(count=5):
    images, maps = np.random.default_rng(0).normal(size=(2, count, *SHAPE))
    return images.astype("float32"), maps


def flipped(model, images, maps, targets, softmax):
    """What quantus' pixel flipping predicts after each step of 7 of the 84 elements, (n, 12)."""
    metric = quantus.PixelFlipping(
        features_in_step=7, perturb_baseline=0.5, abs=False, normalise=False, disable_warnings=True
    )
    maps = np.moveaxis(maps, -1, 1)
    return metric(model, images.copy(), targets, maps, softmax=softmax, channel_first=False)


@pytest.mark.parametrize("by", ["value", "absolute"])
def test_removal_is_pixel_flipping(by):
    model, (images, maps) = classifier(3), without_ties()
    targets, percents = np.array([0, 2, 1, 1, 0]), [100 * 7 * k / 84 for k in range(1, 13)]
    ranking = Ranking(by=by, count="elements")
    found = remove_salient(model, images, maps, black=0.5, percents=percents, targets=targets, ranking=ranking)
    expected = flipped(model, images, np.abs(maps) if by == "absolute" else maps, targets, softmax=True)
    np.testing.assert_allclose(np.exp(found.log_after), expected, atol=1e-6)


def test_logits_are_those_that_quantus_takes_the_softmax_off_for():
    """With all elements flipped, the last step is the logit of a grey picture."""
    model, (images, maps) = classifier(3), without_ties()
    targets = np.array([0, 2, 1, 1, 0])
    logits = Classifier(model).logits(np.full_like(images, 0.5))
    expected = np.array(flipped(model, images, maps, targets, softmax=False))[:, -1]
    np.testing.assert_allclose(logits[np.arange(5), targets], expected, atol=1e-6)


def test_class_sensitivity_is_the_random_logit_of_two_classes():
    """Quantus compares with another class drawn by chance, of which there is one."""
    model, (images, _) = classifier(2), without_ties()
    pane = pane_keras.wrap(model)

    def maps(images, targets):
        found = pane.explain(np.asarray(images, "float32"), np.asarray(targets))
        return np.asarray(found.positive).sum(axis=-1)

    metric = quantus.RandomLogit(
        similarity_func=quantus.similarity_func.correlation_spearman,
        num_classes=2,
        normalise=False,
        disable_warnings=True,
    )
    targets = np.asarray(model(images)).argmax(axis=1)
    expected = metric(
        model,
        images.copy(),
        targets,
        None,
        explain_func=lambda model, inputs, targets, **_: maps(inputs, targets),
        channel_first=False,
    )
    found = class_sensitivity(model, images, lambda model, images, targets, size: maps(images, targets))[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.abs(found) < 0.999).all()


def test_rank_correlation_is_that_of_quantus():
    _, maps = without_ties()
    others = np.round(maps[::-1], 1)
    expected = [quantus.similarity_func.correlation_spearman(a.ravel(), b.ravel()) for a, b in zip(maps, others)]
    np.testing.assert_allclose(rank_correlation(maps, others), expected, atol=1e-12)
