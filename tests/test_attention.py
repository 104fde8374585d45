"""Attention layers against float64 twins, which take signs from float64 numbers of their own (`Tracked.margin`)."""

import keras
import numpy as np
import pytest
import twins_sequences as twins
from agreement import assert_agrees, assert_close, draw, filled, traced
from keras import layers
from tracked import linear, reshaped, source, tanh

from pane_keras.errors import NoPathError

T, S, D = 3, 4, 3
MASK = np.array([[[1, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 1]], [[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 1]]], bool)
CAUSAL = np.tri(T, S, dtype=bool)[None].repeat(2, 0)
BAND = np.abs(np.subtract.outer(np.arange(T), np.arange(S)))[None].repeat(2, 0) < 2


def mha(**settings):
    return layers.MultiHeadAttention(2, 2, **settings), twins.multi_head_attention


def gqa(**settings):
    return layers.GroupQueryAttention(2, 4, 2, **settings), twins.grouped_query_attention


def plain(**settings):
    return layers.Attention(**settings), twins.attention


def additive(**settings):
    return layers.AdditiveAttention(**settings), twins.additive_attention


# (layer and twin, arguments of the call, mask, whether the layer forms the scores)
PROJECTED = {
    "plain": (mha, {}, {}, None, False),
    "value_dim, output_shape": (mha, {"value_dim": 3, "output_shape": 5}, {}, None, False),
    "no bias": (mha, {"use_bias": False}, {}, None, False),
    "causal": (mha, {}, {"use_causal_mask": True}, CAUSAL, False),
    "attention_mask": (mha, {}, {"attention_mask": MASK}, MASK, False),
    "causal and masked": (mha, {}, {"use_causal_mask": True, "attention_mask": MASK | CAUSAL}, CAUSAL, False),
    "dropout": (mha, {"dropout": 0.4}, {}, None, True),
    "dropout, masked": (mha, {"dropout": 0.4}, {"attention_mask": MASK}, MASK, True),
    "dropout, causal": (mha, {"dropout": 0.4}, {"use_causal_mask": True}, CAUSAL, True),
    "window": (mha, {"sliding_window": 2}, {}, BAND, False),
    "gate": (mha, {"use_gate": True}, {}, None, False),
    "gate, dropout": (mha, {"use_gate": True, "dropout": 0.2}, {}, None, True),
    "grouped": (gqa, {}, {}, None, False),
    "grouped, no bias": (gqa, {"use_bias": False}, {}, None, False),
    "grouped, causal": (gqa, {}, {"use_causal_mask": True}, CAUSAL, False),
    "grouped, masked": (gqa, {}, {"attention_mask": MASK}, MASK, False),
    "grouped, dropout": (gqa, {"dropout": 0.3}, {"attention_mask": MASK}, MASK, True),
    "grouped, window": (gqa, {"sliding_window": 2}, {}, BAND, False),
    "grouped, gate": (gqa, {"use_gate": True}, {}, None, False),
}


def _inputs(key=True):
    shapes = {"query": (T, D), "value": (S, D)} | ({"key": (S, D)} if key else {})
    return {n: keras.Input(s, name=n) for n, s in shapes.items()}, {n: draw(2, *s) for n, s in shapes.items()}


def _signals(x):
    return {name: source(name, value) for name, value in x.items()}


@pytest.mark.parametrize("case", PROJECTED)
def test_projected_attention(case):
    """With a key of its own in half of the cases; query and key excite nothing, but for a gate of the query's."""
    make, settings, call, mask, scored = PROJECTED[case]
    (layer, twin), (symbols, x) = make(**settings), _inputs(key=len(case) % 2)
    trace = traced(filled(list(symbols.values()), layer(**symbols, **call)), list(x.values()))
    output, _ = twin(layer, **_signals(x), mask=mask, scored=scored)
    assert "value" in output.chains
    assert ("query" in output.chains) == ("gate" in case)
    _assert_all(trace, layer.name, output, x)


# (layer and twin, arguments of the call, mask)
UNPROJECTED = {
    "dot": (plain, {}, {}, None),
    "dot, scaled": (plain, {"use_scale": True, "dropout": 0.5}, {}, None),
    "dot, causal": (plain, {}, {"use_causal_mask": True}, CAUSAL),
    "concat": (plain, {"score_mode": "concat"}, {}, None),
    "concat, scaled": (plain, {"score_mode": "concat", "use_scale": True}, {}, None),
    "additive": (additive, {}, {}, None),
    "additive, plain": (additive, {"use_scale": False, "dropout": 0.5}, {}, None),
    "additive, causal": (additive, {}, {"use_causal_mask": True}, CAUSAL),
}


@pytest.mark.parametrize("case", UNPROJECTED)
def test_attention_without_projections(case):
    make, settings, call, mask = UNPROJECTED[case]
    (layer, twin), (symbols, x) = make(**settings), _inputs(key=len(case) % 2)
    trace = traced(filled(list(symbols.values()), layer(list(symbols.values()), **call)), list(x.values()))
    output, _ = twin(layer, **_signals(x), mask=mask)
    _assert_all(trace, layer.name, output, x)


def _assert_all(trace, target, output, x):
    for name in output.chains:
        assert_agrees(trace, name, target, output)
    for name in set(x) - set(output.chains):
        with pytest.raises(NoPathError):
            trace.between(name, target)


@pytest.mark.parametrize("make", [mha, gqa, plain, additive])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_a_sequence_to_itself(make, causal):
    layer, twin = make()
    x, data = keras.Input((S, D)), draw(2, S, D, seed=3)
    inputs = (x, x) if make in (mha, gqa) else ([x, x],)
    trace = traced(filled(x, layer(*inputs, use_causal_mask=causal)), data)
    signal = source("input", data)
    output, _ = twin(layer, signal, signal, mask=np.tri(S, dtype=bool)[None].repeat(2, 0) if causal else None)
    assert_agrees(trace, "input", layer.name, output)


@pytest.mark.parametrize("make", [mha, gqa, plain, additive])
def test_returned_scores_are_an_output_that_nothing_excites(make):
    (layer, twin), (symbols, x) = make(), _inputs(key=False)
    inputs = symbols.values() if make in (mha, gqa) else [list(symbols.values())]
    model = filled(list(symbols.values()), layer(*inputs, return_attention_scores=True))
    trace = traced(model, list(x.values()))
    assert list(trace) == [f"{layer.name}[0]", f"{layer.name}[1]"]
    output, weights = twin(layer, **_signals(x))
    assert_agrees(trace, "value", f"{layer.name}[0]", output)
    assert_close(trace[f"{layer.name}[1]"].output, weights, "scores")
    with pytest.raises(NoPathError):
        trace.between("value", f"{layer.name}[1]")


def test_scores_are_a_constant_for_what_they_multiply():
    layer, (symbols, x) = layers.MultiHeadAttention(2, 2), _inputs(key=False)
    output, scores = layer(symbols["query"], symbols["value"], return_attention_scores=True)
    product = keras.ops.einsum("bnts,bsd->bntd", scores, symbols["value"])
    trace = traced(filled(list(symbols.values()), [output, product]), list(x.values()))
    _, weights = twins.multi_head_attention(layer, **_signals(x))
    expected = linear(source("value", x["value"]), [lambda s, a=a: np.einsum("nts,sd->ntd", a, s) for a in weights])
    assert_agrees(trace, "value", list(trace)[-1], expected)


@pytest.mark.parametrize(("axes", "gate"), [(2, False), (-2, True), ((1, 2), False), (None, False)])
def test_attention_along_some_axes_of_a_picture(axes, gate):
    """Along one axis each row of the picture is a sequence; along both the picture is one."""
    layer, shape = layers.MultiHeadAttention(2, 2, attention_axes=axes, use_gate=gate), (2, 3, D)
    x, data = keras.Input(shape), draw(2, *shape, seed=5)
    trace = traced(filled(x, layer(x, x)), data)
    signal = source("input", data)
    rows = signal if axes in (2, -2) else reshaped(signal, (6, D))
    output, _ = twins.multi_head_attention(layer, rows, rows, scored=True)
    assert_agrees(trace, "input", layer.name, reshaped(output, shape))


IDS = np.array([[3, 1, 0, 0], [2, 4, 1, 0]])


@pytest.mark.parametrize("make", [mha, gqa, plain, additive])
@pytest.mark.parametrize("which", ["query", "value", "both"])
def test_masks_of_an_embedding(make, which):
    """A mask on the query leaves rows with nothing to attend to, or makes them 0; one on the value leaves out steps."""
    layer, twin = make()
    ids = keras.Input((4,), dtype="int32", name="ids")
    query, value = (layers.Embedding(5, D, mask_zero=which in (word, "both"), name=word) for word in ("query", "value"))
    symbols = [query(ids), value(ids)]
    output = layer(*symbols) if make in (mha, gqa) else layer(symbols)
    trace = traced(filled(ids, output), IDS)
    signals = [source(e.name, twins.embedding(e, IDS)) for e in (query, value)]
    expected, _ = twin(layer, *signals, **_masks(make, which))
    assert_agrees(trace, "value", layer.name, expected)


def _masks(make, which):
    rows, columns = (np.where(which in (word, "both"), IDS != 0, True) for word in ("query", "value"))
    if make in (mha, gqa):
        return {"mask": rows[:, :, None] & columns[:, None, :]}
    return {"mask": columns[:, None, :].repeat(4, 1), "query_mask": rows}


def test_a_mask_that_is_an_input():
    layer, (symbols, x) = layers.MultiHeadAttention(2, 2), _inputs(key=False)
    mask = keras.Input((T, S), dtype="bool", name="mask")
    inputs = [*symbols.values(), mask]
    trace = traced(filled(inputs, layer(**symbols, attention_mask=mask)), [*x.values(), MASK])
    output, _ = twins.multi_head_attention(layer, **_signals(x), mask=MASK)
    assert_agrees(trace, "value", layer.name, output)


def test_a_transformer_block():
    """Attention with a residual, a gate of two live factors and a second attention to what the first one emits."""
    x, data = keras.Input((S, D)), draw(2, S, D, seed=9)
    first, second, up = layers.MultiHeadAttention(1, 2), layers.Attention(), layers.Dense(D, activation="tanh")
    y = layers.Add()([x, first(x, x)])
    z = layers.Multiply()([second([x, y]), up(y)])
    trace = traced(filled(x, z), data)
    signal = source("input", data)
    after = signal + twins.multi_head_attention(first, signal, signal)[0]
    gated = twins.attention(second, signal, after)[0] * tanh(twins.dense(up, after))
    assert_agrees(trace, "input", "logits", gated)
