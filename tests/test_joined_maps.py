"""Maps of many units, swept in portions and windows, come as one tensor in the order that was asked for."""

import gc

import numpy as np
import psutil
import pytest
import tensorflow as tf

from pane_keras import backend
from pane_keras.backend.tensorflow import host_memory, joined

SHAPE = (5, 6, 2)
BOXES = ((), (slice(1, 3), slice(2, 6)), (slice(0, 5), slice(4, 5)))


def parts(seed=0, boxes=BOXES, terms=2):
    """Parts of 7 rows of 2 samples: (terms, numbers of the rows, box) each, and all of it by a loop."""
    rng = np.random.default_rng(seed)
    numbers, found = np.split(rng.permutation(7), [2, 5])[: len(boxes)], []
    whole = np.zeros((2, sum(map(len, numbers)), *SHAPE), "float32")
    for rows, box in zip(numbers, boxes):
        sizes = np.zeros(SHAPE)[box].shape
        of_part = [
            (rng.normal(size=(len(rows) * 2, *sizes)), 2.0 ** rng.integers(-9, 9, len(rows) * 2)) for _ in range(terms)
        ]
        found.append(([(tensor(r), tensor(f)) for r, f in of_part], rows, box))
        for k, row in enumerate(rows):
            for sample in range(2):
                at = 2 * k + sample
                whole[(sample, row, *box)] = sum(np.float32(r[at]) * np.float32(f[at]) for r, f in of_part)
    return found, whole


def tensor(values):
    return tf.constant(values.astype("float32"))


def together(found, count=7, shape=SHAPE):
    rows = backend.Joined(count, shape)
    for part in found:
        rows.add(*part)
    return rows.rows()


@pytest.mark.parametrize("at_a_time", [1, 30, 2**18])
@pytest.mark.parametrize("terms", [1, 2])
def test_rows_and_windows_find_their_place(terms, at_a_time, monkeypatch):
    monkeypatch.setattr(joined, "_AT_A_TIME", at_a_time)
    found, whole = parts(terms=terms)
    np.testing.assert_array_equal(together(found), whole)


def test_in_a_graph():
    found, whole = parts(1)

    def rows(terms):
        return together([(own, numbers, box) for own, (_, numbers, box) in zip(terms, found)])

    np.testing.assert_array_equal(tf.function(rows)([terms for terms, *_ in found]), whole)


def test_gradients_reach_every_part():
    found, _ = parts(2)
    weights = tensor(np.random.default_rng(3).normal(size=(2, 7, *SHAPE)))
    watched = [rows for terms, *_ in found for rows, _ in terms]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss = tf.reduce_sum(together(found) * weights)
    slopes = iter(tape.gradient(loss, watched))
    for terms, rows, box in found:
        expected = np.asarray(weights)[:, rows][(slice(None), slice(None), *box)].swapaxes(0, 1)
        for _, factors in terms:
            scaled = expected.reshape(-1, *expected.shape[2:]) * np.asarray(factors)[:, None, None, None]
            np.testing.assert_array_equal(next(slopes), scaled)


def test_scales_have_no_place():
    """They are whole numbers, one for each row."""
    one = tf.constant([1, 1])
    found = [([(tf.constant([3, 5]), one)], np.array([2, 0])), ([(tf.constant([7]), one[:1])], np.array([1]))]
    np.testing.assert_array_equal(together(found, 3, ()), [[5, 7, 3]])


def test_one_part_in_order_is_the_frameworks_own_memory():
    part = np.random.default_rng(0).normal(size=(3, 2, *SHAPE))
    rows = backend.Joined(3, SHAPE)
    rows.add([(tensor(part.reshape(6, *SHAPE)), 2 * tf.ones(6))], np.arange(3))
    assert not rows.written
    np.testing.assert_array_equal(rows.rows(), 2 * part.swapaxes(0, 1).astype("float32"))


def test_what_nobody_writes_to_takes_no_memory():
    process, rows = psutil.Process(), backend.Joined(64, (512, 512, 4))
    before = process.memory_info().rss
    for row in range(64):
        rows.add([(tf.ones((1, 8, 512, 4)), tf.ones(1))], np.array([row]), (slice(100, 108), slice(0, 512)))
    taken = process.memory_info().rss - before
    whole = rows.rows()
    assert rows.written
    assert whole.shape == (1, 64, 512, 512, 4)
    assert tf.reduce_sum(whole).numpy() == 64 * 8 * 512 * 4
    assert taken < whole.shape.num_elements() * 4 / 8


@pytest.mark.parametrize("size", [1, 5, 4096])
def test_a_joined_tensor_is_as_good_as_any(size):
    """It shares its memory with an array: it starts where kernels expect it to, and outlives the array."""
    one = tf.ones(1)
    found = [([(tf.ones((1, size)), one)], np.array([1])), ([(2 * tf.ones((1, size)), one)], np.array([0]))]
    whole = together(found, 2, (size,))
    del found
    gc.collect()
    [host_memory.empty((1, 2, size), "float32").fill(7) for _ in range(100)]
    assert host_memory.on_host(whole).ctypes.data % 64 == 0
    np.testing.assert_array_equal(
        tf.reduce_sum(tf.strided_slice(whole, [0, 0, 0], [1, 2, size]), axis=-1), [[2 * size, size]]
    )
    np.testing.assert_array_equal(whole + 1, np.broadcast_to([[[3], [2]]], (1, 2, size)))


@pytest.mark.parametrize("refusal", [OSError("Invalid argument"), AttributeError("madvise")])
def test_a_system_without_huge_pages(refusal, monkeypatch):
    def refuses(*args):
        raise refusal

    class Memory(joined.mmap.mmap):
        madvise = refuses

    monkeypatch.setattr(joined.mmap, "mmap", Memory)
    found, whole = parts()
    np.testing.assert_array_equal(together(found), whole)
