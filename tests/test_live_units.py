"""Transposes of convolutions of rows that are zero at the same units, by what lives."""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from architectures import chains, graphs
from hypothesis import assume, given
from hypothesis import strategies as st
from keras import layers
from test_receptive_field import CONVOLUTIONS
from test_split_below import PROFILE, assert_cut, joined

import pane_keras
from pane_keras import backend
from pane_keras.backend import Geometry
from pane_keras.backend.tensorflow import convolution, live_units
from pane_keras.testing import channels

PARTS = {"float32": 1e-5, "float64": 1e-13}


@pytest.fixture
def gathered(monkeypatch):
    """Multiplies what lives wherever it can; a list of (units that live, outputs that count), of every transpose."""
    return gather(monkeypatch)


def gather(patch):
    seen, plain = [], live_units.live_units

    def watched(*arguments):
        live = plain(*arguments)
        seen.append(None if live is None else (int(live.units.sum()), int(live.wanted.sum())))
        return live

    for name in ("_PER_PRODUCT", "_PER_ENTRY", "_PER_PLACE"):
        patch.setattr(live_units, name, 0)
    patch.setattr(live_units, "_LEAST", -1)
    patch.setattr(convolution, "live_units", watched)
    return seen


def case(seed, dtype="float32", rank=None, strides=None, live=0.2, count=4):
    """Rows, a kernel, the geometry of a convolution with it, and the shape of its input."""
    rng = np.random.default_rng(seed)
    rank = rank or int(rng.integers(1, 4))
    space, window = rng.integers(7, 10, rank), rng.integers(1, 5, rank)
    dilation = tuple(int(d) for d in rng.integers(1, 3, rank)) if strides is None else (1,) * rank
    geometry = Geometry(strides or (1,) * rank, ["valid", "same"][int(rng.integers(2))], dilation)
    kernel = tf.constant(rng.normal(size=(*window, 3, 5)).astype(dtype))
    x = tf.constant(rng.normal(size=(count, *space, 3)).astype(dtype))
    out = convolution.convolve(x, kernel, geometry)
    rows = rng.normal(size=out.shape) * (rng.random(out.shape[1:]) < live)
    return tf.constant(rows.astype(dtype)), kernel, geometry, tuple(x.shape)


def twin(rows, kernel, geometry, shape):
    """Every output gives each tap's share to the input under it: i = o - left + dilation * tap."""
    rows, kernel, found = np.asarray(rows, "float64"), np.asarray(kernel, "float64"), np.zeros(shape)
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, kernel.shape)]
    left = [r // 2 if geometry.padding == "same" else 0 for r in reach]
    for out in np.ndindex(rows.shape[1:-1]):
        for tap in np.ndindex(kernel.shape[:-2]):
            at = [o - a + d * t for o, a, d, t in zip(out, left, geometry.dilation, tap)]
            if all(0 <= i < size for i, size in zip(at, shape[1:])):
                found[(slice(None), *at)] += rows[(slice(None), *out)] @ kernel[tap].T
    return found


def dense(rows, kernel, geometry, shape, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(convolution, "live_units", lambda *arguments: None)
        return backend.transpose_convolution(rows, kernel, geometry, shape)


def mask_of(shape, seed, batch=1):
    """A signal (batch, *space, channels) of which a third lives."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(batch, *shape[1:])) * (rng.random((batch, *shape[1:])) < 1 / 3)).astype("float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(30))
def test_the_transpose_is_the_twins(seed, dtype, gathered):
    rows, kernel, geometry, shape = case(seed, dtype)
    found = backend.transpose_convolution(rows, kernel, geometry, shape)
    whole = twin(rows, kernel, geometry, shape)
    assert gathered == [(np.count_nonzero(np.any(rows, axis=0)), math.prod(shape[1:]))]
    assert found.shape == whole.shape
    assert found.dtype == dtype
    np.testing.assert_allclose(found, whole, rtol=0, atol=PARTS[dtype] * np.abs(whole).max())


@pytest.mark.parametrize("seed", range(20))
def test_where_it_does_not_count_it_is_zero(seed, gathered):
    """With a batch of several, it counts where the signal of any sample lives."""
    rows, kernel, geometry, shape = case(seed)
    signal = mask_of(shape, seed, batch=1 + seed % 2)
    counts = np.any(signal, axis=0)
    found = backend.transpose_convolution(rows, kernel, geometry, shape, tf.constant(signal))
    whole = twin(rows, kernel, geometry, shape)
    assert gathered[0][1] == counts.sum()
    np.testing.assert_allclose(found, whole * counts, rtol=0, atol=PARTS["float32"] * np.abs(whole).max())


@pytest.mark.parametrize("count", [1, 15, 16, 33, 64, 100, 144])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_number_of_rows(count, dtype, gathered):
    """Those that fill wide registers, narrow ones, and a part of one."""
    rows, kernel, geometry, shape = case(8, dtype, rank=2, count=count)
    found = backend.transpose_convolution(rows, kernel, geometry, shape)
    whole = twin(rows, kernel, geometry, shape)
    assert gathered[0] is not None
    np.testing.assert_allclose(found, whole, rtol=0, atol=PARTS[dtype] * np.abs(whole).max())


def test_more_products_than_a_cache_holds(gathered):
    """Windows of more units than one block of steps, and outputs of several groups."""
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(20, 4, 4, 60)) * (rng.random((4, 4, 60)) < 0.7)).astype("float32")
    kernel, geometry, shape = rng.normal(size=(3, 3, 13, 60)).astype("float32"), Geometry((1, 1), "same", (1, 1)), ()
    shape = (20, 4, 4, 13)
    found = backend.transpose_convolution(tf.constant(rows), tf.constant(kernel), geometry, shape)
    whole = twin(rows, kernel, geometry, shape)
    assert gathered[0] is not None
    np.testing.assert_allclose(found, whole, rtol=0, atol=PARTS["float32"] * np.abs(whole).max())


def test_adjoint_to_the_convolution(gathered):
    """<rows, W x> = <W^T rows, x>."""
    rows, kernel, geometry, shape = case(7, "float64")
    x = np.random.default_rng(1).normal(size=shape)
    pulled = backend.transpose_convolution(rows, kernel, geometry, shape)
    forward = backend.convolve(tf.constant(x), kernel, geometry)
    np.testing.assert_allclose(np.sum(pulled * x), np.sum(forward * rows), rtol=1e-12)
    assert gathered[0] is not None


def test_rows_without_a_live_unit(gathered):
    rows, kernel, geometry, shape = case(3, live=0)
    assert not np.any(backend.transpose_convolution(rows, kernel, geometry, shape))
    assert gathered[0][0] == 0


def test_gradients_are_those_of_the_dense_kernel(gathered, monkeypatch):
    rows, kernel, geometry, shape = case(5)

    signal = tf.constant(mask_of(shape, 5))

    def slopes(transpose):
        with tf.GradientTape() as tape:
            tape.watch((rows, kernel))
            loss = tf.reduce_sum(transpose(rows, kernel, geometry, shape, signal) ** 2)
        return tape.gradient(loss, (rows, kernel))

    whole = slopes(lambda *arguments: tf.where(signal != 0, dense(*arguments[:4], monkeypatch), 0))
    for mine, theirs in zip(slopes(backend.transpose_convolution), whole):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=PARTS["float32"] * np.abs(theirs).max())
    assert gathered[0] is not None


@pytest.mark.parametrize("change", [{"strides": (2,)}, {"dtype": "float16"}])
def test_what_is_left_to_the_dense_kernel(change, gathered):
    rows, kernel, geometry, shape = case(2, **{"rank": 1, **change})
    backend.transpose_convolution(rows, kernel, geometry, shape)
    assert gathered == [None]


@pytest.mark.parametrize("change", [{"groups": 2}, {"data_format": "channels_first"}])
def test_geometries_that_are_left_to_the_dense_kernel(change, monkeypatch):
    rows, kernel, geometry, shape = case(2, rank=1)
    monkeypatch.setattr(live_units, "_LEAST", -(2**60))
    assert live_units.live_units(rows, kernel, geometry, shape) is not None
    assert live_units.live_units(rows, kernel, geometry._replace(**change), shape) is None


def test_a_graph_is_left_to_the_dense_kernel(gathered, monkeypatch):
    rows, kernel, geometry, shape = case(4)
    in_graph = tf.function(lambda rows: backend.transpose_convolution(rows, kernel, geometry, shape))(rows)
    np.testing.assert_allclose(in_graph, dense(rows, kernel, geometry, shape, monkeypatch), rtol=1e-5, atol=1e-5)
    assert gathered == [None]


@pytest.mark.parametrize(
    ("n", "channels", "live", "wanted", "expected"),
    [
        (128, 256, 0.15, 1, True),
        (128, 256, 0.6, 0.5, True),
        (128, 256, 0.6, 1, False),
        (128, 256, 1, 0.4, True),
        (8, 256, 0.15, 1, False),
        (128, 16, 0.15, 0.5, False),
        (128, 256, 1, 1, False),
    ],
)
def test_it_has_to_pay(n, channels, live, wanted, expected):
    """It does for many rows of many channels, few of which live; not for few rows, small kernels or living channels."""
    rng = np.random.default_rng(0)
    shape = (n, 20, 20, channels)
    rows = tf.constant(np.broadcast_to(rng.random((1, *shape[1:])) < live, shape).astype("float32"))
    signal = tf.constant((rng.random((1, *shape[1:])) < wanted).astype("float32"))
    kernel = tf.zeros((3, 3, channels, channels))
    found = live_units.live_units(rows, kernel, Geometry((1, 1), "same", (1, 1)), shape, signal)
    assert (found is not None) == expected


def test_where_numba_is_told_not_to_compile_the_kernel_is_the_dense_one(gathered, monkeypatch):
    rows, kernel, geometry, shape = case(1)
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    backend.transpose_convolution(rows, kernel, geometry, shape)
    assert gathered == [None]


def test_more_threads_than_positions(gathered, monkeypatch):
    monkeypatch.setattr(live_units, "threads", lambda: 64)
    rows, kernel, geometry, shape = case(1, rank=1)
    found, whole = backend.transpose_convolution(rows, kernel, geometry, shape), twin(rows, kernel, geometry, shape)
    np.testing.assert_allclose(found, whole, rtol=0, atol=PARTS["float32"] * np.abs(whole).max())


def test_nothing_is_imported_before_it_is_needed():
    """Numba takes half a second: a first look at a model does not wait for it."""
    code = "import sys, pane_keras; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@PROFILE
@given(st.one_of(chains, graphs), st.data())
def test_maps_are_those_of_the_float64_twin(architecture, data):
    """What comes where a signal is zero never counts, on any graph, whether the two are told apart there or not."""
    model, x = architecture.model(), architecture.inputs()
    assume(np.isfinite(model(x)).all())
    trace = pane_keras.wrap(model).trace(x)
    source = data.draw(st.sampled_from([name for name in ["input", *trace] if joined(trace, name, "logits")]))
    cut = data.draw(st.sampled_from([None, *trace]))
    with pytest.MonkeyPatch.context() as patch:
        gather(patch)
        assert_cut(trace, cut, source)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_many_units_behind_a_pooling(rank, gathered, monkeypatch):
    x = keras.Input((*[10] * rank, 2))
    y = CONVOLUTIONS[rank](4, 3, padding="same", activation="relu")(x)
    y = [layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D][rank - 1](2)(y)
    model = filled(x, CONVOLUTIONS[rank](5, 2, padding="same")(y), rank)
    pair = (
        pane_keras.wrap(model).trace(draw(1, *model.input_shape[1:], seed=rank)).between("input", model.layers[-1].name)
    )
    units = [(*[2] * rank, k) for k in range(5)]
    found = channels(pair.map(units))
    assert any(count is not None for count in gathered)
    monkeypatch.setattr(convolution, "live_units", lambda *arguments: None)
    for mine, whole in zip(found, channels(pair.map(units))):
        np.testing.assert_allclose(mine, whole, rtol=0, atol=PARTS["float32"] * np.abs(whole).max())
