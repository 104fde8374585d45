"""Recurrence, one layer at every step, and embeddings, against float64 twins with signs of their own."""

import keras
import numpy as np
import pytest
import twins_sequences as twins
from agreement import assert_agrees, assert_close, draw, filled, traced
from keras import layers
from tracked import constant, joined, linear, source, where

import pane_keras
from pane_keras.errors import NoPathError

T, D, UNITS = 3, 2, 2
IDS = np.array([[0, 3, 0], [2, 4, 0]])

RECURRENT = {
    "simple": lambda **s: layers.SimpleRNN(UNITS, **s),
    "gru": lambda **s: layers.GRU(UNITS, **s),
    "gru before": lambda **s: layers.GRU(UNITS, reset_after=False, **s),
    "lstm": lambda **s: layers.LSTM(UNITS, **s),
}
CELLS = {
    "simple": lambda: layers.SimpleRNNCell(UNITS),
    "gru": lambda: layers.GRUCell(UNITS),
    "gru before": lambda: layers.GRUCell(UNITS, reset_after=False),
    "lstm": lambda: layers.LSTMCell(UNITS),
}
DROPOUT = {"dropout": 0.3, "recurrent_dropout": 0.2}


def _end(layer, steps):
    return twins.whole(steps) if layer.return_sequences else steps[-1]


def _assert_sequence(layer, seed=0, length=T):
    """A model of this one layer on a plain input agrees with the layer's twin."""
    x, data = keras.Input((length, D)), draw(2, length, D, seed=seed)
    trace = traced(filled(x, layer(x), seed), data)
    steps, _ = twins.recurrent(layer, source("input", data))
    assert_agrees(trace, "input", layer.name, _end(layer, steps))


@pytest.mark.parametrize("kind", RECURRENT)
def test_the_last_output(kind):
    _assert_sequence(RECURRENT[kind](**DROPOUT))


@pytest.mark.parametrize("kind", RECURRENT)
def test_all_outputs_from_the_end_without_a_bias(kind):
    _assert_sequence(RECURRENT[kind](return_sequences=True, go_backwards=True, use_bias=False), seed=1, length=2)


@pytest.mark.parametrize("kind", ["gru", "gru before", "lstm"])
def test_the_other_implementation(kind):
    """Unrolled by Keras too, with one product a gate."""
    layer = RECURRENT[kind](unroll=True, **DROPOUT)
    layer.cell.implementation = 1
    _assert_sequence(layer, seed=2, length=2)


def _states(layer, seed):
    count = len(twins.zeros(layer.cell, 1))
    return {f"state{k}": draw(2, UNITS, seed=seed + k) for k in range(count)}


@pytest.mark.parametrize("kind", ["simple", "gru", "lstm"])
def test_states_that_go_in_and_come_out(kind):
    layer, data = RECURRENT[kind](return_state=True, return_sequences=kind == "simple"), draw(2, 2, D, seed=4)
    x, given = keras.Input((2, D), name="x"), _states(layer, seed=5)
    symbols = [keras.Input((UNITS,), name=name) for name in given]
    model = filled([x, *symbols], layer(x, initial_state=symbols))
    trace = traced(model, [data, *given.values()])
    signals = [source(name, value) for name, value in given.items()]
    steps, last = twins.recurrent(layer, source("x", data), signals)
    outputs = [_end(layer, steps), *last]
    assert list(trace) == [f"{layer.name}[{k}]" for k in range(len(outputs))]
    for name in ("x", *given):
        assert_agrees(trace, name, f"{layer.name}[0]", outputs[0])
    assert_agrees(trace, "state0", f"{layer.name}[{len(last)}]", outputs[-1])


@pytest.mark.parametrize("kind", ["simple", "gru before", "lstm"])
def test_a_stateful_layer_starts_from_its_states_and_keeps_them(kind):
    layer, data = RECURRENT[kind](stateful=True), draw(2, 2, D, seed=6)
    x = keras.Input(batch_shape=(2, 2, D))
    model, before = filled(x, layer(x)), _states(layer, seed=7)
    trace = _from_states(model, layer, before, data)
    for variable, value in zip(layer.states, before.values()):
        assert np.array_equal(np.asarray(variable), value)
    assert_close(trace.logits(), model(data, training=False), "output")
    assert trace.check().max_residual <= 1e-6
    steps, _ = twins.recurrent(layer, source("input", data), [constant(value) for value in before.values()])
    assert_agrees(trace, "input", layer.name, steps[-1])


def _from_states(model, layer, states, data):
    for variable, value in zip(layer.states, states.values()):
        variable.assign(value)
    return pane_keras.wrap(model).trace(data)


@pytest.mark.parametrize(
    ("kind", "zero"), [("simple", False), ("simple", True), ("gru", True), ("gru before", False), ("lstm", False)]
)
def test_masked_steps_keep_what_was_before(kind, zero):
    layer = RECURRENT[kind](return_sequences=True, zero_output_for_mask=zero, go_backwards=zero)
    given = IDS if kind == "simple" else IDS[:, 1:]
    ids, table = keras.Input(given.shape[1:], dtype="int32"), layers.Embedding(5, D, mask_zero=True, name="table")
    trace = traced(filled(ids, layer(table(ids)), seed=3), given)
    steps, _ = twins.recurrent(layer, source("table", twins.embedding(table, given)), mask=given != 0)
    assert_agrees(trace, "table", layer.name, twins.whole(steps))


def test_masking_makes_steps_zero_and_masks_them():
    data = draw(2, T, D, seed=8)
    data[0, 1] = data[1, :2] = 0.5
    x, layer = keras.Input((T, D)), layers.GRU(UNITS)
    trace = traced(filled(x, layer(layers.Masking(0.5)(x))), data)
    mask = np.any(data != 0.5, axis=-1)
    steps, _ = twins.recurrent(layer, where(mask, source("input", data), 0.0), mask=mask)
    assert_agrees(trace, "input", layer.name, steps[-1])


def test_a_mask_that_is_an_input_and_leaves_out_every_step_of_a_sample():
    data, kept = draw(2, 2, D), np.array([[True, False], [False, False]])
    x, mask = keras.Input((2, D), name="x"), keras.Input((2,), dtype="bool", name="mask")
    layer = layers.LSTM(UNITS, return_state=True)
    trace = traced(filled([x, mask], layer(x, mask=mask)), [data, kept])
    steps, last = twins.recurrent(layer, source("x", data), mask=kept)
    assert_agrees(trace, "x", f"{layer.name}[0]", steps[-1])
    assert_agrees(trace, "x", f"{layer.name}[2]", last[1])


@pytest.mark.parametrize("kind", ["simple", "gru before", "lstm"])
def test_a_cell_as_a_layer_of_its_own(kind):
    cell, data = CELLS[kind](), draw(2, D, seed=9)
    x = keras.Input((D,), name="x")
    count = 2 if kind == "lstm" else 1
    given = {f"state{k}": draw(2, UNITS, seed=k) for k in range(count)}
    symbols = [keras.Input((UNITS,), name=name) for name in given]
    output, states = cell(x, symbols)
    trace = traced(filled([x, *symbols], [output, *states]), [data, *given.values()])
    expected, following = twins.step(cell, source("x", data), [source(n, value) for n, value in given.items()])
    for name in ("x", *given):
        assert_agrees(trace, name, f"{cell.name}[0]", expected)
        assert_agrees(trace, name, f"{cell.name}[{count}]", following[-1])


@pytest.mark.parametrize("kinds", [["gru before"], ["simple", "lstm"], ["lstm", "gru"]])
def test_rnn_over_cells(kinds):
    cells = [CELLS[kind]() for kind in kinds]
    _assert_sequence(layers.RNN(layers.StackedRNNCells(cells) if len(cells) > 1 else cells[0]), seed=10, length=2)


def test_states_of_stacked_cells_come_out_in_order():
    layer, data = layers.RNN([CELLS["lstm"](), CELLS["gru"]()], return_state=True), draw(2, 2, D, seed=11)
    x = keras.Input((2, D))
    output = layer(x)
    trace = traced(filled(x, keras.tree.flatten(output)), data)
    steps, states = twins.recurrent(layer, source("input", data))
    for k, signal in enumerate([steps[-1], *keras.tree.flatten(states)]):
        assert_close(trace[f"{layer.name}[{k}]"].output, signal.value, "state")
    assert_agrees(trace, "input", f"{layer.name}[0]", steps[-1])


@pytest.mark.parametrize(
    ("mode", "kind", "sequences"),
    [("concat", "simple", True), ("concat", "lstm", False), ("sum", "simple", True), ("ave", "simple", False),
     ("mul", "simple", True), (None, "simple", True), (None, "simple", False)],
)  # fmt: skip
def test_both_ways(mode, kind, sequences):
    layer = layers.Bidirectional(RECURRENT[kind](return_sequences=sequences), merge_mode=mode)
    x, data = keras.Input((2, D)), draw(2, 2, D, seed=12)
    trace = traced(filled(x, layer(x), seed=12), data)
    expected, _ = twins.bidirectional(layer, source("input", data))
    several = isinstance(expected, list)
    for k, signal in enumerate(expected if several else [expected]):
        assert_agrees(trace, "input", f"{layer.name}[{k}]" if several else layer.name, signal)


@pytest.mark.parametrize("mode", ["concat", None])
def test_both_ways_with_states_and_a_mask(mode):
    layer = layers.Bidirectional(layers.SimpleRNN(UNITS, return_sequences=True, return_state=True), merge_mode=mode)
    ids, table = keras.Input((T,), dtype="int32"), layers.Embedding(5, D, mask_zero=True, name="table")
    trace = traced(filled(ids, list(layer(table(ids))), seed=14), IDS)
    expected, states = twins.bidirectional(layer, source("table", twins.embedding(table, IDS)), mask=IDS != 0)
    expected = [*(expected if mode is None else [expected]), *states]
    for k, signal in enumerate(expected):
        assert_agrees(trace, "table", f"{layer.name}[{k}]", signal)


def test_both_ways_from_given_states():
    layer, data = layers.Bidirectional(layers.SimpleRNN(UNITS)), draw(2, T, D, seed=15)
    x, given = keras.Input((T, D), name="x"), {"ahead": draw(2, UNITS, seed=1), "back": draw(2, UNITS, seed=2)}
    symbols = [keras.Input((UNITS,), name=name) for name in given]
    trace = traced(filled([x, *symbols], layer(x, initial_state=symbols)), [data, *given.values()])
    ways = [
        twins.recurrent(way, source("x", data), [source(name, given[name])])[0][-1]
        for way, name in ((layer.forward_layer, "ahead"), (layer.backward_layer, "back"))
    ]
    expected = joined(lambda a, b: np.concatenate([a, b]), *ways)
    for name in ("x", *given):
        assert_agrees(trace, name, layer.name, expected)


def test_an_encoder_gives_its_states_to_a_decoder():
    x, y = keras.Input((2, D), name="x"), keras.Input((2, D), name="y")
    encoder, decoder = layers.LSTM(UNITS, return_state=True), layers.LSTM(UNITS)
    _, *states = encoder(x)
    model = filled([x, y], decoder(y, initial_state=states), seed=16)
    data = {"x": draw(2, 2, D, seed=16), "y": draw(2, 2, D, seed=17)}
    trace = traced(model, data)
    _, given = twins.recurrent(encoder, source("x", data["x"]))
    steps, _ = twins.recurrent(decoder, source("y", data["y"]), given)
    for name in data:
        assert_agrees(trace, name, decoder.name, steps[-1])


# --- one layer at every step --------------------------------------------------------------------------------------


def test_dense_at_every_step():
    layer, data = layers.TimeDistributed(layers.Dense(3)), draw(2, T, D)
    x = keras.Input((T, D))
    trace = traced(filled(x, layer(x)), data)
    expected = twins.time_distributed(lambda s: twins.dense(layer.layer, s), source("input", data))
    assert_agrees(trace, "input", layer.name, expected)


def test_a_chain_of_convolution_and_pooling_at_every_step():
    conv = layers.Conv1D(2, 2)
    layer = layers.TimeDistributed(keras.Sequential([keras.Input((5, D)), conv, layers.MaxPooling1D(2)]))
    x, data = keras.Input((T, 5, D)), draw(2, T, 5, D, seed=1)
    trace = traced(filled(x, layer(x)), data)

    def convolved(s):
        return sum(s[k : k + 4] @ twins.values(conv.kernel)[k] for k in range(2))

    def twin(signal):
        return _largest_of_pairs(linear(signal, convolved, twins.values(conv.bias)))

    assert_agrees(trace, "input", layer.name, twins.time_distributed(twin, source("input", data)))


def _largest_of_pairs(x):
    """Max pooling over two steps, as a 0/1 matrix a sample."""

    def chosen(sample):
        first = sample[0::2] >= sample[1::2]
        return lambda s: np.where(first, s[0::2], s[1::2])

    return linear(x, [chosen(sample) for sample in x.value])


def test_a_nested_model_at_every_step_with_a_mask():
    dense, step = layers.Dense(D), keras.Input((D,))
    layer = layers.TimeDistributed(keras.Model(step, layers.Add()([step, dense(step)])))
    ids, table = keras.Input((T,), dtype="int32"), layers.Embedding(5, D, mask_zero=True, name="table")
    after = layers.SimpleRNN(UNITS)
    trace = traced(filled(ids, after(layer(table(ids)))), IDS)
    signal = source("table", twins.embedding(table, IDS))
    steps = twins.time_distributed(lambda s: s + twins.dense(dense, s), signal)
    assert_agrees(trace, "table", layer.name, steps)
    assert_agrees(trace, "table", after.name, twins.recurrent(after, steps, mask=IDS != 0)[0][-1])


def test_a_recurrent_layer_at_every_step():
    layer, data = layers.TimeDistributed(layers.SimpleRNN(UNITS)), draw(2, 2, T, D, seed=3)
    x = keras.Input((2, T, D))
    trace = traced(filled(x, layer(x)), data)
    twin = lambda s: twins.recurrent(layer.layer, s)[0][-1]  # noqa: E731
    assert_agrees(trace, "input", layer.name, twins.time_distributed(twin, source("input", data)))


# --- embeddings ---------------------------------------------------------------------------------------------------


def test_excitations_start_from_the_vectors_of_an_embedding():
    table, dense = layers.Embedding(5, D, name="table"), layers.Dense(3, name="scores")
    ids = keras.Input((T,), dtype="int32", name="ids")
    trace = traced(filled(ids, dense(layers.Flatten()(table(ids)))), IDS)
    vectors = twins.embedding(table, IDS)
    assert_close(trace["table"].output, vectors, "vectors")
    assert_agrees(trace, "table", "scores", twins.dense(dense, twins.flattened(source("table", vectors))))
    with pytest.raises(NoPathError):
        trace.between("ids", "scores")
    with pytest.raises(NoPathError, match="table"):
        trace.saliency()


@pytest.mark.parametrize(("tied", "cap"), [(True, None), (True, 0.5), (False, 2.0)])
def test_an_embedding_in_both_directions(tied, cap):
    table = layers.ReversibleEmbedding(5, D, tie_weights=tied, logit_soft_cap=cap)
    dense, ids = layers.Dense(D, name="dense"), keras.Input((T,), dtype="int32")
    trace = traced(filled(ids, table(dense(table(ids)), reverse=True)), IDS)
    first, _, last = trace
    middle = twins.dense(dense, source(first, twins.embedding(table, IDS)))
    assert_agrees(trace, first, last, twins.reverse_embedding(table, middle))
