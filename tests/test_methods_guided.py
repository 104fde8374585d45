"""Guided backpropagation: by hand, for every way to write a ReLU, and refused where it would be something else."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from bystanders import state_of
from keras import activations, layers, ops

from pane_keras.errors import UnsupportedLayerError
from pane_keras.evaluation.builders import alexnet, vgg16
from pane_keras.evaluation.methods import Explainers, chosen, methods
from pane_keras.evaluation.methods.guided import is_relu

GUIDED = "guided-backpropagation"
SHAPE = (4, 3, 2)


class OwnReLU(layers.ReLU):
    """A subclass is a ReLU too."""


def separate(layer):
    """Two hidden layers, with a ReLU of its own behind each."""

    def made(x):
        h = layer()(layers.Dense(7, name="first")(layers.Flatten()(x)))
        return layer()(layers.Dense(6, name="second")(h))

    return made


def fused(activation):
    def made(x):
        h = layers.Dense(7, activation=activation, name="first")(layers.Flatten()(x))
        return layers.Dense(6, activation=activation, name="second")(h)

    return made


# Whether it is cut at 6, which no unit reaches.
BODIES = {
    "fused": fused("relu"),
    "fused relu6": fused("relu6"),
    "layer": separate(layers.ReLU),
    "layer with a largest value": separate(lambda: layers.ReLU(max_value=50)),
    "subclass": separate(OwnReLU),
    "Activation": separate(lambda: layers.Activation("relu")),
    "Activation relu6": separate(lambda: layers.Activation("relu6")),
    "fused keras.ops": fused(ops.relu),
    "fused function of the framework": fused(tf.nn.relu),
    "fused function of the user": fused(lambda x: ops.maximum(x, 0)),
    "keras.ops": separate(lambda: ops.relu),
    "keras.ops relu6": separate(lambda: ops.relu6),
    "keras.activations": separate(lambda: activations.relu),
}


def network(body):
    x = keras.Input(SHAPE)
    return filled(x, layers.Dense(3, name="scores", activation="softmax")(body(x)))


def twin(model, images, targets):
    """The gradient in which every ReLU passes only what is above zero, of a unit above zero."""
    (w, b), (v, c), (u, _) = (
        [np.asarray(value, "float64") for value in model.get_layer(name).get_weights()]
        for name in ("first", "second", "scores")
    )
    first = images.reshape(len(images), -1) @ w + b
    second = np.maximum(first, 0) @ v + c
    rows = (second > 0) * np.maximum(u[:, targets].T, 0)
    rows = (first > 0) * np.maximum(rows @ v.T, 0)
    return (rows @ w.T).reshape(images.shape)


@pytest.mark.parametrize("name", BODIES)
def test_every_kind_of_relu(name):
    model, images, targets = network(BODIES[name]), draw(5, *SHAPE), [0, 1, 2, 0, 1]
    expected = twin(model, images, targets)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(methods()[GUIDED].explain(model, images, targets), expected, atol=1e-6)


def test_a_nested_model():
    """There, tf-keras-vis itself leaves the ReLUs alone."""
    inner = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(7, activation="relu", name="first")])
    x = keras.Input(SHAPE)
    h = layers.Dense(6, activation="relu", name="second")(inner(x))
    model, images = filled(x, layers.Dense(3, name="scores")(h)), draw(3, *SHAPE)
    flat = network(fused("relu"))
    by_name = {v.path.split("/", 1)[-1] if "sequential" in v.path else v.path: v for v in model.weights}
    for variable in flat.weights:
        variable.assign(by_name[variable.path])
    expected = twin(flat, images, [2, 1, 0])
    np.testing.assert_allclose(methods()[GUIDED].explain(model, images, [2, 1, 0]), expected, atol=1e-6)


def test_above_its_largest_value_a_relu6_has_no_gradient():
    """Unit 0 is saturated, unit 1 is not, unit 2 has a weight below zero."""
    x = keras.Input((1, 1, 3))
    h = layers.Dense(3, activation="relu6", use_bias=False, kernel_initializer="identity")(layers.Flatten()(x))
    model = keras.Model(x, layers.Dense(1, use_bias=False, name="scores")(h))
    model.get_layer("scores").set_weights([np.array([[2.0], [3.0], [-4.0]])])
    maps = methods()[GUIDED].explain(model, np.array([[[[7.0, 5.0, 1.0]]]], "float32"), 0)
    assert maps.ravel().tolist() == [0, 3, 0]


@pytest.mark.parametrize("builder", [alexnet, vgg16])
@pytest.mark.parametrize("residual", [False, True])
def test_the_papers_networks(builder, residual):
    """With fused ReLUs and with layers of their own, the maps differ from the gradient in many pixels."""
    model = builder((28, 28, 1), 3, 0.03, residual=residual)
    maps = Explainers(model, chosen([GUIDED, "gradient"])).explain(draw(2, 28, 28, 1))
    size = np.abs(maps["gradient"]).max()
    assert (np.abs(maps[GUIDED] - maps["gradient"]) > 1e-3 * size).mean() > 0.1


def test_the_users_layers_keep_their_activations():
    model = network(fused("relu"))
    before = state_of(model)
    kept = [layer.activation for layer in model.layers if hasattr(layer, "activation")]
    expected = np.asarray(model(draw(2, *SHAPE)))
    methods()[GUIDED].explain(model, draw(2, *SHAPE))
    assert [layer.activation for layer in model.layers if hasattr(layer, "activation")] == kept
    np.testing.assert_array_equal(np.asarray(model(draw(2, *SHAPE))), expected)
    assert state_of(model) == before


def test_what_is_a_relu():
    yes = [layers.ReLU(), layers.ReLU(6), layers.Activation("relu6"), activations.relu, OwnReLU()]
    no = [layers.LeakyReLU(), layers.ReLU(negative_slope=0.1), layers.ReLU(threshold=1.0), layers.PReLU(),
          layers.Activation("gelu"), activations.elu, layers.Dense(2, activation="relu")]  # fmt: skip
    assert all(map(is_relu, yes))
    assert not any(map(is_relu, no))


# Refused


@pytest.mark.parametrize("body", [separate(layers.LeakyReLU), fused("gelu"), fused("linear")])
def test_a_model_without_relus(body):
    with pytest.raises(UnsupportedLayerError, match=r"none that stands in its graph.*Choose the method 'gradient'"):
        methods()[GUIDED].explain(network(body), draw(1, *SHAPE))


@pytest.mark.parametrize("activation", ["relu", ops.relu, layers.ReLU()], ids=["name", "function", "layer"])
def test_a_relu_inside_a_layer(activation):
    x = keras.Input(SHAPE)
    h = layers.DepthwiseConv2D(2, activation=activation, name="depthwise")(x)
    model = filled(x, layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 1, activation="relu")(h))))
    with pytest.raises(UnsupportedLayerError, match=r"the ReLU of layer 'depthwise'.*fused into a DepthwiseConv2D"):
        methods()["guided-grad-cam"].explain(model, draw(1, *SHAPE))


def test_guided_that_is_the_plain_gradient():
    """Weights above zero: no gradient below zero meets a ReLU."""
    model = network(fused("relu"))
    for variable in model.weights:
        variable.assign(np.abs(variable.numpy()))
    with pytest.raises(UnsupportedLayerError, match="is the plain gradient: no ReLU stands between"):
        methods()[GUIDED].explain(model, np.abs(draw(2, *SHAPE)))
