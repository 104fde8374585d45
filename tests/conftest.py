"""Small models and seeded inputs that several test files share."""

import keras
import numpy as np
import pytest
from keras import layers

import pane_keras.registry


@pytest.fixture(autouse=True)
def seeded():
    """Weights, inputs and noise are the same in every run."""
    keras.utils.set_random_seed(7)


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    for table in ("_RULES", "_ACTIVATIONS"):
        monkeypatch.setattr(pane_keras.registry, table, dict(getattr(pane_keras.registry, table)))


@pytest.fixture
def randomize():
    """Function that gives every weight of a model, biases and statistics too, a random value, and returns the model."""
    return randomizer()


def randomizer():
    rng = np.random.default_rng(11)

    def fill(model):
        for variable in model.weights:
            shape = tuple(variable.shape)
            spread = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.3
            value = rng.normal(0, spread, shape)
            positive = "variance" in variable.path or "gamma" in variable.path
            variable.assign(np.abs(value) + 0.5 if positive else value)
        return model

    return fill


@pytest.fixture
def inputs_for():
    """Function (model, batch) -> one random array, or a list of them for several inputs; a tenth of it is 0."""
    rng = np.random.default_rng(13)

    def draw(model, batch=2):
        arrays = [_sparse_normal(rng, (batch, *tensor.shape[1:])) for tensor in model.inputs]
        return arrays if len(arrays) > 1 else arrays[0]

    return draw


def _sparse_normal(rng, shape):
    return np.where(rng.random(shape) < 0.1, 0, rng.normal(size=shape)).astype("float32")


@pytest.fixture
def cnn(randomize):
    """A chain with fused activations, one of them the final softmax."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="picture"),
            layers.Conv2D(4, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(5, 3, padding="same", name="conv2"),
            layers.ReLU(name="relu2"),
            layers.Flatten(name="flatten"),
            layers.Dense(4, activation="softmax", name="predictions"),
        ],
        name="cnn",
    )
    return randomize(model)


@pytest.fixture
def residual(randomize):
    """A graph with a residual Add and a Concatenate, BatchNormalization, and logits without a softmax."""
    return randomize(residual_model())


@pytest.fixture(scope="session")
def residual_pane():
    """`residual` with the same weights, wrapped once for all tests that change nothing in it."""
    return pane_keras.wrap(randomizer()(residual_model()))


@pytest.fixture(scope="session")
def residual_trace(residual_pane):
    """A trace of `residual_pane`, for tests that change nothing in it."""
    return residual_pane.trace(_sparse_normal(np.random.default_rng(13), (2, 6, 6, 2)))


def residual_model():
    x = keras.Input((6, 6, 2), name="picture")
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    stem = layers.BatchNormalization(name="stem_norm")(stem)
    stem = layers.ReLU(name="stem_relu")(stem)
    branch = layers.Conv2D(4, 3, padding="same", name="branch")(stem)
    added = layers.Add(name="add")([stem, branch])
    relu = layers.ReLU(name="add_relu")(added)
    side = layers.Conv2D(3, 1, name="side")(relu)
    joined = layers.Concatenate(name="concat")([relu, side])
    pooled = layers.GlobalAveragePooling2D(name="pool")(joined)
    scores = layers.Dense(5, name="scores")(pooled)
    return keras.Model(x, scores, name="residual")


@pytest.fixture
def two_inputs(randomize):
    """A model with two inputs, named left and right."""
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    a = layers.Dense(5, activation="relu", name="dense_left")(left)
    b = layers.Dense(5, activation="relu", name="dense_right")(right)
    scores = layers.Dense(3, name="scores")(layers.Subtract(name="minus")([a, b]))
    return randomize(keras.Model([left, right], scores, name="two_inputs"))


@pytest.fixture
def two_outputs(randomize):
    """A model with two outputs, a softmax head named kind and plain numbers named size."""
    x = keras.Input((6,), name="features")
    hidden = layers.Dense(7, activation="relu", name="hidden")(x)
    kind = layers.Dense(3, activation="softmax", name="kind")(hidden)
    size = layers.Dense(2, name="size")(hidden)
    return randomize(keras.Model(x, [kind, size], name="two_outputs"))


@pytest.fixture
def nested(randomize):
    """A backbone inside a model, and a layer that is called twice."""
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu", name="conv1"),
            layers.GlobalMaxPooling2D(name="pool"),
        ],
        name="backbone",
    )
    x = keras.Input((6, 6, 2), name="picture")
    shared = layers.Dense(3, activation="relu", name="dense")
    scores = layers.Dense(2, name="scores")(shared(shared(inner(x))))
    return randomize(keras.Model(x, scores, name="nested"))


def true_values(mantissa, scale):
    """Returns `mantissa * 2**scale` in float64; the scale has the leading axes of the mantissa."""
    mantissa, scale = np.asarray(mantissa, "float64"), np.asarray(scale)
    return np.ldexp(mantissa, scale.reshape(*scale.shape, *[1] * (mantissa.ndim - scale.ndim)))


@pytest.fixture
def parts():
    """Function map -> (positive, negative, sum) in float64, with the scales applied."""

    def read(maps):
        log2_scale, sum_log2_scale = maps.log2_scale, maps.sum_log2_scale
        return (
            true_values(maps.positive, log2_scale),
            true_values(maps.negative, log2_scale),
            true_values(maps.sum, sum_log2_scale),
        )

    return read
