"""Input gradients against formulas and finite differences."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers, ops
from scipy import special

from pane_keras import backend
from pane_keras.evaluation import Classifier


def tanh_network(dtype="float64"):
    x = keras.Input((4, 3, 2), dtype=dtype)
    y = layers.Dense(5, activation="tanh", dtype=dtype)(layers.Flatten(dtype=dtype)(x))
    return filled(x, layers.Dense(3, activation="softmax", dtype=dtype)(y))


def forward(model, images):
    """Hidden values and logits, float64."""
    w1, b1, w2, b2 = (np.asarray(w, "float64") for w in model.weights)
    hidden = np.tanh(images.reshape(len(images), -1) @ w1 + b1)
    return hidden, hidden @ w2 + b2


def backward(model, images, weights):
    """Gradient of `weights * logits` by the chain rule, float64."""
    w1, _, w2, _ = (np.asarray(w, "float64") for w in model.weights)
    hidden, _ = forward(model, images)
    return (((weights @ w2.T) * (1 - hidden**2)) @ w1.T).reshape(images.shape)


def test_the_chosen_output_by_the_chain_rule():
    model, images, targets = tanh_network(), draw(3, 4, 3, 2).astype("float64"), [2, 0, 1]
    found = backend.input_gradients(Classifier(model).head.logits)(images, targets)
    np.testing.assert_allclose(found, backward(model, images, np.eye(3)[targets]), atol=1e-14)


def test_gradients_in_float32():
    model, images, targets = tanh_network("float32"), draw(3, 4, 3, 2), [2, 0, 1]
    found = backend.input_gradients(Classifier(model).head.logits)(images, targets)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, backward(model, images, np.eye(3)[targets]), atol=1e-6)


def test_log_odds_by_the_chain_rule():
    """d log p_t / (1 - p_t) = d z_t - sum of softmax over the others of d z_j."""
    model, images = tanh_network(), draw(4, 4, 3, 2).astype("float64")
    _, logits = forward(model, images)
    targets = logits.argmax(axis=1)
    chosen = np.eye(3)[targets]
    others = special.softmax(np.where(chosen > 0, -np.inf, logits), axis=1)
    found = Classifier(model, batch_size=3).log_odds_gradients(images, targets)
    np.testing.assert_allclose(found, backward(model, images, chosen - others), atol=1e-14)
    # It is the gradient of log p over 1 - p.
    probabilities = special.softmax(logits, axis=1)
    slope = backward(model, images, chosen - probabilities)
    sure = 1 - np.take_along_axis(probabilities, targets[:, None], 1)
    np.testing.assert_allclose(found, slope / sure[:, :, None, None], atol=1e-13)


def test_log_odds_do_not_vanish_where_the_model_is_sure():
    x = keras.Input((1, 1, 1))
    model = keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))
    model.set_weights([np.array([[500.0, 0.0, -3.0]]), np.zeros(3)])
    images = np.ones((1, 1, 1, 1), "float32")
    assert float(model(images)[0, 0]) == 1
    # All other classes together go with the second one: their share of the third is e^-3 / (1 + e^-3).
    expected = 500 + 3 * np.exp(-3) / (1 + np.exp(-3))
    np.testing.assert_allclose(Classifier(model).log_odds_gradients(images, [0]), expected, rtol=1e-6)


def test_no_path_is_zero():
    found = backend.input_gradients(lambda x: ops.ones((2, 3)))(draw(2, 5), [0, 1])
    np.testing.assert_array_equal(found, np.zeros((2, 5)))


def test_more_than_the_inputs_are_passed_on():
    found = backend.gradients_of(lambda x, w: ops.sum(x * x * w, axis=1))(
        np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])
    )
    np.testing.assert_array_equal(found, [[6, 20]])


@pytest.mark.parametrize("sizes", [(1, 4, 2, 4)])
def test_batches_of_any_size_are_compiled_once(sizes):
    traced = []

    def double(x):
        traced.append(x.shape)
        return 2 * x

    function = backend.any_batch(double)
    for size in sizes:
        np.testing.assert_array_equal(function(np.ones((size, 3), "float32")), np.full((size, 3), 2))
    assert len(traced) == 1
    function(np.ones((1, 4), "float32")), function(np.ones((1, 3), "float64"))
    assert len(traced) == 3
