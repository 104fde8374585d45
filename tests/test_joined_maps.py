"""Maps of many units, swept in portions and windows, come as one tensor in the order that was asked for."""

import gc

import numpy as np
import pytest
import tensorflow as tf

from pane_keras import backend
from pane_keras.backend.tensorflow import host_memory

SHAPE = (5, 6, 2)


def parts(seed=0, boxes=((), (slice(1, 3), slice(2, 6)), (slice(0, 5), slice(4, 5)))):
    """Parts of 7 rows, the numbers of the rows that they hold, where they lie, and all of it by a loop."""
    rng = np.random.default_rng(seed)
    numbers = np.split(rng.permutation(7), [2, 5])[: len(boxes)]
    whole = np.zeros((2, sum(map(len, numbers)), *SHAPE), "float32")
    found = []
    for rows, box in zip(numbers, boxes):
        sizes = np.zeros(SHAPE)[box].shape
        found.append(tf.constant(rng.normal(size=(2, len(rows), *sizes)).astype("float32")))
        for k, row in enumerate(rows):
            for sample in range(2):
                whole[(sample, row, *box)] = found[-1][sample, k]
    return found, numbers, list(boxes), whole


def test_rows_and_windows_find_their_place(monkeypatch):
    monkeypatch.setattr(host_memory, "empty", lambda *how, plain=host_memory.empty: filled_with_nan(plain(*how)))
    found, numbers, boxes, whole = parts()
    np.testing.assert_array_equal(backend.joined(found, numbers, boxes, SHAPE), whole)


def filled_with_nan(array):
    array.fill(np.nan)
    return array


def test_in_a_graph():
    found, numbers, boxes, whole = parts(1)
    joined = tf.function(lambda *found: backend.joined(list(found), numbers, boxes, SHAPE))(*found)
    np.testing.assert_array_equal(joined, whole)


def test_gradients_reach_every_part():
    found, numbers, boxes, _ = parts(2)
    weights = tf.constant(np.random.default_rng(3).normal(size=(2, 7, *SHAPE)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(found)
        loss = tf.reduce_sum(backend.joined(found, numbers, boxes, SHAPE) * weights)
    for slope, rows, box in zip(tape.gradient(loss, found), numbers, boxes):
        np.testing.assert_array_equal(slope, np.asarray(weights)[:, rows][(slice(None), slice(None), *box)])


def test_scales_have_no_place():
    found = [tf.constant([[3, 5]]), tf.constant([[7]])]
    joined = backend.joined(found, [np.array([2, 0]), np.array([1])], [(), ()], ())
    np.testing.assert_array_equal(joined, [[5, 7, 3]])


def test_one_part_in_order_is_not_copied():
    part = tf.zeros((2, 3, *SHAPE))
    assert backend.joined([part], [np.arange(3)], [()], SHAPE) is part


@pytest.mark.parametrize("size", [1, 5, 4096])
def test_a_joined_tensor_is_as_good_as_any(size):
    """It shares its memory with an array: it starts where kernels expect it to, and outlives the array."""
    found = [tf.ones((1, 1, size)), 2 * tf.ones((1, 1, size))]
    joined = backend.joined(found, [np.array([1]), np.array([0])], [(), ()], (size,))
    del found
    gc.collect()
    [host_memory.empty((1, 2, size), "float32").fill(7) for _ in range(100)]
    assert host_memory.on_host(joined).ctypes.data % 64 == 0
    np.testing.assert_array_equal(
        tf.reduce_sum(tf.strided_slice(joined, [0, 0, 0], [1, 2, size]), axis=-1), [[2 * size, size]]
    )
    np.testing.assert_array_equal(joined + 1, np.broadcast_to([[[3], [2]]], (1, 2, size)))
