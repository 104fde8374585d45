"""Dtypes: half precision is explained in float32, a model with anything in float64 in float64."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers, ops
from paths import assert_like_dense, same

from pane_keras import wrap

HALVES = {"mixed_float16": 2**-10, "mixed_bfloat16": 2**-7, "float16": 2**-10, "bfloat16": 2**-7}


def network(policy=None, head=None, middle=None):
    """A small residual network whose layers have these dtypes; `head` is that of the last layer."""
    x = keras.Input((6, 6, 3), name="picture", dtype="float64" if policy == "float64" else None)
    h = layers.Conv2D(4, 3, padding="same", name="conv", dtype=policy)(x)
    h = layers.BatchNormalization(name="norm", dtype=policy)(h)
    side = layers.Conv2D(4, 1, activation="gelu", name="side", dtype=middle or policy)(h)
    h = layers.Add(name="add", dtype=policy)([h, side])
    h = layers.GlobalAveragePooling2D(name="pool", dtype=policy)(layers.ReLU(name="relu", dtype=policy)(h))
    return filled(x, layers.Dense(3, activation="softmax", name="out", dtype=head or policy)(h))


def dtypes_of(trace):
    """Dtypes of all that is a number in a trace."""
    maps = trace.saliency(1)
    tensors = [slot.value for slot in trace._record.slots] + [maps.positive, maps.negative, maps.sum, trace.logits()]
    return {keras.backend.standardize_dtype(tensor.dtype) for tensor in tensors}


def assert_explained(model, x, dtype, rounding):
    """The trace is in `dtype`, complete to its rounding, and near the model's own output."""
    pane = wrap(model)
    assert same(pane(x), model(x))
    trace = pane.trace(x)
    assert dtypes_of(trace) == {dtype}
    report = trace.check()
    assert report.ok
    assert report.max_residual <= (1e-13 if dtype == "float64" else 1e-6), str(report)
    own = np.asarray(ops.cast(model(x), "float64"))
    error = np.abs(np.asarray(trace[list(trace)[-1]].output) - own).max()
    assert error <= rounding * np.abs(own).max(), f"off by {error:.1e}"
    assert_like_dense(trace, "input", "logits")
    return trace


# float64


@pytest.mark.parametrize(
    "dtypes",
    [{"policy": "float64"}, {"middle": "float64"}, {"head": "float64"}, {"policy": "float64", "head": "float32"}],
    ids=str,
)
def test_a_model_with_float64(dtypes):
    """One layer is enough: nothing that it computes may be lost."""
    assert_explained(network(**dtypes), draw(2, 6, 6, 3).astype("float64"), "float64", 1e-6)


def test_a_float64_model_equals_its_own_output_to_float64_rounding():
    model = network("float64")
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3))
    np.testing.assert_allclose(wrap(model).trace(x)["out"].output, model(x), rtol=1e-12)


def test_a_float64_input_alone():
    x = keras.Input((4,), dtype="float64", name="p")
    model = filled(x, layers.Dense(2, name="out", dtype="float64")(x))
    assert_explained(model, np.random.default_rng(0).normal(size=(2, 4)), "float64", 1e-13)


def test_whole_numbers_first_keep_the_tolerance_of_float64():
    ids, x = keras.Input((3,), dtype="int32", name="ids"), keras.Input((3,), dtype="float64", name="x")
    out = layers.Dense(2, name="out", dtype="float64")(layers.Add(dtype="float64")([ids, x]))
    data = np.ones((2, 3), "int32"), np.random.default_rng(0).normal(size=(2, 3))
    assert wrap(filled([ids, x], out)).trace(list(data)).check().tolerance == 1e-11


# Half precision


@pytest.mark.parametrize("policy", HALVES)
def test_half_precision_is_explained_in_float32(policy):
    """The model's own output is a few roundings of half precision away."""
    assert_explained(network(policy), draw(2, 6, 6, 3), "float32", 8 * HALVES[policy])


@pytest.mark.parametrize("policy", HALVES)
def test_half_precision_with_a_float32_head(policy):
    trace = assert_explained(network(policy, head="float32"), draw(2, 6, 6, 3), "float32", 8 * HALVES[policy])
    assert set(trace.check().layers) == {"conv", "norm", "side", "add", "relu", "pool", "out"}


def test_one_half_layer_in_a_float32_model():
    assert_explained(network(middle="float16"), draw(2, 6, 6, 3), "float32", 8 * HALVES["float16"])


def test_a_half_and_a_float64_layer():
    assert_explained(network("float16", middle="float64"), draw(2, 6, 6, 3), "float64", 8 * HALVES["float16"])


def test_a_half_model_and_its_float32_twin_are_explained_alike():
    """The weights of a mixed policy are float32, so the two traces are the same."""
    half, full, x = network("mixed_float16"), network("float32"), draw(2, 6, 6, 3)
    full.set_weights(half.get_weights())
    a, b = (wrap(model).trace(x).saliency(1) for model in (half, full))
    for part in ("positive", "negative", "sum"):
        np.testing.assert_allclose(getattr(a, part), getattr(b, part), rtol=1e-5, atol=1e-7)


def test_a_global_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network()
        assert_explained(model, draw(2, 6, 6, 3), "float32", 8 * HALVES["mixed_bfloat16"])
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)


def test_a_half_model_traced_after_the_policy_is_back():
    """A layer has its own policy: the global one is not asked again."""
    model, x = network("mixed_float16"), draw(2, 6, 6, 3)
    assert np.asarray(model(x)).dtype == np.float16
    assert np.asarray(wrap(model)(x)).dtype == np.float16
    assert dtypes_of(wrap(model).trace(x)) == {"float32"}


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "float64"])
def test_layers_of_every_road_in_other_dtypes(policy):
    """Recurrence, attention, embeddings and operations are read in ways of their own."""
    kinds = {"dtype": policy}
    ids = keras.Input((4,), dtype="int32", name="ids")
    h = layers.Embedding(6, 4, mask_zero=True, name="emb", **kinds)(ids)
    h = layers.MultiHeadAttention(2, 2, name="attention", **kinds)(h, h) * 2.0
    h = layers.LSTM(3, name="lstm", **kinds)(h)
    model = filled(ids, layers.Dense(2, name="out", **kinds)(ops.tanh(h)))
    x = np.array([[1, 2, 3, 0], [5, 4, 0, 0]])
    pane = wrap(model)
    assert same(pane(x), model(x))
    trace = pane.trace(x)
    wanted = "float64" if policy == "float64" else "float32"
    assert trace.check().max_residual <= (1e-13 if wanted == "float64" else 1e-6)
    maps = trace.between("emb", "logits").map(1)
    assert {str(np.asarray(t).dtype) for t in (maps.sum, maps.positive, trace.logits())} == {wanted}
    assert_like_dense(trace, "emb", "logits")
    own = np.asarray(ops.cast(model(x), "float64"))
    np.testing.assert_allclose(trace.logits(), own, rtol=2e-2, atol=1e-2 * np.abs(own).max())


# Whole numbers


@pytest.mark.parametrize("given", ["uint8", "int32", "int64", "bool", "float16", "float64"])
def test_what_a_float_model_is_given(given):
    model = network("float32")
    x = np.random.default_rng(0).integers(0, 2 if given == "bool" else 200, (2, 6, 6, 3)).astype(given)
    pane = wrap(model)
    assert same(pane(x), model(x))
    np.testing.assert_array_equal(pane.trace(x).saliency(1).sum, pane.trace(x.astype("float32")).saliency(1).sum)
    assert pane.trace(x).check().ok


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "bool"])
def test_an_input_of_whole_numbers(dtype):
    """A picture as it is read from a file, scaled inside the model."""
    x = keras.Input((4, 4, 3), dtype=dtype, name="picture")
    h = layers.Conv2D(3, 3, name="conv")(layers.Rescaling(1 / 128, -1.0, name="scale")(x))
    model = filled(x, layers.Dense(2, name="out")(layers.Flatten(name="flat")(h)))
    data = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 200, (2, 4, 4, 3)).astype(dtype)
    pane = wrap(model)
    assert same(pane(data), model(data))
    trace = pane.trace(data)
    np.testing.assert_allclose(trace.logits(), model(data), rtol=1e-5, atol=1e-6)
    assert trace.check().max_residual <= 1e-6
    maps = trace.saliency(1)
    assert np.asarray(maps.sum).dtype == np.float32
    np.testing.assert_array_equal(np.asarray(maps.sum) != 0, data != 0)
    assert_like_dense(trace, "input", "logits")


def test_pictures_of_whole_numbers_that_an_operation_scales():
    x = keras.Input((4, 4, 3), dtype="uint8", name="picture")
    h = ops.cast(x, "float32") / 255.0
    model = filled(x, layers.Dense(2, name="out")(layers.Flatten(name="flat")(h)))
    data = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    trace = wrap(model).trace(data)
    np.testing.assert_allclose(trace.logits(), model(data), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(trace.saliency(1).sum) != 0, data != 0)
    assert_like_dense(trace, "input", "logits")
