"""Grad-CAM, Grad-CAM++ and Score-CAM against their formulas, and the layer that they lie over."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers
from scipy import ndimage, special

from pane_keras.errors import UnknownLayerError
from pane_keras.evaluation.builders import alexnet, vgg16
from pane_keras.evaluation.methods import Explainers, Settings, chosen, methods
from pane_keras.evaluation.methods.flat import flat, spatial_layer

NAMES = ("grad-cam", "grad-cam++", "score-cam")
SHAPE = (8, 6, 2)


def network(activation="relu", head="softmax"):
    """Features (4, 3, 3) behind a ReLU, then global average pooling."""
    x = keras.Input(SHAPE)
    h = layers.Conv2D(3, 3, strides=2, padding="same", activation=activation, name="features")(x)
    pooled = layers.GlobalAveragePooling2D(name="pool")(h)
    return filled(x, layers.Dense(3, activation=head, name="scores")(pooled))


def features(model, images):
    return np.asarray(keras.Model(model.input, model.get_layer("features").output)(images), "float64")


def enlarged(values):
    """(h, w) to the picture, bilinearly, corners on corners."""
    return ndimage.zoom(values, (SHAPE[0] / values.shape[0], SHAPE[1] / values.shape[1]), order=1)


def explain(model, images, targets, names=NAMES, **how):
    return Explainers(model, chosen(list(names), Settings(**how))).explain(images, targets)


def test_grad_cam():
    """Channels weighted by the mean gradient, which is the weight of a logit / (h w) behind average pooling."""
    model, images, targets = network(), draw(3, *SHAPE), [0, 1, 2]
    maps, w = explain(model, images, targets, ["grad-cam"])["grad-cam"], model.get_layer("scores").get_weights()[0]
    for k, target in enumerate(targets):
        cam = np.maximum(features(model, images)[k] @ w[:, target] / 12, 0)
        np.testing.assert_allclose(maps[k], enlarged(cam), atol=1e-6)
    assert maps.max() > 0.01


def test_grad_cam_plus_plus():
    """alpha = g^2 / (2 g^2 + g^3 sum A), normalised; weights sum alpha relu(g): up to a factor exp(logit) a sample."""
    model, images, targets = network(), draw(3, *SHAPE), [0, 1, 2]
    maps, w = explain(model, images, targets, ["grad-cam++"])["grad-cam++"], model.get_layer("scores").get_weights()[0]
    for k, target in enumerate(targets):
        a, g = features(model, images)[k], np.broadcast_to(w[:, target] / 12, (4, 3, 3)).astype("float64")
        alpha = g**2 / (2 * g**2 + g**3 * a.sum((0, 1)))
        weights = (alpha / alpha.sum((0, 1)) * np.maximum(g, 0)).sum((0, 1))
        np.testing.assert_allclose(maps[k], enlarged(np.maximum(a @ weights, 0)), rtol=1e-4, atol=1e-6)
    assert maps.max() > 0.01


def test_grad_cam_plus_plus_of_large_logits():
    """tf-keras-vis multiplies by exp(logit), which leaves float32 at 88."""
    model = network()
    model.get_layer("scores").bias.assign([500.0, 0, -500])
    maps = explain(model, draw(2, *SHAPE), [0, 2], ["grad-cam++"])["grad-cam++"]
    assert np.isfinite(maps).all()
    model.get_layer("scores").bias.assign([0.0, 0, 0])
    expected = explain(model, draw(2, *SHAPE), [0, 2], ["grad-cam++"])["grad-cam++"]
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("head", ["softmax", None])
def test_score_cam(head):
    """Channels weighted by the probability of the picture that each lets through, whatever the model's head."""
    model, images, targets = network(head=head), draw(3, *SHAPE), [0, 1, 2]
    maps = explain(model, images, targets, ["score-cam"])["score-cam"]
    w, b = model.get_layer("scores").get_weights()
    for k, target in enumerate(targets):
        a, scores = features(model, images)[k], []
        for channel in np.moveaxis(a, -1, 0):
            large = enlarged(channel)
            mask = (large - large.min()) / (large.max() - large.min() + 1e-7)
            masked = (images[k] * mask[..., None])[None].astype("float32")
            logits = features(model, masked)[0].mean((0, 1)) @ w + b
            scores.append(special.softmax(logits)[target])
        np.testing.assert_allclose(maps[k], enlarged(np.maximum(a @ scores, 0)), rtol=1e-4, atol=1e-6)


# The layer


def test_a_named_layer_is_the_one_the_map_lies_over():
    x = keras.Input(SHAPE)
    h = layers.Conv2D(2, 3, name="low", activation="relu", padding="same")(x)
    h = layers.Conv2D(3, 3, name="high", activation="relu")(h)
    model, images = filled(x, layers.Dense(2)(layers.Flatten()(h))), draw(2, *SHAPE)
    low, high, default = (explain(model, images, 1, layer=name) for name in ("low", "high", None))
    for name in NAMES:
        np.testing.assert_array_equal(high[name], default[name])
        assert np.abs(low[name] - high[name]).max() > 1e-3


def test_a_layer_inside_a_nested_model():
    inner = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", name="features")],
        name="backbone",
    )
    x = keras.Input(SHAPE)
    pooled = layers.GlobalAveragePooling2D(name="pool")(inner(x))
    model = filled(x, layers.Dense(3, name="scores", activation="softmax")(pooled))
    same = network()
    same.set_weights(model.get_weights())
    images = draw(2, *SHAPE)
    maps, expected = explain(model, images, 0, layer="backbone/features"), explain(same, images, 0)
    for name in NAMES:
        np.testing.assert_allclose(maps[name], expected[name], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: vgg16((32, 32, 1), 2, 0.02), "block5_conv3"),
        (lambda: vgg16((32, 32, 1), 2, 0.02, residual=True), "block5_conv3_relu"),
        (lambda: alexnet((28, 28, 1), 2, 0.02), "conv5"),
        (network, "features"),
    ],
)
def test_the_default_is_the_last_convolution_with_its_activation(model, expected):
    """The last layer with spatial axes but for pooling, as the paper chooses it (V)."""
    assert spatial_layer(flat(model()).steps).name == expected


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("pool", r"Received: 'pool'\. The model's last such layers: 'features'"),
        ("nothing", "Received: 'nothing'"),
    ],
)
def test_layers_without_spatial_axes(name, match):
    for method in NAMES:
        with pytest.raises(UnknownLayerError, match=match):
            methods(Settings(layer=name))[method].explain(network(), draw(1, *SHAPE))


def test_a_model_without_spatial_axes():
    x = keras.Input((2, 2, 1))
    model = filled(x, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(UnknownLayerError, match=r"Received: a model without one\. The model's last such layers: none"):
        methods()["grad-cam"].explain(model, draw(1, 2, 2, 1))


def test_a_map_of_nothing():
    """Nothing speaks for the class: the map is zero and not NaN."""
    model = network()
    w, b = model.get_layer("scores").get_weights()
    model.get_layer("scores").set_weights([-np.abs(w), b])
    maps = explain(model, draw(2, *SHAPE), 0)
    assert not maps["grad-cam"].any()
    assert not maps["grad-cam++"].any()
    dark = explain(network(), np.zeros((1, *SHAPE), "float32"), 0)
    assert all(np.isfinite(values).all() for values in dark.values())
