"""Dense blocks by every plan, what plans cost, and sums over channels."""

import sys
import types
from dataclasses import replace

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.composition import Composition
from pane_keras.dense import folded
from pane_keras.errors import InputError, TargetError
from pane_keras.planner import MIDDLE, SOURCE, TARGET
from pane_keras.scaled import normalized
from pane_keras.testing import channels, dense_network, true_values

TOLERANCE = 1e-5


def dense_twin(trace, source, target):
    """Returns the twin's (S, D, sum of absolute products), each (batch, target units, source units)."""
    network, ends = dense_network(trace), (trace._source(source), trace._target(target))
    p, n = network.between(*ends)
    return p + n, p - n, network.magnitude(*ends)


def assert_channels(found, expected, size, word):
    for name, mine, twin in zip("SD", found, expected):
        error, most = np.abs(mine.reshape(twin.shape) - twin), size.max(axis=(1, 2), keepdims=True)
        assert (error <= TOLERANCE * most).all(), f"{name} {word}: off by {error.max():.1e} of {most.max():.1e}"


def chain():
    x = keras.Input((5, 5, 2))
    y = layers.Conv2D(3, 2, activation="tanh")(x)
    y = layers.MaxPooling2D(2, name="pool")(y)
    y = layers.Dense(4, activation="gelu")(layers.Flatten()(y))
    return filled(x, layers.Dense(3)(y))


def residual():
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(3, 3, padding="same", activation="relu", name="stem")(x)
    y = layers.Add(name="sum")([y, layers.Conv2D(3, 3, padding="same")(layers.BatchNormalization()(y))])
    y = layers.GlobalAveragePooling2D(name="pool")(layers.Activation("silu")(y))
    y = layers.Concatenate()([y, layers.Dense(4, activation="tanh")(y)])
    return filled(x, layers.Dense(5)(y))


def waist(wide=12, narrow=2):
    x = keras.Input((wide,))
    y = layers.Dense(wide + 3, activation="tanh")(x)
    y = layers.Dense(narrow, name="waist")(y)
    y = layers.Dense(wide, activation="relu")(y)
    return filled(x, layers.Dense(wide + 1)(y))


def beyond_float32():
    """D is 2^200 and S about as much, while the forward pass on inputs of 2^-100 is finite; rows differ by 2^60."""
    rng = np.random.default_rng(1)
    model = keras.Sequential([keras.Input((6,)), *(layers.Dense(n, use_bias=False) for n in (6, 3, 6, 6, 4))])
    kernels = [rng.integers(-3, 4, weight.shape) * 2.0**40 for weight in model.weights]
    kernels[-1] = kernels[-1] * 2.0 ** np.array([0, -60, -20, 10])
    model.set_weights(kernels)
    return model


MODELS = {"chain": chain, "residual": residual, "waist": waist, "beyond float32": beyond_float32}


def traced(make, batch=2):
    model = make()
    size = 2.0**-100 if make is beyond_float32 else 1
    return pane_keras.wrap(model).trace(draw(batch, *model.input_shape[1:]) * np.float32(size))


ENDS = [(name, "input", "logits") for name in MODELS]
ENDS += [("residual", *ends) for ends in (("stem", "logits"), ("input", "pool"), ("stem", "sum"))]


@pytest.mark.parametrize(("name", "source", "target"), ENDS)
def test_every_plan_gives_the_same_block(name, source, target):
    """A unit of the target has its own scale, so each row is compared with its own chain."""
    trace = traced(MODELS[name])
    pair, (s, d, size) = trace.between(source, target), dense_twin(trace, source, target)
    plans = pair.dense_pair().plans
    assert {TARGET, SOURCE} <= {plan.start for plan in plans}
    assert MIDDLE in {plan.start for plan in plans} or target == "sum"
    for plan in plans:
        dense = folded(pair.dense_pair(plan).block(), pair.output, pair.signal)
        assert np.isfinite(dense.positive).all()
        found = [t.reshape(s.shape) for t in channels(dense)]
        for row in range(s.shape[1]):
            mine, twins = ([t[:, row, None] for t in ts] for ts in (found, (s, d)))
            assert_channels(mine, twins, size[:, row, None], f"by {plan}")
        if name == "beyond float32":
            assert len({0, 100, *np.asarray(dense.log2_scale)[0].tolist()}) > 3


@pytest.mark.parametrize("rows", [range(4, 9), range(1)], ids=str)
def test_blocks_of_rows_of_every_plan(rows):
    """Some rows of the target, from either half of a pair."""
    trace = traced(waist)
    pair, (s, d, size) = trace.between("input", "logits"), dense_twin(trace, "input", "logits")
    for plan in [plan for plan in pair.dense_pair().plans if plan.start != SOURCE]:
        block = pair.dense_pair(plan).row_block(rows)
        found = [_rows_of(t) for t in (block.sum, block.difference)]
        expected = [t[:, rows.start : rows.stop] for t in (s, d)]
        assert_channels(found, expected, size, f"of {rows} by {plan}")


def _rows_of(t):
    t = normalized(t)
    values = true_values(t.mantissa, t.exponent)
    return np.swapaxes(values.reshape(t.rows, -1, *values.shape[1:]), 0, 1)


def test_more_rows_than_one_block_holds():
    x = keras.Input((3,))
    trace = pane_keras.wrap(filled(x, layers.Dense(300)(layers.Dense(280, "tanh")(x)))).trace(draw(2, 3))
    pair, (s, d, size) = trace.between("input", "logits"), dense_twin(trace, "input", "logits")
    for plan in pair.dense_pair().plans[::2]:
        found = channels(folded(pair.dense_pair(plan).block(), pair.output, pair.signal))
        assert_channels(found, (s, d), size, f"by {plan}")


def test_each_half_of_a_middle_plan_is_swept_once(monkeypatch):
    """However many blocks of rows the target has: the plan's cost counts the sweep of a narrow waist once."""
    x = keras.Input((5,))
    y = layers.Dense(600)(layers.Dense(2)(x))
    pair = pane_keras.wrap(filled(x, y)).trace(draw(1, 5)).between("input", "logits").dense_pair()
    swept = []
    for name, plain in (("push", Composition.push), ("pull", Composition.pull)):
        monkeypatch.setattr(Composition, name, lambda self, w, *u, f=plain: swept.append(w.shape[0]) or f(self, w, *u))
    pair.plan = next(plan for plan in pair.plans if plan.start == MIDDLE)
    pair.block()
    assert swept == [2, 2]


# --- what a plan costs --------------------------------------------------------------------------------------------


def stacked(*widths):
    x = keras.Input((widths[0],))
    y = x
    for width in widths[1:]:
        y = layers.Dense(width)(y)
    trace = pane_keras.wrap(filled(x, y)).trace(draw(1, widths[0]))
    return trace.between("input", "logits").dense_pair()


@pytest.mark.parametrize(
    ("widths", "start"),
    [((40, 30, 3), TARGET), ((3, 30, 40), SOURCE), ((60, 60, 2, 60, 60), MIDDLE), ((8, 8, 8), TARGET)],
    ids=str,
)
def test_the_cheapest_plan_starts_from_the_narrowest_place(widths, start):
    pair = stacked(*widths)
    assert pair.plan.start == start
    assert [plan.cost for plan in pair.plans] == sorted(plan.cost for plan in pair.plans)
    assert start != MIDDLE or pair._width(pair.plan.slot) == 2


def test_costs_are_computed_from_the_work_of_the_operands():
    """2 channels x multiply-adds, and 8 passes over what comes in and goes out; units look their coefficients up."""
    pair = stacked(5, 7, 4)
    below, above = 2 * 5 * 7 + 8 * (5 + 7), 2 * 7 * 4 + 8 * (7 + 4)
    above_units, below_units = 8 * (7 + 4), 8 * (5 + 7)
    middle = 4 * above_units + 5 * below_units + 2 * 4 * 7 * 5
    costs = {plan.start: plan.cost for plan in pair.plans if plan.slot is None or pair._width(plan.slot) == 7}
    assert costs == {TARGET: 4 * (above_units + below), SOURCE: 5 * (above + below_units), MIDDLE: middle}


@pytest.mark.parametrize(
    ("layer", "multiply_adds", "outputs"),
    [
        (layers.Dense(5, use_bias=False), 4, (6, 6, 5)),
        (layers.Conv2D(6, 3, groups=2, use_bias=False), 3 * 3 * 4 // 2, (4, 4, 6)),
        (layers.Conv2D(3, (2, 3), strides=2, use_bias=False), 2 * 3 * 4, (3, 2, 3)),
        (layers.Conv2DTranspose(3, 2, strides=2, use_bias=False), 4, (12, 12, 3)),
        (layers.EinsumDense("abcd,def->abcef", output_shape=(6, 6, 2, 3)), 4, (6, 6, 2, 3)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), 3 * 3, (4, 4, 8)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_work_is_two_channels_of_multiply_adds_and_passes(layer, multiply_adds, outputs):
    x = keras.Input((6, 6, 4))
    trace = pane_keras.wrap(filled(x, layer(x))).trace(draw(1, 6, 6, 4))
    (stage,) = trace._record.stages
    (edge,) = stage.edges
    assert edge.operand.out_shape == outputs
    units = np.prod(outputs)
    assert edge.operand.work == 2 * multiply_adds * units + 8 * (6 * 6 * 4 + units)


# --- sums over channels -------------------------------------------------------------------------------------------


def channel_model(wide, narrow):
    x = keras.Input((3, 2, wide))
    y = layers.Dense(4, activation="tanh", name="lower")(x)
    y = layers.Conv2D(narrow, 2, padding="same", activation="relu", name="upper")(y)
    trace = pane_keras.wrap(filled(x, layers.Dense(2)(layers.Flatten()(y)))).trace(draw(2, 3, 2, wide))
    return trace.between("input", "upper")


def summed(pair, contribution, source_axis, target_axis):
    """(S, D, sum of absolute entries), (batch, target channels, source channels)."""
    found, rank = channels(pair.dense()), len(pair.target_shape)
    size = np.abs(found[1])
    if contribution:
        x = np.asarray(pair.signal, "float64")
        x = x.reshape(len(x), *[1] * rank, *x.shape[1:])
        found, size = [t * x for t in found], size * np.abs(x)
    kept = [1 + target_axis % rank, 1 + rank + source_axis % len(pair.source_shape)]
    over = tuple(k for k in range(1, found[0].ndim) if k not in kept)
    return [t.sum(axis=over) for t in (*found, size)]


@pytest.mark.parametrize("contribution", [False, True])
@pytest.mark.parametrize("axes", [(-1, -1), (0, -1), (-3, 1)], ids=str)
@pytest.mark.parametrize("counts", [(3, 5), (5, 3)], ids=str)
def test_channels_are_sums_of_the_dense_block(contribution, axes, counts):
    pair = channel_model(*counts)
    how = {"contribution": contribution, "source_axis": axes[0], "target_axis": axes[1]}
    found = pair.channels(**how)
    *expected, size = summed(pair, contribution, *axes)
    assert found.sum.shape == expected[0].shape == (2, pair.target_shape[axes[1]], pair.source_shape[axes[0]])
    assert_channels(channels(found), expected, size, f"for {how}")
    assert ("contributions" if contribution else "coefficients") in repr(found)


@pytest.mark.parametrize("name", MODELS)
def test_channels_of_other_models(name):
    """Between vectors a channel is a unit; scales are those of each target channel."""
    pair = traced(MODELS[name]).between("input", "logits")
    for contribution in (False, True):
        *expected, size = summed(pair, contribution, -1, -1)
        found = channels(pair.channels(contribution=contribution))
        for row in range(size.shape[1]):
            mine, twins = ([t[:, row, None] for t in ts] for ts in (found, expected))
            assert_channels(mine, twins, size[:, row, None], f"of {name}, channel {row}")


def test_many_channels_are_swept_in_parts(monkeypatch):
    pair = channel_model(3, 5)
    whole = pair.channels()
    monkeypatch.setattr("pane_keras.portions.ENTRIES", 1)
    for part in ("positive", "negative", "sum", "log2_scale"):
        np.testing.assert_allclose(getattr(pair.channels(), part), getattr(whole, part), rtol=1e-5, atol=1e-6)


@pytest.fixture
def tables(monkeypatch):
    """Stands for pandas, which the library does not need."""
    made = types.ModuleType("pandas")
    made.DataFrame = lambda rows, columns: ("table", rows, columns)
    monkeypatch.setitem(sys.modules, "pandas", made)


def test_top_channels_as_a_list(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = channel_model(6, 3).channels()
    s = channels(found)[0][1, 2]
    order = np.argsort(s)
    expected = [k for k in order[::-1][:2] if s[k] > 0] + [k for k in order[:2] if s[k] < 0]
    rows = found.top(2, channel=-1, sample=1)
    assert [row["source"] for row in rows] == expected
    assert {row["target"] for row in rows} == {2}
    for row in rows:
        assert row["sum"] == s[row["source"]]
        np.testing.assert_allclose(row["positive"] + row["negative"], row["sum"], rtol=0, atol=1e-5 * np.abs(s).max())
    largest = int(np.argmax(np.abs(channels(found)[0][0]).max(axis=1)))
    assert {row["target"] for row in found.top(1)} == {largest}
    assert found.top(0) == []


@pytest.mark.usefixtures("tables")
def test_top_channels_as_a_table():
    word, rows, columns = channel_model(6, 3).channels().top(1, channel=0)
    assert (word, columns) == ("table", ["target", "source", "positive", "negative", "sum"])
    assert all(list(row) == columns for row in rows)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p: p.channels(source_axis=3), r"Layer 'input' of shape \(3, 2, 3\) has no axis 3 for its channels"),
        (lambda p: p.channels(target_axis=-4), r"Layer 'upper' of shape \(3, 2, 5\) has no axis -4 for its channels"),
        (lambda p: p.channels().top(channel=5), r"Layer 'upper' has the channels 0 to 4\. Received: channel=5"),
        (lambda p: p.channels().top(channel=-6), r"Received: channel=-6"),
        (lambda p: p.channels().top(channel=1.5), r"has the channels 0 to 4\. Received: channel=1\.5"),
        (lambda p: p.channels().top(channel="a"), r"has the channels 0 to 4\. Received: channel='a'"),
        (lambda p: p.channels().top(sample=0.5), r"The trace has the samples 0 to 1\. Received: sample=0\.5"),
        (lambda p: p.channels().top(sample=2), r"The trace has the samples 0 to 1\. Received: sample=2"),
        (lambda p: p.channels().top(sample=-3), r"Received: sample=-3"),
    ],
)
def test_channels_that_there_are_not(ask, message):
    with pytest.raises(TargetError, match=message):
        ask(channel_model(3, 5))


def test_the_contributions_of_a_dense_pair():
    x = keras.Input((3, 2, 2))
    model = filled(x, layers.Conv2D(3, 2, name="conv")(x))
    pair = pane_keras.wrap(model).trace(draw(2, 3, 2, 2)).between("input", "conv")
    dense = pair.dense()
    found = dense.contribution()
    assert type(found) is type(dense)
    assert (found.quantity, found.axes, found.over, found.of) == ("contribution", dense.axes, dense.over, dense.of)
    signal = np.asarray(pair.signal)[:, None, None, None]
    for part in ("positive", "negative", "sum"):
        np.testing.assert_array_equal(getattr(found, part), np.asarray(getattr(dense, part)) * signal)
    with pytest.raises(InputError, match="Received: maps that are contributions already"):
        found.contribution()


def test_maps_are_equal_to_themselves_and_can_be_keys():
    """Compared by their tensors, two maps raise: an array has no one truth value."""
    pair = channel_model(3, 5)
    for made in (pair.channels(), pair.map((0, 0, 0)), pair.dense()):
        other = replace(made)
        assert made == made
        assert made != other
        assert len({made, other}) == 2
