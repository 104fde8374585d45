"""Rank correlations: class sensitivity, and agreement of the parts."""

import keras
import numpy as np
import pytest
from agreement import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from pane_keras.errors import InputError, NonFiniteError
from pane_keras.evaluation import (
    class_sensitivity,
    parts_agreement,
    rank_correlation,
    top_classes,
)

PROFILE = settings(deadline=None, max_examples=50, derandomize=True, database=None)


# Rank correlation


def twin(a, b):
    """Spearman's: Pearson's correlation of mean ranks, counted one by one."""
    ranks = [
        np.array([sum(y < x for y in values) + (sum(y == x for y in values) + 1) / 2 for x in values])
        for values in (a, b)
    ]
    x, y = (r - r.mean() for r in ranks)
    return (x @ y) / np.sqrt((x @ x) * (y @ y))


def test_correlations_by_hand():
    maps = np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    others = np.array([[10.0, 20, 1e300], [-1, -2, -3], [2, 1, 3], [1, 1, 2]])
    # 1 - 6 sum d^2 / (n (n^2 - 1)) is 1 - 6 * 2 / 24; with a tie, 1.5 / sqrt(2 * 1.5).
    np.testing.assert_allclose(rank_correlation(maps, others), [1, -1, 0.5, 1.5 / np.sqrt(3)])


@PROFILE
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
def test_correlations_against_a_twin(pairs):
    a, b = np.array(pairs, "float64").T
    found = rank_correlation(a[None], b[None])[0]
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(found)
    else:
        np.testing.assert_allclose(found, twin(a, b), atol=1e-12)


@pytest.mark.parametrize("power", [-1000, -3, 900])
def test_scales_do_not_matter(power):
    maps, others = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 2))
    expected = rank_correlation(maps, others)
    np.testing.assert_array_equal(rank_correlation(np.ldexp(maps, power), others), expected)


@pytest.mark.parametrize(("a", "b"), [((2, 3), (2, 4)), ((3,), (3,)), ((2, 1), (2, 1))])
def test_maps_that_do_not_fit(a, b):
    with pytest.raises(InputError, match="two arrays of maps of one shape"):
        rank_correlation(np.zeros(a), np.zeros(b))


def test_maps_that_are_not_finite():
    with pytest.raises(NonFiniteError, match="maps hold a NaN"):
        rank_correlation(np.zeros((1, 3)), np.array([[0, np.nan, 1]]))


# Agreement


def test_agreement_by_hand():
    positive = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4]])
    np.testing.assert_allclose(parts_agreement(positive, -(positive**3)), [1, 1])
    np.testing.assert_allclose(parts_agreement(positive, [[-2, -1, -4, -3], [1, 2, 3, 4]]), [0.6, -1])


def test_agreement_of_mantissas():
    """Mantissas in float32, and a scale of its own for each sample."""
    positive = draw(2, 3, 3, 2) * np.float32(2) ** 126
    np.testing.assert_allclose(parts_agreement(positive, -positive / np.float32(2) ** 60), [1, 1])


# Class sensitivity


def linear(classes=3):
    x = keras.Input((2, 2, 1))
    model = keras.Model(x, layers.Dense(classes, activation="softmax")(layers.Flatten()(x)))
    kernel = np.array([[1.0, 0, 0], [0, 2, 1], [0, 1, 3], [0, 3, 2]])
    model.set_weights([kernel[:, :classes], np.zeros(classes)])
    return model


def coefficients(model, images, targets, batch_size):
    """The map of a linear classifier: a column of its kernel."""
    del images, batch_size
    kernel = np.asarray(model.layers[-1].kernel, "float64")
    return kernel.T[np.asarray(targets)].reshape(-1, 2, 2, 1)


def test_top_classes_by_hand():
    """Logits (1, 6, 6) and (4, 0, 0): the lower class first on ties."""
    images = np.array([[1.0, 1, 1, 1], [4, 0, 0, 0]]).reshape(2, 2, 2, 1)
    np.testing.assert_array_equal(top_classes(linear(), images, 3), [[1, 2, 0], [0, 1, 2]])
    np.testing.assert_array_equal(top_classes(linear(), images), [[1, 2], [0, 1]])


def test_class_sensitivity_by_hand():
    """Kernels (0, 2, 1, 3) and (0, 1, 3, 2) differ by (0, 1, 2, 1) ranks: 1 - 6 * 6 / 60."""
    images = np.ones((1, 2, 2, 1))
    found = class_sensitivity(linear(), images, coefficients, others=2)
    expected = [0.4, twin(np.array([0, 2, 1, 3]), np.array([1, 0, 0, 0]))]
    np.testing.assert_allclose(found, [expected], atol=1e-12)


def test_a_map_that_is_blind_to_the_class():
    images = draw(3, 2, 2, 1)
    blind = class_sensitivity(linear(), images, lambda model, images, targets, size: np.abs(images) + images)
    np.testing.assert_allclose(blind, np.ones((3, 1)))


def test_a_constant_map_has_no_order():
    found = class_sensitivity(linear(), draw(2, 2, 2, 1), lambda model, images, targets, size: np.ones((2, 2, 2)))
    assert np.isnan(found).all()


@pytest.mark.parametrize("others", [0, 3, 1.0, True])
def test_there_are_other_classes(others):
    if others in (1, True):
        with pytest.raises(InputError, match="number of classes from 1 to 3"):
            top_classes(linear(), draw(1, 2, 2, 1), others)
        return
    count = 0 if others == 0 else others + 1
    with pytest.raises(InputError, match=rf"number of classes from 1 to 3\. Received: {count}"):
        top_classes(linear(), draw(1, 2, 2, 1), count)


def test_maps_of_an_explainer_that_do_not_fit():
    with pytest.raises(InputError, match=r"Expected maps of shape \(2, 2, 2, 1\)"):
        class_sensitivity(linear(), draw(2, 2, 2, 1), lambda *_: np.zeros((2, 3, 3)))
