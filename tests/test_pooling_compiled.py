"""Max poolings inside a compiled graph: their gradient remembers the selection, and takes the first element on ties."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from pane_keras import backend

SHAPES = [(1, 6, 7, 3), (2, 9, 8, 16), (8, 14, 13, 33)]
WINDOWS = [((2, 2), (2, 2)), ((3, 3), (2, 2)), ((3, 2), (1, 3)), ((2, 2), (1, 1)), ((1, 3), (3, 2))]


def ties(shape, seed):
    """Whole numbers from -1 to 1, so that nearly every window holds its maximum several times."""
    return np.random.default_rng(seed).integers(-1, 2, shape).astype("float32")


def both_ways(pool_size, strides, padding):
    """The function (x, t) -> (t scattered by the index, t through the transpose, or None), as a graph would have it."""

    def run(x, t):
        how = (pool_size, strides, padding)
        y = tf.nn.max_pool2d(x, pool_size, strides, padding.upper())
        index = tf.reshape(backend.max_pool_index(x, y, *how), (x.shape[0], -1))
        flat = backend.scatter_rows(tf.reshape(t, (t.shape[0], -1)), index, int(np.prod(x.shape[1:])), 1)
        transpose = backend.max_pool_transpose(x, y, *how)
        return tf.reshape(flat, x.shape), None if transpose is None else transpose(t)

    return run


def drawn(shape, pool_size, strides, padding, seed):
    x = tf.constant(ties(shape, seed))
    y = tf.nn.max_pool2d(x, pool_size, strides, padding.upper())
    return x, tf.constant(np.random.default_rng(seed + 1).integers(-9, 10, y.shape).astype("float32"))


@pytest.fixture
def onednn(monkeypatch):
    """The transpose is taken whatever machine the tests run on."""
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [])


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("shape", "window"), list(itertools.product(SHAPES, WINDOWS)))
def test_the_first_element_on_ties(onednn, shape, window, padding):
    x, t = drawn(shape, *window, padding, seed=3)
    scattered, pulled = backend.compiled(both_ways(*window, padding))(x, t)
    np.testing.assert_array_equal(pulled, scattered)


def test_xla_and_what_runs_eagerly_have_the_index_alone(onednn):
    x, seen = tf.constant(ties(SHAPES[0], 5)), []

    def noted(x):
        y = tf.nn.max_pool2d(x, 2, 2, "VALID")
        seen.append(backend.max_pool_transpose(x, y, (2, 2), (2, 2), "valid"))
        return y

    noted(x)
    backend.compiled(noted, jit=True)(x)
    backend.compiled(noted)(x)
    assert [transpose is None for transpose in seen] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "value"),
    [("platform.machine", lambda: "arm64"), ("tensorflow.config.list_logical_devices", lambda kind: [0])],
)
def test_other_machines_have_the_index_alone(onednn, monkeypatch, name, value):
    monkeypatch.setattr(name, value)
    x, t = drawn(SHAPES[0], (2, 2), (2, 2), "valid", seed=5)
    assert backend.compiled(both_ways((2, 2), (2, 2), "valid"))(x, t)[1] is None
