"""Memory of queries: many units in one, and hundreds of traces one after the other."""

import gc
import json
import math
import subprocess
import sys
import weakref

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.composition import Composition

PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale")


def tensor_bytes():
    """Bytes of all eager tensors that are alive."""
    kind = type(tf.constant(0))
    gc.collect()
    return sum(math.prod(t.shape) * t.dtype.size for t in gc.get_objects() if isinstance(t, kind))


def peak_beyond_result(monkeypatch, pair, units):
    """Bytes that live after the widest sweep beyond what was there before and the maps, which the first part begins.

    A sweep's own temporaries are bounded by its rows, which the test counts.
    """

    def size(maps):
        return sum(np.asarray(getattr(maps, part)).nbytes for part in PARTS)

    peaks, rows, plain = [], [], Composition.pull_within

    def pull(self, weights, *how):
        begun = bool(rows)
        result = plain(self, weights, *how)
        rows.append(weights.shape[0])
        peaks.append((tensor_bytes() - before, begun))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Composition, "pull_within", pull)
        before = tensor_bytes()
        maps = pair.map(units)
    assert tensor_bytes() - before <= 1.01 * size(maps)
    assert maps.sum.shape[1] == len(units) == sum(rows)
    return max(peak - begun * size(maps) for peak, begun in peaks), max(rows)


def test_memory_of_many_units_does_not_grow_beyond_the_result(monkeypatch):
    """What is alive during a query, but for the maps that are done, is the same for 8 units and for 64."""
    x = keras.Input((16, 16, 2))
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="wide")(x)
    y = layers.Conv2D(8, 3, padding="same", name="target")(layers.Conv2D(8, 3, padding="same")(y))
    pane = pane_keras.wrap(filled(x, layers.Dense(1)(layers.Flatten()(y))))
    pair = pane.trace(draw(2, 16, 16, 2)).between("input", "target")
    pair.map([(0, 0, 0)]), pair.map([(0, 0, 0)])  # what repeated queries keep is there before anything is counted
    monkeypatch.setattr("pane_keras.portions.MOST_ROWS", 8)
    units = list(np.ndindex(*pair.target_shape))
    beyond = {n: peak_beyond_result(monkeypatch, pair, units[:n]) for n in (8, 64)}
    few, rows = beyond[8]
    row = pair.composition().widest * 4
    assert rows == 8
    assert few <= 4 * rows * row
    for peak, rows in beyond.values():
        assert rows == 8
        assert peak <= few + row


# --- many traces --------------------------------------------------------------------------------------------------

TRACES, BATCH, SIDE = 200, 4, 24


def heavy():
    """Nine wide values, of 4 x 24 x 24 x 28 entries each: 2.2 MiB."""
    x = y = keras.Input((SIDE, SIDE, 3))
    for k in range(3):
        y = layers.Conv2D(28, 1, name=f"conv{k}")(y)
        y = layers.ReLU(name=f"relu{k}")(layers.BatchNormalization()(y))
    return filled(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))


def queried(pane, number):
    """A trace of new images, and queries that share some of what they compose."""
    trace = pane.trace(draw(BATCH, SIDE, SIDE, 3, seed=number))
    trace.saliency(), trace.saliency(1)
    pair = trace.between("relu1", "logits")
    pair.map(0), pair.channels()
    return trace


def resident():
    gc.collect()
    return psutil.Process().memory_info().rss


def growth(run, count):
    """Bytes of resident memory that so many runs add."""
    before = resident()
    for number in range(count):
        run(number)
    return resident() - before


@pytest.fixture(scope="module")
def pane():
    """Queried often enough that allocators and caches have what they keep."""
    pane = pane_keras.wrap(heavy())
    for number in range(10):
        queried(pane, number)
    return pane


def measured():
    """Bytes that one trace and what its queries left in it hold, and what each way of making many of them adds."""
    pane = pane_keras.wrap(heavy())
    for number in range(10):
        queried(pane, number)
    before, trace = tensor_bytes(), queried(pane, 0)
    size = tensor_bytes() - before
    del trace
    released, kept = [], []

    def release(number):
        released.append(queried(pane, number))
        released[-1].release()

    return {
        "size": size,
        "gone": growth(lambda number: queried(pane, number), TRACES),
        "released": growth(release, 20),
        "kept": growth(lambda number: kept.append(queried(pane, number)), 10),
    }


@pytest.fixture(scope="module")
def added():
    """Of a process of its own: the allocator keeps what other tests gave back, and growth into that is not seen."""
    run = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def test_hundreds_of_traces_do_not_leak(added):
    """After a warm-up, 200 traces and all their queries add less than five of them would."""
    assert added["size"] > 2 * 2**20
    assert added["gone"] < 5 * added["size"]


def test_traces_that_are_kept_are_seen(added):
    """The test above would notice: ten traces that live on add far more than five."""
    assert added["kept"] > 5 * added["size"]


def test_released_traces_that_are_kept_do_not_leak(added):
    assert added["released"] < 5 * added["size"]


def test_no_tensor_is_left(pane):
    """Counted exactly: what lives after eight traces lived before them."""
    before = tensor_bytes()
    for number in range(8):
        queried(pane, number)
    assert tensor_bytes() == before


def test_a_trace_goes_with_its_last_name(pane):
    """By reference count alone: shared compositions and kept magnitudes are in no cycle."""
    gc.collect()
    gc.disable()
    try:
        trace = queried(pane, 0)
        dead = [weakref.ref(trace), *(weakref.ref(slot.value) for slot in trace._record.slots)]
        dead += [weakref.ref(composition) for composition in trace._record.compositions.values()]
        assert len(dead) > 12
        del trace
        assert [ref() for ref in dead] == [None] * len(dead)
    finally:
        gc.enable()


def test_repeated_queries_of_one_trace_add_nothing(pane):
    """From the third on: the magnitudes are kept with the second."""
    trace = queried(pane, 0)
    pair = trace.between("relu1", "logits")

    def ask():
        trace.saliency(0), pair.map([0, 1]), pair.effect((0, 0, 0)), pair.channels(), pair.dense_pair()
        return tensor_bytes()

    ask(), ask()
    assert len({ask() for _ in range(5)}) == 1


if __name__ == "__main__":
    print(json.dumps(measured()))
