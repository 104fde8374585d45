"""Full-Grad: every term by hand, completeness, and the map by the paper's recipe."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers, ops

from pane_keras.evaluation.builders import alexnet, vgg16
from pane_keras.evaluation.methods import Settings, methods
from pane_keras.evaluation.methods.full_gradient import FullGradient

SHAPE = (4, 5, 2)


def decompose(model, images, targets):
    return FullGradient(model, ("full-grad",), Settings()).decompose(images, targets)


def logits(model, images, targets):
    """By the model itself, all of which end with logits here."""
    return np.asarray(model(images), "float64")[np.arange(len(images)), targets]


def assert_complete(model, images, targets, tolerance=1e-5):
    parts = decompose(model, images, targets)
    terms = (parts.image, *parts.biases.values())
    size = sum(np.abs(term).sum(axis=tuple(range(1, term.ndim))) for term in terms)
    np.testing.assert_allclose(parts.logits, logits(model, images, targets), rtol=1e-4, atol=1e-5)
    assert (np.abs(parts.total() - logits(model, images, targets)) <= tolerance * size).all()
    return parts


def test_by_hand():
    """x = (2, -1); hidden ReLU units 2 x0 + 1 = 5 and x1 - 3 = -4; logit 3 h0 + 4 h1 + 7 = 22."""
    x = keras.Input((1, 2, 1))
    h = layers.Dense(2, activation="relu", name="hidden")(layers.Flatten()(x))
    model = keras.Model(x, layers.Dense(1, name="scores")(h))
    model.get_layer("hidden").set_weights([np.array([[2, 0], [0, 1]]), np.array([1, -3])])
    model.get_layer("scores").set_weights([np.array([[3], [4]]), np.array([7])])
    parts = decompose(model, np.array([[[[2.0], [-1.0]]]], "float32"), [0])
    assert parts.logits.tolist() == [22]
    assert parts.image.ravel().tolist() == [12, 0]
    assert {name: term.ravel().tolist() for name, term in parts.biases.items()} == {
        "hidden (linear)": [3, 0], "scores": [7]}  # fmt: skip
    assert parts.total().tolist() == [22]


def test_the_implicit_bias_of_batch_normalization():
    """beta - gamma mean / sqrt(variance + epsilon), times the gradient behind it."""
    x = keras.Input((2, 2, 3))
    h = layers.BatchNormalization(name="norm", epsilon=0.5)(x)
    model = filled(x, layers.Dense(2, name="scores")(layers.Flatten()(h)))
    images = draw(3, 2, 2, 3)
    gamma, beta, mean, variance = model.get_layer("norm").get_weights()
    w, b = model.get_layer("scores").get_weights()
    parts = assert_complete(model, images, [0, 1, 1])
    bias = beta - gamma * mean / np.sqrt(variance + 0.5)
    for k, target in enumerate([0, 1, 1]):
        gradient = w[:, target].reshape(2, 2, 3)
        np.testing.assert_allclose(parts.biases["norm"][k], gradient * bias, rtol=1e-4, atol=1e-6)
        assert parts.biases["scores"][k].tolist() == [b[i] if i == target else 0 for i in range(2)]


def convolutional(x):
    h = layers.Conv2D(3, 3, padding="same", activation="relu")(layers.Rescaling(2.0, offset=-0.5)(x))
    return layers.Flatten()(layers.MaxPooling2D(padding="same")(layers.Conv2D(2, 2)(h)))


def residual(x):
    h = layers.Conv2D(3, 3, padding="same", activation="relu")(x)
    branch = layers.BatchNormalization()(layers.SeparableConv2D(3, 3, padding="same")(h))
    return layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([h, branch])))


def saturating(x):
    """ReLU6 at 6, a threshold, a sigmoid and a fused tanh have biases of their own."""
    h = layers.ReLU(max_value=0.5)(layers.Conv2D(3, 2)(x))
    h = layers.ReLU(threshold=0.1)(layers.DepthwiseConv2D(2, activation="tanh")(h))
    return layers.Flatten()(layers.Activation("sigmoid")(h) + layers.Activation("relu6")(h))


def gated(x):
    """Squeeze and excite: a product has the bias -x y."""
    h = layers.Conv2D(3, 2, activation="swish")(x)
    gate = layers.Dense(3, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(h))
    return layers.Flatten()(layers.Multiply()([h, gate]))


def normalized(x):
    h = layers.LayerNormalization()(layers.Conv2D(4, 2, activation="gelu")(x))
    left, right = ops.split(h, 2, axis=-1)
    return layers.Flatten()(ops.maximum(left, right) * 2.0 + 1.0)


def nested(x):
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3, padding="same", activation="relu")])
    return layers.Flatten()(inner(inner(x)))


@pytest.mark.parametrize("body", [convolutional, residual, saturating, gated, normalized, nested])
def test_terms_sum_to_the_logit(body):
    x = keras.Input(SHAPE)
    model = filled(x, layers.Dense(3)(body(x)))
    assert_complete(model, draw(4, *SHAPE), np.array([0, 1, 2, 1]))


@pytest.mark.parametrize("builder", [alexnet, vgg16])
@pytest.mark.parametrize("residual", [False, True])
def test_terms_sum_to_the_logit_of_the_papers_networks(builder, residual, randomize):
    """A ReLU network, as in the paper's proposition 1: biases are those of the parameters."""
    whole = randomize(builder((28, 28, 1), 3, 0.03, residual=residual))
    model = keras.Model(whole.input, whole.get_layer("logits").output)
    parts = assert_complete(model, draw(2, 28, 28, 1), np.array([2, 0]))
    weights = {layer.name for layer in whole.layers if layer.weights and getattr(layer, "use_bias", True)}
    assert {name.removesuffix(" (linear)") for name, term in parts.biases.items() if term.any()} == weights


def test_in_float64():
    """To float64 rounding, so nothing is left out that float32 would hide."""
    keras.config.set_dtype_policy("float64")
    try:
        x = keras.Input(SHAPE, dtype="float64")
        model = filled(x, layers.Dense(3)(saturating(x)))
        assert_complete(model, draw(2, *SHAPE).astype("float64"), np.array([0, 2]), tolerance=1e-13)
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_layer_without_bias_has_no_terms():
    x = keras.Input(SHAPE)
    h = layers.Conv2D(2, 2, use_bias=False, activation="relu")(x)
    model = keras.Model(x, layers.Dense(2, use_bias=False)(layers.Flatten()(h)))
    parts = assert_complete(model, draw(2, *SHAPE), [0, 1])
    assert not any(term.any() for term in parts.biases.values())


def rescaled(term):
    """One sample's (h, w, c): magnitudes moved and scaled to [0, 1], summed over channels."""
    magnitude = np.abs(term)
    span = magnitude.max() - magnitude.min()
    return ((magnitude - magnitude.min()) / span if span else np.zeros_like(magnitude)).sum(axis=-1)


def enlarged(values, height, width):
    """Bilinear, pixel centres at half pixels, edges repeated."""

    def weights(small, large):
        centres = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
        return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(small)))

    return weights(values.shape[0], height) @ values @ weights(values.shape[1], width).T


def test_the_map():
    x = keras.Input((6, 8, 2))
    h = layers.Conv2D(3, 2, strides=2, name="conv", activation="relu")(x)
    h = layers.Conv2D(2, 2, name="small")(h)
    model = filled(x, layers.Dense(3, name="scores", activation="softmax")(layers.Flatten()(h)))
    images, targets = draw(3, 6, 8, 2), np.array([0, 2, 1])
    parts = decompose(model, images, targets)
    assert {name: term.ndim for name, term in parts.biases.items()} == {"conv (linear)": 4, "small": 4, "scores": 2}
    maps = methods()["full-grad"].explain(model, images, targets)
    for k in range(3):
        spatial = (parts.biases[name][k] for name in ("conv (linear)", "small"))
        expected = rescaled(parts.image[k]) + sum(enlarged(rescaled(term), 6, 8) for term in spatial)
        np.testing.assert_allclose(maps[k], expected, rtol=1e-4, atol=1e-5)


def test_a_map_of_nothing():
    """Weights of zero: all terms are zero, and so is the map; no 0 / 0."""
    x = keras.Input(SHAPE)
    model = keras.Model(x, layers.Dense(2, kernel_initializer="zeros")(layers.Flatten()(layers.Conv2D(2, 2)(x))))
    maps = methods()["full-grad"].explain(model, draw(2, *SHAPE), 0)
    assert maps.shape == (2, 4, 5)
    assert not maps.any()
