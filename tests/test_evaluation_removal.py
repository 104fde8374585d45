"""Removal and logit changes on a linear classifier: by hand, and against a NumPy twin."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.evaluation import (
    Classifier,
    Ranking,
    change_logits,
    guided_attack,
    remove,
    remove_minor,
    remove_negative_salient,
    remove_salient,
)

# z0 = 1 + 0 - 3 + 8 = 6 and z1 = 0 for the image.
KERNEL = np.array([[1.0, 0], [0, 0], [-1, 0], [2, 0]])
IMAGE = np.array([1.0, 2, 3, 4]).reshape(1, 2, 2, 1)
COEFFICIENTS = KERNEL[:, 0].reshape(1, 2, 2, 1)


def linear(kernel=KERNEL, shape=(2, 2, 1), activation="softmax"):
    x = keras.Input(shape)
    model = keras.Model(x, layers.Dense(kernel.shape[1], activation=activation)(layers.Flatten()(x)))
    model.set_weights([kernel, np.zeros(kernel.shape[1])])
    return model


def small_cnn(channels=2, seed=0):
    x = keras.Input((7, 6, channels))
    y = layers.Conv2D(4, 3, activation="relu")(x)
    return filled(x, layers.Dense(3, activation="softmax")(layers.Flatten()(y)), seed)


def without_ties(*shape):
    """Images, float32, and maps, float64, without a zero."""
    images, maps = np.random.default_rng(0).normal(size=(2, *shape))
    return images.astype("float32"), maps


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def masks(maps, images, where, percents, ranking):
    """The regions by a sort of each sample's scores, largest first, without a tie."""
    scores = {"value": maps, "absolute": np.abs(maps), "contribution": maps * images}[ranking.by]
    scores = scores.sum(axis=-1, keepdims=True) if ranking.count == "pixels" else scores
    keys = {"top": -scores, "bottom": scores, "nearest_zero": np.abs(scores)}[where].reshape(len(maps), -1)
    for percent in percents:
        count = max(1, round(percent / 100 * keys.shape[1]))
        yield (keys <= np.sort(keys, axis=1)[:, count - 1, None]).reshape(scores.shape)


RANKINGS = [Ranking(by, count) for by in ("value", "absolute", "contribution") for count in ("pixels", "elements")]


# Removal


def test_removing_salient_pixels_by_hand():
    """Without pixel 3 z0 = -2, without 0 too it is -3; one pixel is the least."""
    found = remove_salient(linear(), IMAGE, COEFFICIENTS, black=0, percents=[1, 25, 50])
    before, after = sigmoid(6), sigmoid(np.array([-2, -2, -3]))
    np.testing.assert_allclose(np.exp(found.log_before), [before], rtol=1e-12)
    np.testing.assert_allclose(found.change, [after - before], rtol=1e-12)
    np.testing.assert_allclose(found.relative_change, [(after - before) / before], rtol=1e-12)
    np.testing.assert_allclose(found.average_probability_drop, after - before, rtol=1e-12)
    assert found.percents == (1, 25, 50)
    assert found.targets.tolist() == [0]


def test_removing_minor_pixels_by_hand():
    """Pixel 1 has the coefficient 0; of 0 and 2, which are as near to 0, the first one goes."""
    found = remove_minor(linear(), IMAGE, COEFFICIENTS, black=0, percents=[25, 50])
    np.testing.assert_allclose(found.change, [[0, sigmoid(5) - sigmoid(6)]], atol=1e-15)


def test_removing_negative_salient_pixels_by_hand():
    """Without pixel 2 z0 = 9; a black of -1 there gives 10."""
    for black, logit in ((0, 9), (-1, 10)):
        found = remove_negative_salient(linear(), IMAGE, COEFFICIENTS, black=black, percents=[25])
        np.testing.assert_allclose(found.change, [[sigmoid(logit) - sigmoid(6)]], rtol=1e-6)


def test_a_sigmoid_knows_no_other_class():
    found = remove_salient(linear(activation="sigmoid"), IMAGE, COEFFICIENTS, black=0, percents=[25], targets=1)
    np.testing.assert_array_equal(found.change, [[0]])
    np.testing.assert_allclose(np.exp(found.log_before), [0.5], rtol=1e-12)


def test_changes_where_the_probability_is_0_in_float32():
    """Class 1 has p = e^-600; taking pixel 3 off makes it e^200 times as large."""
    found = remove_salient(linear(100 * KERNEL), IMAGE, COEFFICIENTS, black=2, percents=[25], targets=1)
    np.testing.assert_allclose(found.log_before, [-600])
    np.testing.assert_allclose(found.log_after, [[-200]])
    assert np.isfinite(found.relative_change).all()


@pytest.mark.parametrize("where", ["top", "bottom", "nearest_zero"])
@pytest.mark.parametrize("ranking", RANKINGS, ids=lambda r: f"{r.by}-{r.count}")
def test_removal_against_a_twin(where, ranking):
    model, images, maps = small_cnn(), *without_ties(5, 7, 6, 2)
    black, percents, targets = np.array([-1.0, 0.5], "float32"), [1, 10, 50], [2, 1, 0, 1, 2]
    found = remove(
        model, images, maps, where, black=black, percents=percents, targets=targets, ranking=ranking, batch_size=2
    )
    rows = np.arange(5)
    before = np.asarray(model(images))[rows, targets]
    for k, mask in enumerate(masks(maps, images, where, percents, ranking)):
        after = np.asarray(model(np.where(mask, black, images)))[rows, targets]
        np.testing.assert_allclose(found.change[:, k], after - before, atol=2e-6)
        np.testing.assert_allclose(found.relative_change[:, k], after / before - 1, atol=1e-5)


def test_the_defaults_are_the_sizes_of_the_paper():
    model, images = small_cnn(), draw(2, 7, 6, 2)
    found = [remove_salient(model, images, images, black=0), remove_minor(model, images, images, black=0),
             remove_negative_salient(model, images, images, black=0),
             change_logits(model, images, images, step=1)]  # fmt: skip
    tenths = tuple(k / 10 for k in range(1, 11))
    assert [one.percents for one in found] == [
        tenths,
        tuple(range(1, 11)),
        tenths,
        tuple(k / 100 for k in range(1, 11)),
    ]
    assert guided_attack(model, images, images, images).percents == (0.5, 1, 1.5, 2, 2.5, 3)


def test_percents_in_any_order_and_of_one_number_of_pixels():
    """Of 42 pixels 1 and 2 % are one, 5 % are two, 30 % are 13."""
    model, (images, maps) = small_cnn(), without_ties(3, 7, 6, 2)
    found = remove_salient(model, images, maps, black=0, percents=[30, 2, 5, 1])
    each = [remove_salient(model, images, maps, black=0, percents=p).log_after[:, 0] for p in (30, 2, 5, 1)]
    np.testing.assert_allclose(found.log_after, np.transpose(each), atol=1e-6)
    np.testing.assert_array_equal(found.log_after[:, 1], found.log_after[:, 3])
    assert (np.diff(found.log_after[:, [0, 1, 2]], axis=1) != 0).all()


def test_black_pixels_stay():
    model, images = small_cnn(), np.full((1, 7, 6, 2), 0.25, "float32")
    found = remove_salient(model, images, draw(1, 7, 6, 2), black=0.25, percents=[100])
    np.testing.assert_array_equal(found.change, [[0]])


# Logit changes


def test_logit_changes_by_hand():
    """A step of 0.5 off pixel 3 takes 1 from z0, off pixel 2 it gives 0.5; the other class stays."""
    model = linear()
    top = change_logits(model, IMAGE, COEFFICIENTS, step=0.5, percents=[25, 50])
    np.testing.assert_array_equal(top.change, [[-1, -1.5]])
    bottom = change_logits(model, IMAGE, COEFFICIENTS, "bottom", step=0.5, percents=[25, 50])
    np.testing.assert_array_equal(bottom.change, [[0.5, 0.5]])
    assert top.intended.tolist() == bottom.intended.tolist() == [[True, True]]
    other = change_logits(model, IMAGE, COEFFICIENTS, step=0.5, percents=[25], targets=1)
    np.testing.assert_array_equal(other.change, [[0]])
    assert other.intended.tolist() == [[False]]


def test_shares_and_sums_over_samples():
    """Lowering pixel 3 lowers z0 by 1 of two samples of class 0, and that of class 1 not at all."""
    images = np.concatenate([IMAGE, 2 * IMAGE, -IMAGE])
    found = change_logits(linear(), images, np.repeat(COEFFICIENTS, 3, axis=0), step=0.5, percents=[25])
    assert found.targets.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(found.accumulated, [-2])
    np.testing.assert_allclose(found.share, [2 / 3])


@pytest.mark.parametrize("where", ["top", "bottom"])
@pytest.mark.parametrize("ranking", RANKINGS, ids=lambda r: f"{r.by}-{r.count}")
def test_logit_changes_against_a_twin(where, ranking):
    model, images, maps = small_cnn(), *without_ties(5, 7, 6, 2)
    step, percents, targets = np.array([0.1, 0.3], "float32"), [1, 10, 50], [2, 1, 0, 1, 2]
    found = change_logits(
        model, images, maps, where, step=step, percents=percents, targets=targets, ranking=ranking, batch_size=3
    )
    logits = Classifier(model).logits
    for k, mask in enumerate(masks(maps, images, where, percents, ranking)):
        expected = (logits(np.where(mask, images - step, images)) - logits(images))[np.arange(5), targets]
        np.testing.assert_allclose(found.change[:, k], expected, atol=2e-6)


def test_the_exact_sum_tells_the_direction_of_a_small_step():
    """V.C.5 with POS+NEG: within one linear piece the logit moves as the sum map says, by step times its entries."""
    model, images = small_cnn(), np.abs(draw(6, 7, 6, 2)) + 0.1
    maps = np.asarray(pane_keras.wrap(model).trace(images).saliency().sum, "float64")
    ranking = Ranking(count="elements")
    for where, extreme in (("top", maps.max(axis=(1, 2, 3))), ("bottom", maps.min(axis=(1, 2, 3)))):
        found = change_logits(model, images, maps, where, step=1e-3, percents=[1, 10], ranking=ranking)
        assert (found.share == 1).all()
        np.testing.assert_allclose(found.change[:, 0], -1e-3 * extreme, rtol=5e-3)
