"""PANE's own maps as compared methods: what the trace gives, and the literal chain against the dense twin."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

import pane_keras
from pane_keras.errors import ModelError, UnknownLayerError
from pane_keras.evaluation.builders import vgg16
from pane_keras.evaluation.methods import Explainers, Settings, chosen, methods
from pane_keras.evaluation.methods.literal_chain import literal_chain
from pane_keras.evaluation.methods.pane_methods import middle_layer
from pane_keras.testing import dense_network

PROFILE = settings(
    deadline=None, max_examples=8, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def network(shape=(5, 5, 2), residual=True):
    """With biases, BatchNormalization, an Add and max pooling."""
    x = keras.Input(shape)
    h = layers.Conv2D(3, 3, padding="same", activation="relu", name="first")(x)
    branch = layers.BatchNormalization(name="norm")(layers.Conv2D(3, 3, padding="same", name="second")(h))
    h = layers.ReLU(name="relu")(layers.Add(name="add")([h, branch]) if residual else branch)
    h = layers.MaxPooling2D(padding="same")(layers.Conv2D(2, 2, padding="same", name="third")(h))
    return filled(x, layers.Dense(3, name="scores")(layers.Flatten()(h)))


def relative(actual, expected):
    return np.abs(actual - expected).max() / np.abs(expected).max()


def test_maps_are_those_of_the_trace():
    model, images = network(), draw(3, 5, 5, 2)
    maps = Explainers(model, chosen("pos,neg,pos+neg,pos-contribution,neg-contribution,pos+neg-contribution")).explain(
        images, [0, 1, 2]
    )
    expected = pane_keras.wrap(model).trace(images).saliency([0, 1, 2])
    for name, part in {"pos": "positive", "neg": "negative", "pos+neg": "sum"}.items():
        values = np.asarray(getattr(expected, part))
        assert relative(maps[name], values) < 1e-5
        assert relative(maps[f"{name}-contribution"], values * images) < 1e-5


def test_contributions_have_the_sign_of_the_logit():
    """A coefficient carries the sign of the pixel, coefficient times pixel does not (V.C.1); exact without biases."""
    x = keras.Input((5, 5, 2))
    h = layers.Conv2D(4, 3, use_bias=False, activation="relu")(x)
    model = keras.Model(x, layers.Dense(3, use_bias=False)(layers.Flatten()(layers.Conv2D(3, 2, use_bias=False)(h))))
    images = draw(6, 5, 5, 2)
    maps = Explainers(model, chosen("pos,pos-contribution,neg-contribution")).explain(images, 1)
    sign = np.sign(np.asarray(model(images)))[:, 1, None, None, None]
    assert set(sign.ravel()) == {-1, 1}
    for name, toward in {"pos-contribution": sign, "neg-contribution": -sign}.items():
        parts = maps[name] * toward
        assert parts.max() > 0
        assert parts.min() > -1e-5 * parts.max(), name
    assert (maps["pos"] < 0).any()
    assert (maps["pos"] > 0).any()


def test_all_maps_come_from_one_pass(monkeypatch):
    calls, explain = [], pane_keras.PaneModel.explain
    monkeypatch.setattr(
        pane_keras.PaneModel, "explain", lambda pane, *a, **k: (calls.append(k), explain(pane, *a, **k))[1]
    )
    wanted = chosen("pos,neg,pos+neg,pos-contribution,neg-contribution,pos+neg-contribution,pos-split")
    Explainers(network(), wanted).explain(draw(4, 5, 5, 2), None, 2)
    assert calls == [{}, {"split_below": "second"}] * 2


# Split below


@pytest.mark.parametrize("layer", ["first", "third", "pos", None])
def test_split_below(layer):
    model, images = network(), draw(2, 5, 5, 2)
    if layer == "pos":
        with pytest.raises(UnknownLayerError, match="The model has no layer 'pos'"):
            methods(Settings(split_below=layer))["pos-split"].explain(model, images)
        return
    maps = methods(Settings(split_below=layer))["pos-split"].explain(model, images, 1)
    expected = pane_keras.wrap(model).trace(images).saliency(1, split_below=layer or "second").positive
    assert relative(maps, np.asarray(expected)) < 1e-5


def test_the_middle_layer():
    """Number L / 2, rounded up, of the layers with a kernel; normalizations have none."""
    assert middle_layer(pane_keras.wrap(network())) == "second"
    # 13 convolutions and 3 Dense layers: the eighth.
    assert middle_layer(pane_keras.wrap(vgg16((28, 28, 1), 2, 0.02, batch_normalization=True))) == "block4_conv1"


def test_no_middle_layer():
    x = keras.Input((2, 2, 3))
    model = keras.Model(x, layers.GlobalAveragePooling2D()(layers.ReLU()(x)), name="bare")
    with pytest.raises(ModelError, match=r"Model 'bare' has no layer with a kernel.*Settings\(split_below=\.\.\.\)"):
        methods()["pos-split"].explain(model, draw(1, 2, 2, 3))
    assert methods(Settings(split_below="re_lu"))["pos-split"] is not None


# Guided PANE


def test_guided_pane():
    model, images = network(), draw(2, 5, 5, 2)
    maps = Explainers(model, chosen("guided-pane,pos,guided-backpropagation")).explain(images)
    np.testing.assert_array_equal(maps["guided-pane"], maps["pos"] * maps["guided-backpropagation"])


# The literal chain


@pytest.mark.parametrize("residual", [False, True])
def test_the_literal_chain_is_the_dense_twin(residual):
    """P and N of float32 against dense matrices in float64, to float32 rounding; both have the bias and the gains."""
    model, images = network(residual=residual), draw(2, 5, 5, 2)
    trace = pane_keras.wrap(model).trace(images)
    p, n = dense_network(trace).between(trace._source("input"), trace._target("logits"))
    for target in range(3):
        positive, negative = literal_chain(trace, target)
        for mine, twin in ((positive, p), (negative, n)):
            assert relative(np.asarray(mine).reshape(2, -1), twin[:, target]) < 1e-5


@PROFILE
@given(st.integers(0, 2**31), st.integers(1, 4), st.booleans())
def test_the_literal_parts_are_those_of_the_map(seed, batch, residual):
    keras.utils.set_random_seed(seed)
    model, images = network((4, 3, 1), residual), draw(batch, 4, 3, 1, seed=seed)
    trace = pane_keras.wrap(model).trace(images)
    maps, parts = trace.saliency(2), literal_chain(trace, 2)
    for mine, exact in zip(parts, (maps.positive, maps.negative)):
        exact = np.asarray(exact)
        np.testing.assert_allclose(np.asarray(mine), exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_the_literal_sum_on_a_shallow_network_is_the_sum():
    model, images = network(), draw(2, 5, 5, 2)
    maps = Explainers(model, chosen("pos+neg,pos+neg-float32,pos")).explain(images, [2, 0])
    assert np.abs(maps["pos+neg"] - maps["pos+neg-float32"]).max() < 1e-5 * np.abs(maps["pos"]).max()
    assert relative(maps["pos+neg-float32"], maps["pos+neg"]) < 1e-3


def test_the_literal_sum_on_a_deep_network_is_noise():
    """What the row is for: the parts are right, and their sum has the size of their rounding."""
    images = draw(2, 28, 28, 1)
    model = vgg16((28, 28, 1), 3, 0.08, residual=True)
    maps = Explainers(model, chosen("pos,pos+neg,pos+neg-float32")).explain(images)
    literal, exact = maps["pos+neg-float32"], maps["pos+neg"]
    assert np.abs(exact).max() < 1e-7 * np.abs(maps["pos"]).max()
    assert 1e-9 < np.abs(literal).max() / np.abs(maps["pos"]).max() < 1e-5
    assert abs(np.corrcoef(literal.ravel(), exact.ravel())[0, 1]) < 0.2


def test_the_literal_sum_where_it_overflows():
    """P and N pass the range of float32 before a layer of tiny weights brings them back: what is no number is 0."""
    x = keras.Input((2, 2, 1))
    h = layers.Flatten()(x)
    for k, weight in enumerate((1e-30, 1e13, 1e13, 1e13)):
        h = layers.Dense(2, use_bias=False, kernel_initializer=keras.initializers.Constant(weight), name=f"dense{k}")(h)
    model, images = keras.Model(x, h), np.ones((1, 2, 2, 1), "float32")
    maps = Explainers(model, chosen("pos,pos+neg-float32")).explain(images, 0)
    np.testing.assert_allclose(maps["pos"], 8e9, rtol=1e-5)
    assert not np.isfinite(np.asarray(literal_chain(pane_keras.wrap(model).trace(images), 0)[0])).any()
    assert not maps["pos+neg-float32"].any()
