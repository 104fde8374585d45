"""Gradients, integrated gradients, SmoothGrad and random maps, against formulas written out in NumPy."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from pane_keras.errors import InputError
from pane_keras.evaluation.methods import Settings, methods

PROFILE = settings(
    deadline=None, max_examples=8, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SHAPE = (3, 2, 2)


def linear():
    x = keras.Input(SHAPE)
    return filled(x, layers.Dense(3, name="scores", activation="softmax")(layers.Flatten()(x)))


def perceptron(activation="relu"):
    """One hidden layer, small enough to write its gradient out."""
    x = keras.Input(SHAPE)
    h = layers.Dense(6, activation=activation, name="hidden")(layers.Flatten()(x))
    return filled(x, layers.Dense(3, name="scores", activation="softmax")(h))


def parts(model):
    weights = [value for name in ("hidden", "scores") for value in model.get_layer(name).get_weights()]
    return [np.asarray(value, "float64") for value in weights]


def twin(model, images, targets):
    """Logits and gradients of `perceptron` in float64."""
    w, b, v, c = parts(model)
    before = images.reshape(len(images), -1) @ w + b
    logits = np.maximum(before, 0) @ v + c
    gradients = [((before[k] > 0) * v[:, t]) @ w.T for k, t in enumerate(targets)]
    return logits[np.arange(len(images)), targets], np.reshape(gradients, images.shape)


def explain(name, model, images, targets=None, batch_size=4, **how):
    return methods(Settings(**how))[name].explain(model, images, targets, batch_size)


def test_the_gradient():
    model, images, targets = perceptron(), draw(5, *SHAPE), [0, 1, 2, 0, 1]
    expected = twin(model, images, targets)[1]
    np.testing.assert_allclose(explain("gradient", model, images, targets), expected, atol=1e-6)


# Integrated gradients


@PROFILE
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([0.0, -1.5, (0.5, 2.0)]))
def test_integrated_gradients_by_the_midpoint_rule(seed, steps, baseline):
    keras.utils.set_random_seed(seed)
    model, images, targets = perceptron(), draw(2, *SHAPE, seed=seed).astype("float64"), [0, 2]
    start = np.broadcast_to(np.asarray(baseline, "float64"), images.shape)
    total = sum(twin(model, start + (k + 0.5) / steps * (images - start), targets)[1] for k in range(steps))
    maps = explain("integrated-gradients", model, images, targets, steps=steps, baseline=baseline)
    # A point of the path can lie so close to a kink that float32 sees its other side; none of the seeds has one.
    np.testing.assert_allclose(maps, (images - start) * total / steps, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("baseline", [0.0, [1.0, -2.0], np.full(SHAPE, 0.3)])
def test_integrated_gradients_are_complete(activation, baseline):
    """They sum to f(x) - f(baseline), the better the more steps there are."""
    model, images, targets = perceptron(activation), draw(3, *SHAPE), np.array([0, 1, 2])
    logits = keras.Model(model.input, model.layers[-1].input)
    w, b = (np.asarray(value, "float64") for value in model.layers[-1].get_weights())
    start = np.broadcast_to(np.asarray(baseline, "float32"), images.shape)
    ends = [(np.asarray(logits(x)) @ w + b)[np.arange(3), targets] for x in (images, start)]
    errors = []
    for steps in (4, 256):
        maps = explain("integrated-gradients", model, images, targets, steps=steps, baseline=baseline)
        errors.append(np.abs(maps.sum((1, 2, 3)) - (ends[0] - ends[1])).max())
    # The rule's error is of order 1 / steps for a kink on the path and 1 / steps^2 without one.
    assert errors[1] < 0.02 * np.abs(ends[0] - ends[1]).max()
    assert errors[1] < errors[0] / 4 + 1e-5


def test_integrated_gradients_of_a_linear_model_are_exact_with_one_step():
    model, images = linear(), draw(2, *SHAPE)
    w = model.get_layer("scores").get_weights()[0]
    maps = explain("integrated-gradients", model, images, 1, steps=1, baseline=0.25)
    np.testing.assert_allclose(maps, (images - 0.25) * w[:, 1].reshape(SHAPE), atol=1e-6)


def test_at_the_baseline_integrated_gradients_are_zero():
    maps = explain("integrated-gradients", perceptron(), np.full((1, *SHAPE), 0.5), 0, baseline=0.5, steps=3)
    assert not maps.any()


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"steps": 0}, "at least one step. Received: steps=0"),
        ({"steps": 2.5}, "at least one step. Received: steps=2.5"),
        ({"baseline": [1.0, 2.0, 3.0]}, r"an image of shape \(3, 2, 2\). Received: \(3,\)"),
        ({"baseline": float("nan")}, "The baseline of integrated gradients is a finite number"),
        ({"baseline": "black"}, "Received: 'black'"),
    ],
)
def test_bad_settings_of_integrated_gradients(how, match):
    with pytest.raises(InputError, match=match):
        explain("integrated-gradients", perceptron(), draw(1, *SHAPE), **how)


# SmoothGrad


@pytest.mark.parametrize("how", [{"samples": 0}, {"samples": 1.5}, {"noise": 0.0}, {"noise": float("nan")}])
def test_smooth_grad_that_would_be_the_gradient(how):
    with pytest.raises(InputError, match=r"at least one noisy copy and noise above 0, or it is the plain gradient\."):
        explain("smooth-grad", perceptron(), draw(1, *SHAPE), **how)


def test_smooth_grad_with_hardly_any_noise_is_the_gradient():
    """With its sign and its channels: tf-keras-vis would take magnitudes and scale them to [0, 1]."""
    model, images = perceptron(), draw(3, *SHAPE)
    smooth = explain("smooth-grad", model, images, [2, 0, 1], samples=3, noise=1e-9)
    np.testing.assert_allclose(smooth, explain("gradient", model, images, [2, 0, 1]), atol=1e-6)


def test_smooth_grad_of_a_linear_model_is_its_weights():
    model = linear()
    w = model.get_layer("scores").get_weights()[0]
    maps = explain("smooth-grad", model, draw(2, *SHAPE), 2, samples=2, noise=1.0)
    np.testing.assert_allclose(maps, np.broadcast_to(w[:, 2].reshape(SHAPE), maps.shape), atol=1e-6)


def test_smooth_grad_is_a_mean_of_gradients_at_noisy_copies():
    """Noise is a share of the image's range, drawn from the seed; with other seeds there is other noise."""
    model, images = perceptron(), draw(2, *SHAPE)
    maps = [explain("smooth-grad", model, images, 0, seed=seed, samples=4, noise=0.5) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(maps[0], maps[1])
    assert np.abs(maps[0] - maps[2]).max() > 0
    w, _, v, _ = parts(model)
    # Each of the six ReLUs is open in k of the 4 copies: its share of the map is k / 4.
    span = w @ np.diag(v[:, 0])
    shares = np.linalg.lstsq(span, maps[0].reshape(2, -1).T, rcond=None)[0]
    np.testing.assert_allclose(shares * 4, np.round(shares * 4), atol=1e-3)
    assert (shares > -1e-3).all()
    assert (shares < 1 + 1e-3).all()


def test_smooth_grad_leaves_numpys_generator_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    explain("smooth-grad", perceptron(), draw(1, *SHAPE), samples=2)
    assert np.random.random() == expected


# Random


def test_random_maps_depend_on_the_seed_and_the_image_only():
    model, images = linear(), draw(4, *SHAPE)
    maps = explain("random", model, images)
    np.testing.assert_array_equal(maps, explain("random", model, images, 1, batch_size=3))
    np.testing.assert_array_equal(maps[2:3], explain("random", model, images[2:3]))
    assert maps.shape == images.shape
    assert ((maps >= 0) & (maps < 1)).all()
    assert len(np.unique(maps)) == maps.size
    assert not np.intersect1d(maps, explain("random", model, images, seed=1)).size
