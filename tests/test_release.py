"""`trace.release()`, and what the queries of one trace share: compositions, and the magnitudes of kernels."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers
from test_memory import tensor_bytes

import pane_keras
from pane_keras.composition import Composition
from pane_keras.errors import PaneError, ReleasedError
from pane_keras.remembered import Remembered
from pane_keras.testing import channels

MESSAGE = r"^The trace was released, and its tensors with it\. Make a new one: pane\.trace\(inputs\)\.$"
PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale")
SHAPE = (8, 8, 2)


def model():
    """Its normalizations move into the kernels below them; the last layer is a softmax."""
    x = keras.Input(SHAPE)
    y = layers.Conv2D(3, 2, name="conv")(x)
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(y))
    y = layers.Add(name="added")([y, layers.Conv2D(3, 1, use_bias=False, name="side")(y)])
    y = layers.Dense(4, activation="tanh", name="hidden")(layers.Flatten()(y))
    return filled(x, layers.Dense(3, activation="softmax", name="kinds")(y), seed=1)


@pytest.fixture(scope="module")
def pane():
    return pane_keras.wrap(model())


def trace_of(pane, batch=2):
    return pane.trace(draw(batch, *SHAPE))


OF_TRACE = {
    "saliency": lambda t: t.saliency(),
    "saliency of a class": lambda t: t.saliency(1, output=0),
    "saliency, split": lambda t: t.saliency(split_below="conv"),
    "logits": lambda t: t.logits(),
    "check": lambda t: t.check(),
    "between": lambda t: t.between("input", "logits"),
    "between layers": lambda t: t.between("conv", "added"),
    "emission": lambda t: t["conv"],
    "emission of two inputs": lambda t: t["added"],
}
OF_PAIR = {
    "map": lambda p: p.map((0, 0, 0)),
    "map of several": lambda p: p.map([(0, 0, 0), (1, 1, 1)]),
    "map of weights": lambda p: p.map(weights=np.ones(p.target_shape)),
    "map of a channel": lambda p: p.map(channel=1),
    "map, split": lambda p: p.map((0, 0, 0), split_below="conv"),
    "effect": lambda p: p.effect((0, 0, 0)),
    "effect, split": lambda p: p.effect((0, 0, 0), split_below="conv"),
    "channels": lambda p: p.channels(),
    "contributions of channels": lambda p: p.channels(contribution=True),
    "dense": lambda p: p.dense(),
    "dense plan": lambda p: p.dense_pair(),
    "expression": lambda p: p.expression(),
}
OF_VIEW = {
    "dense": lambda v: v.dense(),
    "map": lambda v: v.map((0, 0, 0)),
    "array": np.asarray,
    "its pair": lambda v: v.excitation.effect((0, 0, 0)),
}


def queries(trace):
    """{name: function without arguments}: everything that can be asked of a trace and of what it gave."""
    pair, emission, added = trace.between("input", "added"), trace["conv"], trace["added"]
    asked = {f"trace: {name}": lambda q=q: q(trace) for name, q in OF_TRACE.items()}
    asked |= {f"pair: {name}": lambda q=q: q(pair) for name, q in OF_PAIR.items()}
    for word, view in (("positive", emission.positive), ("negative", emission.negative), ("second", added.negative[1])):
        asked |= {f"{word} view: {name}": lambda q=q, v=view: q(v) for name, q in OF_VIEW.items()}
    expression = pair.expression()
    return asked | {f"expression: {c}": lambda c=c: expression.to_dense_network(c) for c in ("sum", "difference")}


@pytest.mark.parametrize("asked_before", [False, True])
def test_every_query_of_a_released_trace_is_one_clear_error(pane, asked_before):
    trace = trace_of(pane)
    asked = queries(trace)
    for query in asked.values() if asked_before else ():
        query()
    trace.release()
    for name, query in asked.items():
        with pytest.raises(ReleasedError, match=MESSAGE):
            pytest.fail(f"{name} gave {query()!r}")


def test_the_error_is_of_the_family(pane):
    trace = trace_of(pane)
    trace.release()
    with pytest.raises(PaneError):
        trace.saliency()
    assert issubclass(ReleasedError, RuntimeError)


def test_what_needs_no_tensor_is_still_there(pane):
    trace = trace_of(pane)
    pair, before = trace.between("conv", "logits"), (list(trace), len(trace), "conv" in trace, repr(trace))
    words = repr(pair), repr(trace["conv"].positive)
    view = trace["conv"].positive
    trace.release()
    assert (list(trace), len(trace), "conv" in trace, repr(trace)) == before
    assert (repr(pair), repr(view)) == words


def test_releasing_twice_is_as_once(pane):
    trace = trace_of(pane)
    trace.release()
    assert trace.release() is None
    with pytest.raises(ReleasedError, match=MESSAGE):
        trace.logits()


def test_other_traces_of_the_model_live_on(pane):
    first, second = trace_of(pane), trace_of(pane)
    expected = channels(second.saliency(0))
    first.release()
    for again in (second, trace_of(pane)):
        np.testing.assert_array_equal(channels(again.saliency(0)), expected)


def test_maps_made_before_stay_valid(pane):
    trace = trace_of(pane)
    pair = trace.between("input", "added")
    maps = {"saliency": trace.saliency(0), "map": pair.map([(0, 0, 0), (1, 2, 1)]), "dense": pair.dense()}
    table, plain, output = pair.channels(), pair.expression().to_dense_network(), trace["conv"].output
    before = {name: [np.array(getattr(m, part)) for part in PARTS] for name, m in maps.items()}
    contribution, top, values = np.array(maps["saliency"].contribution().sum), table.top(2), np.array(output)
    dense = plain.evaluate() if hasattr(plain, "evaluate") else None
    trace.release()
    for name, m in maps.items():
        for part, value in zip(PARTS, before[name]):
            np.testing.assert_array_equal(getattr(m, part), value)
    np.testing.assert_array_equal(maps["saliency"].contribution().sum, contribution)
    np.testing.assert_array_equal(maps["saliency"].samples(slice(1, 2)).signal, draw(2, *SHAPE)[1:])
    np.testing.assert_array_equal(output, values)
    assert str(table.top(2)) == str(top)
    assert dense is None or np.array_equal(plain.evaluate(), dense)


# --- memory -------------------------------------------------------------------------------------------------------


def wide():
    """A deep model: its trace is much larger than what a pair or a map of it holds."""
    x = y = keras.Input((16, 16, 4))
    for k in range(6):
        y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name=f"conv{k}")(y))
        y = layers.ReLU(name=f"relu{k}")(y)
    return filled(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))


def test_release_frees_the_trace_while_its_name_is_kept():
    pane, x = pane_keras.wrap(wide()), draw(4, 16, 16, 4)
    pane.trace(x).saliency()
    empty, kept = tensor_bytes(), []
    for _ in range(4):
        trace = pane.trace(x)
        for _ in range(2):
            trace.saliency(0), trace.between("relu2", "logits").map(1)
        kept.append(trace)
    full = tensor_bytes() - empty
    assert full > 4 * 12 * 4 * 16 * 16 * 8 * 4  # four traces of twelve wide values
    for trace in kept:
        trace.release()
    # The inputs may stay: a map that was made before can still be compared with those of other classes.
    assert tensor_bytes() - empty <= 4 * x.nbytes


def test_release_frees_without_a_collection(pane):
    trace = trace_of(pane)
    trace.saliency(), trace.saliency()
    dead = [weakref.ref(slot.value) for slot in trace._record.slots[1:]]
    dead += [weakref.ref(composition) for composition in trace._record.compositions.values()]
    assert len(dead) > 8
    gc.disable()
    try:
        trace.release()
        assert [ref() for ref in dead] == [None] * len(dead)
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["pair", "views"])
def test_release_frees_what_pairs_and_views_hold(pane, name):
    trace = trace_of(pane)
    held = trace.between("conv", "relu") if name == "pair" else trace["norm"].positive
    dead = [weakref.ref(slot.value) for slot in trace._record.slots[1:]]
    trace.release()
    assert held is not None
    assert [ref() for ref in dead] == [None] * len(dead)


# --- what repeated queries share ----------------------------------------------------------------------------------


@pytest.fixture
def composed(monkeypatch):
    """What was composed: (sources, target) of every `Composition` that was made."""
    seen, plain = [], Composition.__init__

    def init(self, record, sources, target, *args, **how):
        seen.append((tuple(sources), target))
        plain(self, record, sources, target, *args, **how)

    monkeypatch.setattr(Composition, "__init__", init)
    return seen


def ask_all(trace):
    pair = trace.between("conv", "logits")
    return [trace.saliency(0), trace.saliency(1), pair.map(0), pair.map([1, 2]), pair.effect((0, 0, 0)),
            pair.channels(), trace.between("conv", "logits").dense()]  # fmt: skip


def test_queries_of_one_trace_share_compositions(pane, composed):
    trace = trace_of(pane)
    ask_all(trace)
    count = len(composed)
    # From the input and from "conv" to the logits, and the halves of a dense pair at a layer in the middle.
    assert count == len(set(composed)) <= 4
    ask_all(trace)
    assert len(composed) == count
    assert trace.between("conv", "logits").composition() is trace.between("conv", "logits").composition()
    ask_all(trace_of(pane))
    assert len(composed) == 2 * count


def test_what_is_asked_differently_is_composed_apart(pane, composed):
    trace = trace_of(pane)
    pair = trace.between("input", "logits")
    plain, cut, other = (pair.composition(split) for split in (None, "conv", "relu"))
    assert len({id(c) for c in (plain, cut, other)}) == 3
    assert len(composed) == 3
    assert pair.composition("conv") is cut
    first, second = trace["added"].positive
    assert first.excitation.composition() is not second.excitation.composition()
    assert trace["conv"].positive.excitation.composition() is not trace.between("input", "conv").composition()


def test_the_order_of_queries_changes_nothing(pane):
    """Each query asked of a trace of its own, first, second, third, and after all others."""
    asked = {
        "saliency": lambda t: t.saliency(0),
        "split at conv": lambda t: t.saliency(0, split_below="conv"),
        "split at added": lambda t: t.saliency(0, split_below="added"),
        "map": lambda t: t.between("input", "added").map((1, 2, 0)),
        "map of logits": lambda t: t.between("conv", "logits").map(0),
        "effect": lambda t: t.between("conv", "hidden").effect((1, 1, 1)),
        "own": lambda t: t["conv"].positive.excitation.map((0, 0, 0)),
    }
    expected = {name: channels(query(trace_of(pane))) for name, query in asked.items()}
    for names in (list(asked), list(asked)[::-1]):
        trace = trace_of(pane)
        for name in names * 3:
            np.testing.assert_array_equal(channels(asked[name](trace)), expected[name], err_msg=name)


@pytest.fixture
def made(monkeypatch):
    """How often each remembered value was made; coefficients without a kernel have none."""
    counts, plain = [], Remembered.__init__

    def init(self, make):
        number = len(counts)
        counts.append(0)

        def counted():
            value = make()
            counts[number] += value is not None
            return value

        plain(self, counted)

    monkeypatch.setattr(Remembered, "__init__", init)
    return counts


def test_magnitudes_of_kernels_are_kept_from_the_second_query_on(pane, made):
    trace = trace_of(pane)
    kernels = 4  # two convolutions, two dense layers
    assert sum(made) == 0
    trace.saliency(0)
    assert sum(made) == kernels + 1  # |c W| of the convolution below the normalization is made of its |W|
    trace.saliency(1)
    assert sum(made) == 2 * (kernels + 1)
    for target in (0, 1, 2):
        trace.saliency(target)
        trace.between("input", "logits").map(target)
    # Of kernels that a sweep rescales, small ones, only |W| is kept.
    assert sum(made) == 2 * (kernels + 1) + 6
    assert set(made) <= {0, 1, 2}


def test_another_pair_shares_the_magnitudes(pane, made):
    trace = trace_of(pane)
    for _ in range(3):
        trace.between("added", "logits").map(0)
    before = sum(made)
    for target in (0, 1):
        trace.between("hidden", "logits").map(target), trace.between("added", "hidden").map(target)
    assert before == sum(made) == 4  # two dense layers, each made twice


def test_a_remembered_value_is_made_twice_and_then_kept():
    calls = []
    value = Remembered(lambda: calls.append(0) or object())
    first, second, third, fourth = value(), value(), value(), value()
    assert len(calls) == 2
    assert first is not second
    assert second is third is fourth


def test_a_single_query_keeps_no_magnitude():
    dead = []

    def make():
        tensor = keras.ops.ones(3)
        dead.append(weakref.ref(tensor))
        return tensor

    value = Remembered(make)
    value()
    assert dead[0]() is None


@pytest.mark.parametrize("before", [0, 1])
def test_an_eager_trace_asked_inside_a_graph_and_then_outside(pane, before):
    """What is kept for later queries must not be a graph's symbolic tensor."""
    expected = channels(trace_of(pane).saliency(0))
    trace = trace_of(pane)
    for _ in range(before):
        trace.saliency(0)
    tf.function(lambda: trace.saliency(0).sum)()
    np.testing.assert_allclose(channels(trace.saliency(0)), expected, rtol=1e-5, atol=1e-6)
