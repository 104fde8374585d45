"""Transposes of convolutions of rows that are zero at the same units, by the units that are not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers
from test_receptive_field import CONVOLUTIONS
from threadpoolctl import threadpool_info

import pane_keras
from pane_keras import backend
from pane_keras.backend import Geometry
from pane_keras.backend.tensorflow import convolution, live_units
from pane_keras.testing import channels

PARTS = {"float32": 1e-5, "float64": 1e-13}


@pytest.fixture
def gathered(monkeypatch):
    """Gathers whatever can be; a list of how many units lived, of every transpose."""
    seen, plain = [], live_units.live_units

    def watched(*arguments):
        live = plain(*arguments)
        seen.append(None if live is None else int(live.sum()))
        return live

    for name in ("_PER_PRODUCT_ADD", "_PER_COPIED", "_PER_PRODUCT"):
        monkeypatch.setattr(live_units, name, 0)
    monkeypatch.setattr(live_units, "_FEWEST_ROWS", 1)
    monkeypatch.setattr(convolution, "live_units", watched)
    return seen


def case(seed, dtype="float32", rank=None, strides=None, live=0.2):
    """Rows, a kernel, the geometry of a convolution with it, and the shape of its input."""
    rng = np.random.default_rng(seed)
    rank = rank or int(rng.integers(1, 4))
    space, window = rng.integers(7, 10, rank), rng.integers(1, 5, rank)
    dilation = tuple(int(d) for d in rng.integers(1, 3, rank)) if strides is None else (1,) * rank
    geometry = Geometry(strides or (1,) * rank, ["valid", "same"][int(rng.integers(2))], dilation)
    kernel = tf.constant(rng.normal(size=(*window, 3, 5)).astype(dtype))
    x = tf.constant(rng.normal(size=(4, *space, 3)).astype(dtype))
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(30))
def test_the_transpose_is_the_twins(seed, dtype, gathered):
    rows, kernel, geometry, shape = case(seed, dtype)
    found = backend.transpose_convolution(rows, kernel, geometry, shape)
    whole = twin(rows, kernel, geometry, shape)
    assert gathered == [np.count_nonzero(np.any(rows, axis=0))]
    assert found.shape == whole.shape
    assert found.dtype == dtype
    np.testing.assert_allclose(found, whole, rtol=0, atol=PARTS[dtype] * np.abs(whole).max())


def test_adjoint_to_the_convolution(gathered):
    """<rows, W x> = <W^T rows, x>."""
    rows, kernel, geometry, shape = case(7, "float64")
    x = np.random.default_rng(1).normal(size=shape)
    pulled = backend.transpose_convolution(rows, kernel, geometry, shape)
    forward = backend.convolve(tf.constant(x), kernel, geometry)
    np.testing.assert_allclose(np.sum(pulled * x), np.sum(forward * rows), rtol=1e-12)
    assert gathered == [np.count_nonzero(np.any(rows, axis=0))]


def test_rows_without_a_live_unit(gathered):
    rows, kernel, geometry, shape = case(3, live=0)
    assert not np.any(backend.transpose_convolution(rows, kernel, geometry, shape))
    assert gathered == [0]


def test_gradients_are_those_of_the_dense_kernel(gathered, monkeypatch):
    rows, kernel, geometry, shape = case(5)

    def slopes(transpose):
        with tf.GradientTape() as tape:
            tape.watch((rows, kernel))
            loss = tf.reduce_sum(transpose(rows, kernel, geometry, shape) ** 2)
        return tape.gradient(loss, (rows, kernel))

    whole = slopes(lambda *arguments: dense(*arguments, monkeypatch))
    for mine, theirs in zip(slopes(backend.transpose_convolution), whole):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=PARTS["float32"] * np.abs(theirs).max())
    assert gathered[0] is not None


@pytest.mark.parametrize("change", [{"strides": (2,)}, {"live": 0.9}, {"dtype": "float16"}])
def test_what_is_left_to_the_dense_kernel(change, gathered):
    rows, kernel, geometry, shape = case(2, **{"rank": 1, **change})
    backend.transpose_convolution(rows, kernel, geometry, shape)
    assert gathered == [None]


@pytest.mark.parametrize("change", [{"groups": 2}, {"data_format": "channels_first"}])
def test_geometries_that_are_left_to_the_dense_kernel(change):
    rows, kernel, geometry, _ = case(2, rank=1)
    assert live_units.live_units(rows, kernel, geometry._replace(**change)) is None


def test_a_graph_is_left_to_the_dense_kernel(gathered, monkeypatch):
    rows, kernel, geometry, shape = case(4)
    in_graph = tf.function(lambda rows: backend.transpose_convolution(rows, kernel, geometry, shape))(rows)
    np.testing.assert_allclose(in_graph, dense(rows, kernel, geometry, shape, monkeypatch), rtol=1e-5, atol=1e-5)
    assert gathered == [None]


def test_gathering_has_to_pay():
    """Behind a pooling it does for many rows of many channels; not for few rows, small kernels or living channels."""
    rng = np.random.default_rng(0)

    def pays(n, channels, live):
        rows = np.broadcast_to(rng.random((1, 6, 6, channels)) < live, (n, 6, 6, channels)).astype("float32")
        kernel = tf.zeros((3, 3, channels, channels))
        return live_units.live_units(tf.constant(rows), kernel, Geometry((1, 1), "same", (1, 1))) is not None

    assert pays(64, 256, 0.15)
    assert not pays(64, 256, 0.45)
    assert not pays(8, 256, 0.15)
    assert not pays(64, 16, 0.15)


def test_threads_of_products_are_given_back(gathered, monkeypatch):
    before, during, plain = threadpool_info(), [], live_units._products

    def products(*arguments):
        during.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        plain(*arguments)

    monkeypatch.setattr(live_units, "_products", products)
    backend.transpose_convolution(*case(1))
    assert set(during) == {1}
    assert threadpool_info() == before


def test_no_more_threads_than_positions(gathered, monkeypatch):
    seen = []
    monkeypatch.setattr(live_units, "threads", lambda: 64)
    monkeypatch.setattr(live_units, "_products", lambda *arguments: seen.append(list(arguments[-1])))
    rows, kernel, geometry, shape = case(1, rank=1)
    backend.transpose_convolution(rows, kernel, geometry, shape)
    assert sorted(seen) == [[position] for position in range(shape[1])]


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
