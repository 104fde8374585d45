"""Many selections are swept a portion at a time: the same maps as at once, and none that memory would not hold."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import pane_keras
from pane_keras import excitation, portions
from pane_keras.composition import Composition
from pane_keras.dense import folded
from pane_keras.errors import DenseSizeError
from pane_keras.planner import MIDDLE, SOURCE, TARGET
from pane_keras.reusable import Reusable
from pane_keras.sizes import size as in_words
from pane_keras.testing import channels, dense_network

# A sweep of other rows beside a row may round its sums in another order.
TOLERANCE = 1e-5
BATCH = 3
PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale")


def branched():
    """A residual graph between a layer of three axes and one of one."""
    x = keras.Input((4, 3, 2))
    y = layers.Conv2D(4, 2, padding="same", name="lower")(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.Add(name="added")([y, layers.Conv2D(4, 3, padding="same", activation="tanh")(y)])
    y = layers.Dense(6, activation="gelu", name="upper")(layers.Flatten()(y))
    return filled(x, layers.Dense(3)(y), seed=3)


@pytest.fixture(scope="module")
def trace():
    return pane_keras.wrap(branched()).trace(draw(BATCH, 4, 3, 2))


def queries(trace):
    """{name: (pair, query, shape of what is selected)}"""
    below, above = trace.between("input", "added"), trace.between("added", "upper")
    return {
        "map": (below, below.map, below.target_shape),
        "effect": (above, above.effect, above.source_shape),
        "map of a vector": (above, above.map, above.target_shape),
    }


QUERIES = ("map", "effect", "map of a vector")


def units_of(shape, count=5):
    units = list(np.ndindex(*shape))
    return [units[k] for k in np.random.default_rng(0).permutation(len(units))[:count]]


def mask(shape, seed):
    return draw(*shape, seed=seed) > 0


SELECTIONS = {
    "a list of units": lambda shape: {"units": units_of(shape)},
    "a generator of units": lambda shape: {"units": (unit for unit in units_of(shape))},
    "an array of units": lambda shape: {"units": np.array(units_of(shape))},
    "one unit twice": lambda shape: {"units": units_of(shape, 2) * 3},
    "a list of one": lambda shape: {"units": units_of(shape, 1)},
    "one unit": lambda shape: {"units": units_of(shape, 1)[0]},
    "every unit": lambda shape: {"units": list(np.ndindex(*shape))},
    "weights": lambda shape: {"weights": draw(*shape, seed=1)},
    "a list of weights": lambda shape: {"weights": [draw(*shape, seed=k) for k in range(5)]},
    "weights of each sample": lambda shape: {"weights": [draw(BATCH, *shape, seed=k) for k in range(4)]},
    "a channel": lambda shape: {"channel": 1},
    "a list of channels": lambda shape: {"channel": [1, 0, -1, 2, 1]},
    "a region": lambda shape: {"region": mask(shape, 1)},
    "a list of regions": lambda shape: {"region": [mask(shape, k) for k in range(5)]},
    "channels within regions": lambda shape: {"region": [mask(shape, k) for k in range(4)], "channel": [0, 1, 1, 2]},
    "a unit of each sample": lambda shape: {"units": units_of(shape, BATCH), "per_sample": True},
    "weights, per sample": lambda shape: {"weights": [draw(*shape, seed=k) for k in range(BATCH)], "per_sample": True},
    "channels, per sample": lambda shape: {"channel": [2, 0, 1], "per_sample": True},
}


def ask(query, how):
    how = dict(how)
    return query(how.pop("units"), **how) if "units" in how else query(**how)


def at_a_time(monkeypatch, rows, composition):
    """Lets one sweep carry so many rows of a composition."""
    monkeypatch.setattr(portions, "ENTRIES", rows * composition.widest)


@pytest.fixture
def swept(monkeypatch):
    """The numbers of rows of every sweep, in order."""
    seen = []
    for name in ("pull", "pull_within", "push"):
        plain = getattr(Composition, name)
        monkeypatch.setattr(
            Composition, name, lambda self, rows, *how, f=plain: seen.append(rows.shape[0]) or f(self, rows, *how)
        )
    return seen


def assert_same(maps, whole):
    """The scales are equal, and S and D to rounding of the largest entry of each row."""
    assert (maps.over, maps.of, maps.axes) == (whole.over, whole.of, whole.axes)
    for part in PARTS:
        assert getattr(maps, part).shape == getattr(whole, part).shape
    np.testing.assert_array_equal(maps.log2_scale, whole.log2_scale)
    rows = whole.log2_scale.shape
    for mine, twin in zip(channels(maps), channels(whole)):
        error, most = (np.abs(t).reshape(*rows, -1).max(axis=-1) for t in (mine - twin, twin))
        assert (error <= TOLERANCE * most).all()
    assert maps.signal is whole.signal


@pytest.mark.parametrize("rows", [2, 4])
@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("kind", SELECTIONS)
def test_every_selection_in_portions_is_as_at_once(trace, monkeypatch, swept, name, kind, rows):
    pair, query, shape = queries(trace)[name]
    whole = ask(query, SELECTIONS[kind](shape))
    (count,) = swept
    at_a_time(monkeypatch, rows, pair.composition())
    maps = ask(query, SELECTIONS[kind](shape))
    assert swept[1:] == [rows] * (count // rows) + [count % rows] * (count % rows > 0)
    assert_same(maps, whole)


@pytest.mark.parametrize("name", QUERIES)
def test_split_below_in_portions(trace, monkeypatch, swept, name):
    """Portions are those of the composition that is cut, and the cut holds in each."""
    pair, query, shape = queries(trace)[name]
    units = units_of(shape)
    whole, uncut = query(units, split_below="added"), query(units)
    at_a_time(monkeypatch, 2, pair.composition("added"))
    assert_same(query(units, split_below="added"), whole)
    assert swept[2:] == [2, 2, 1]
    told_apart = [not np.array_equal(t.positive, t.sum) for t in (whole, uncut)]
    assert told_apart == [name == "map", True]


@pytest.mark.parametrize("rows", [1, 3])
def test_portions_of_units_are_the_twins_rows(trace, monkeypatch, rows):
    """All units of a layer, a few at a time, are the float64 four-product chain."""
    pair, network = trace.between("input", "added"), dense_network(trace)
    ends = trace._source("input"), trace._target("added")
    (p, n), size = network.between(*ends), network.magnitude(*ends)
    at_a_time(monkeypatch, rows, pair.composition())
    for maps in (channels(pair.map(list(np.ndindex(*pair.target_shape)))), _transposed(pair)):
        s, d = (t.reshape(p.shape) for t in maps)
        assert (np.abs(s - (p + n)) <= TOLERANCE * size.max(axis=-1, keepdims=True)).all()
        assert (np.abs(d - (p - n)) <= TOLERANCE * size.max(axis=-1, keepdims=True)).all()
    assert np.abs(n).max() > 0.1 * np.abs(p).max()


def _transposed(pair):
    """(S, D) with rows of the target, from the effects of all units of the source."""
    found = channels(pair.effect(list(np.ndindex(*pair.source_shape))))
    return [np.swapaxes(t.reshape(*t.shape[:2], -1), 1, 2) for t in found]


def test_rows_of_different_scale_keep_their_own(monkeypatch):
    """Units 2^140 apart, one of them without any excitation: a portion's rows do not share a scale."""
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(4, use_bias=False)(layers.Dense(4, use_bias=False)(x)))
    powers = 2.0 ** np.array([100, -40, 10, 0])
    model.set_weights([draw(5, 4) + 1, (draw(4, 4) + 1) * powers * [1, 1, 1, 0]])
    trace = pane_keras.wrap(model).trace(np.full((2, 5), 2.0**-60, "float32"))
    pair = trace.between("input", "logits")
    whole = pair.map(range(4))
    at_a_time(monkeypatch, 1, pair.composition())
    found = pair.map(range(4))
    assert_same(found, whole)
    s, _ = channels(found)
    expected = (np.asarray(model.weights[0], "float64") @ np.asarray(model.weights[1], "float64")).T
    np.testing.assert_allclose(s[0], expected, rtol=1e-6)
    assert not s[:, 3].any()


@pytest.mark.parametrize("start", [TARGET, MIDDLE, SOURCE])
def test_dense_in_portions_is_as_at_once(monkeypatch, start):
    x = keras.Input((7,))
    y = layers.Dense(2, activation="tanh")(layers.Dense(5, activation="relu")(x))
    trace = pane_keras.wrap(filled(x, layers.Dense(9)(y))).trace(draw(2, 7))
    pair = trace.between("input", "logits")
    plan = next(plan for plan in pair.dense_pair().plans if plan.start == start)
    whole = folded(pair.dense_pair(plan).block(), pair.output, pair.signal)
    for rows in (1, 2, 4):
        at_a_time(monkeypatch, rows, pair.composition())
        assert_same(folded(pair.dense_pair(plan).block(), pair.output, pair.signal), whole)


def test_inside_a_graph(trace, monkeypatch):
    pane = pane_keras.wrap(branched())
    units = units_of((4, 3, 4))
    expected = pane.trace(draw(BATCH, 4, 3, 2)).between("input", "added").map(units)
    monkeypatch.setattr(portions, "ENTRIES", 2 * trace.between("input", "added").composition().widest)
    for size in (BATCH, None):
        found = tf.function(
            lambda x: tuple(getattr(pane.trace(x).between("input", "added").map(units), part) for part in PARTS),
            input_signature=[tf.TensorSpec((size, 4, 3, 2), tf.float32)],
        )(draw(BATCH, 4, 3, 2))
        for part, tensor in zip(PARTS, found):
            np.testing.assert_allclose(tensor, getattr(expected, part), rtol=1e-5, atol=1e-6)


# --- how many rows a sweep carries --------------------------------------------------------------------------------


class Wide:
    """Stands for a composition whose widest signal has so many entries."""

    def __init__(self, widest):
        self.widest = widest


@settings(deadline=None, derandomize=True, database=None, max_examples=200)
@given(count=st.integers(1, 5000), widest=st.integers(0, 2**28))
def test_portions_cover_every_row_once_within_the_limit(count, widest):
    parts = portions.portions(count, Wide(widest))
    assert [k for part in parts for k in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= 256
    assert max(sizes) == 1 or max(sizes) * widest <= 2**26
    # No more sweeps than are needed.
    assert len(sizes) == 1 or (sizes[0] + 1) * widest > 2**26 or sizes[0] == 256
    assert len(set(sizes[:-1])) <= 1


@pytest.mark.parametrize(
    ("widest", "rows"), [(0, 256), (1, 256), (2**18, 256), (2**18 + 1, 255), (2**25, 2), (2**26, 1), (2**30, 1)]
)
def test_rows_at_a_time(widest, rows):
    assert portions.rows_at_a_time(Wide(widest)) == rows


def test_the_widest_signal_is_that_of_the_way_alone(trace):
    """Entries over the whole batch; a wide layer beside the way does not count."""
    widest = {ends: trace.between(*ends).composition().widest for ends in
              (("input", "lower"), ("upper", "logits"), ("added", "upper"), ("input", "logits"))}  # fmt: skip
    assert list(widest.values()) == [BATCH * n for n in (4 * 3 * 4, 6, 4 * 3 * 4, 4 * 3 * 4)]


def test_units_become_rows_a_portion_at_a_time(trace, monkeypatch):
    """One-hot rows of all units at once would take units x units x batch."""
    made = []
    plain = pane_keras.selection.one_hot_rows
    monkeypatch.setattr("pane_keras.selection.one_hot_rows", lambda flat, t: made.append(len(flat)) or plain(flat, t))
    pair = trace.between("input", "added")
    at_a_time(monkeypatch, 5, pair.composition())
    pair.map(list(np.ndindex(*pair.target_shape)))
    assert made == [5] * 9 + [3]


# --- maps that would not fit --------------------------------------------------------------------------------------


def memory(monkeypatch, free):
    monkeypatch.setattr("pane_keras.backend.device_memory", lambda: free)
    reusable = Reusable()
    monkeypatch.setattr("pane_keras.excitation.REUSABLE", reusable)
    monkeypatch.setattr("pane_keras.maps.REUSABLE", reusable)


def test_memory_of_maps_that_are_gone_counts_as_free(trace, monkeypatch):
    """The framework's allocator keeps it for the next ones, so for the system it is taken."""
    pair = trace.between("input", "added")
    units = list(np.ndindex(*pair.target_shape))[:5]
    size = 3 * 5 * BATCH * math.prod(pair.source_shape) * 4
    memory(monkeypatch, size)
    maps = pair.map(units)
    memory_left = excitation.REUSABLE
    monkeypatch.setattr("pane_keras.backend.device_memory", lambda: 10)
    with pytest.raises(DenseSizeError, match="and 10 B are free"):
        pair.map(units)
    total = maps.sum
    del maps
    assert memory_left.bytes == size * 2 // 3
    with pytest.raises(DenseSizeError):
        pair.map(units)
    del total
    assert memory_left.bytes == size
    assert pair.map(units).sum.shape[1] == 5
    maps = pair.map(units)
    assert memory_left.bytes == 0
    with pytest.raises(DenseSizeError):
        pair.map(units)
    del maps


def test_joined_maps_are_no_memory_of_the_framework(trace, monkeypatch):
    """They go back to the system, where they are seen to be free."""
    pair = trace.between("input", "added")
    units = list(np.ndindex(*pair.target_shape))[:5]
    memory(monkeypatch, 3 * 5 * BATCH * math.prod(pair.source_shape) * 4)
    at_a_time(monkeypatch, 2, pair.composition())
    maps = pair.map(units)
    del maps
    assert excitation.REUSABLE.bytes == 0


def test_what_was_never_given_back_is_not_counted():
    reusable = Reusable()
    kept = ops.ones((4, 4))
    reusable.watch(kept)
    assert reusable.bytes == 0
    reusable.watch(ops.ones((2, 2), dtype="float64"))
    assert reusable.bytes == 32
    reusable.watch(kept)
    assert reusable.bytes == 0


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("kind", ["a list of units", "a list of weights", "a list of channels", "a list of regions"])
def test_maps_that_would_not_fit_are_refused_before_any_sweep(trace, monkeypatch, swept, name, kind):
    pair, query, shape = queries(trace)[name]
    over = pair.target_shape if name == "effect" else pair.source_shape
    size = 3 * 5 * BATCH * math.prod(over) * 4
    memory(monkeypatch, size - 1)
    message = (
        rf"5 maps of shape \({', '.join(map(str, over))},?\) between '{pair.source}' and '{pair.target}' take "
        rf"{in_words(size)}, and {in_words(size - 1)} are free\. Ask for fewer at a time, for channels\(\), or for "
        r"dense\(out=\.\.\.\), which writes to "
    )
    with pytest.raises(DenseSizeError, match=message):
        ask(query, SELECTIONS[kind](shape))
    assert swept == []
    memory(monkeypatch, size)
    assert len(ask(query, SELECTIONS[kind](shape)).sum[0]) == 5


@pytest.mark.parametrize("kind", ["one unit", "a list of one", "weights", "a unit of each sample"])
def test_one_map_is_never_refused(trace, monkeypatch, kind):
    memory(monkeypatch, 0)
    pair, query, shape = queries(trace)["map"]
    assert ask(query, SELECTIONS[kind](shape)).sum.shape[-3:] == pair.source_shape


def test_the_sizes_are_stated(trace, monkeypatch):
    memory(monkeypatch, 2**29)
    monkeypatch.setattr(excitation.Excitation, "_bytes", lambda self, *shape: 3 * 2**30)
    with pytest.raises(MemoryError, match=r"take 3 GiB, and 512 MiB are free"):
        trace.between("input", "added").map(units_of((4, 3, 4)))


def test_float64_maps_count_twice(monkeypatch):
    x = keras.Input((4,), dtype="float64")
    model = filled(x, layers.Dense(3, dtype="float64")(x))
    pair = pane_keras.wrap(model).trace(draw(2, 4).astype("float64")).between("input", "logits")
    memory(monkeypatch, 3 * 3 * 2 * 4 * 8 - 1)
    with pytest.raises(DenseSizeError, match="3 maps"):
        pair.map(range(3))
    memory(monkeypatch, 3 * 3 * 2 * 4 * 8)
    assert pair.map(range(3)).sum.dtype == "float64"
