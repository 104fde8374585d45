"""Recurrent layers, unrolled over time: every step is the graph of the cell, whose gates are products."""

import keras
from keras import ops, tree

from pane_keras import backend, pieces
from pane_keras.arguments import Arguments
from pane_keras.emission import emit
from pane_keras.errors import UnsupportedLayerError
from pane_keras.registry import register_as
from pane_keras.rules.merging import concatenation, sum_piece
from pane_keras.rules.sequences import kept, stacked, steps


@register_as(keras.layers.StackedRNNCells, "ConvLSTMCell")
def cell(layer, inputs, arguments):
    """One step: the graph of the cell's own call."""
    return pieces.graph(layer, inputs, arguments)


# A bias is added after the products of input and state, so that o' is their sum. Keras adds it to either of
# them, depending on `implementation`.


@register_as(keras.layers.SimpleRNNCell)
def simple_cell(layer, inputs, arguments):
    """h = f(x W + h' U + b)."""

    def step(x, states, training=False):
        h = _activated(layer.activation, _projected(layer, x, tree.flatten(states)[0]))
        return h, _like_states(states, h)

    return pieces.graph(layer, inputs, arguments, function=step, key="step")


@register_as(keras.layers.LSTMCell)
def lstm_cell(layer, inputs, arguments):
    """i, f, o = s(x W + h' U + b), g = t(x W + h' U + b), c = f c' + i g, h = o t(c)."""

    def step(x, states, training=False):
        h, c = states
        i, f, g, o = ops.split(_projected(layer, x, h), 4, axis=1)
        i, f, o = (_activated(layer.recurrent_activation, gate) for gate in (i, f, o))
        c = f * c + i * _activated(layer.activation, g)
        h = o * _activated(layer.activation, c)
        return h, [h, c]

    return pieces.graph(layer, inputs, arguments, function=step, key="step")


@register_as(keras.layers.GRUCell)
def gru_cell(layer, inputs, arguments):
    """z, r = s(x W + h' U + b), g = t(x W + r (h' U + b') + b) or t(x W + (r h') U + b), h = z h' + (1 - z) g."""

    def step(x, states, training=False):
        before = tree.flatten(states)[0]
        z, r, g = (_gru_gate(layer, k, x, before) for k in range(3))
        z, r = (_activated(layer.recurrent_activation, gate()) for gate in (z, r))
        h = z * before + (1.0 - z) * _activated(layer.activation, g(r))
        return h, _like_states(states, h)

    return pieces.graph(layer, inputs, arguments, function=step, key="step")


def _gru_gate(layer, k, x, before):
    """Function (reset gate or nothing) -> x W_k + h' U_k + b_k, the state reset where the layer resets it."""
    part = slice(k * layer.units, (k + 1) * layer.units)
    kernel, recurrent = layer.kernel[:, part], layer.recurrent_kernel[:, part]
    bias, inner = _gru_biases(layer, part)

    def gate(reset=None):
        if reset is None:
            total = ops.matmul(x, kernel) + ops.matmul(before, recurrent)
            return _shifted(_shifted(total, bias), inner)
        if layer.reset_after:
            return _shifted(ops.matmul(x, kernel) + reset * _shifted(ops.matmul(before, recurrent), inner), bias)
        return _shifted(ops.matmul(x, kernel) + ops.matmul(reset * before, recurrent), bias)

    return gate


def _gru_biases(layer, part):
    if layer.bias is None:
        return None, None
    return (layer.bias[0, part], layer.bias[1, part]) if layer.reset_after else (layer.bias[part], None)


def _projected(layer, x, h):
    return _shifted(ops.matmul(x, layer.kernel) + ops.matmul(h, layer.recurrent_kernel), layer.bias)


def _shifted(x, bias):
    return x if bias is None else x + bias


def _activated(activation, x):
    return x if activation is None else activation(x)


def _like_states(states, h):
    return [h] if isinstance(states, (list, tuple)) else h


@register_as(
    keras.layers.RNN,
    keras.layers.LSTM,
    keras.layers.GRU,
    keras.layers.SimpleRNN,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
)
def recurrent(layer, inputs, arguments):
    """The cell, unrolled over the steps; where a step is masked, its state and output are those before it."""

    def run(record, *_):
        sequence = arguments.get("sequences")
        outputs, states = _unrolled(
            layer, record, sequence, _initial(layer, record, arguments), arguments.mask("sequences")
        )
        output = stacked(record, outputs) if layer.return_sequences else outputs[-1]
        return [output, *states] if layer.return_state else output

    return run


@register_as(keras.layers.Bidirectional)
def bidirectional(layer, inputs, arguments):
    """Two recurrent layers, one of them from the end, and how their outputs are merged."""

    def run(record, *_):
        ways = [
            _one_way(record, *each)
            for each in zip((layer.forward_layer, layer.backward_layer), _ways(layer, arguments))
        ]
        (ahead, *states), (back, *more) = ways
        if layer.return_sequences:
            back = pieces.nonnegative(lambda x: ops.flip(x, axis=1), copies=True, kind="reversal")(record, back)
        output = _merged(layer.merge_mode, record, ahead, back)
        states = [*states, *more]
        if not states:
            return output
        return [*output, *states] if layer.merge_mode is None else [output, *states]

    return run


@register_as(keras.layers.TimeDistributed)
def time_distributed(layer, inputs, arguments):
    """The layer at every step, unrolled."""

    def run(record, *_):
        mask = arguments.mask("inputs")
        outputs = []
        for t, step in enumerate(steps(record, arguments.get("inputs"))):
            inner = Arguments(layer.layer, (step,), {})
            if mask is not None and inner.takes("mask"):
                inner = Arguments(layer.layer, (step,), {"mask": record.slot(mask[:, t], held=True)})
            outputs.append(emit(record, inner, f"{record.name}/{layer.layer.name}"))
        return stacked(record, outputs)

    return run


def _unrolled(layer, record, sequence, states, mask):
    outputs = []
    order = list(enumerate(steps(record, sequence)))
    for t, x in reversed(order) if layer.go_backwards else order:
        output, following = emit(record, Arguments(layer.cell, (x, states), {}), f"{record.name}/{layer.cell.name}")
        following = following if tree.is_nested(following) else [following]
        if mask is not None:
            output, following = _masked(layer, record, mask[:, t], output, outputs, following, states)
        outputs.append(output)
        states = following
    return outputs, states


def _masked(layer, record, mask, output, before, following, states):
    zero = record.slot(ops.zeros_like(output.value), held=True)
    old = zero if not before or getattr(layer, "zero_output_for_mask", False) else before[-1]
    pairs = zip(tree.flatten(following), tree.flatten(states))
    following = tree.pack_sequence_as(following, [kept(record, mask, new, old) for new, old in pairs])
    return kept(record, mask, output, old), following


def _initial(layer, record, arguments):
    """The states before the first step: passed ones, those that a stateful layer holds, or zeros."""
    given = arguments.get("initial_state")
    if given is not None:
        return list(given) if tree.is_nested(given) else [given]
    if getattr(layer, "stateful", False):
        states = tree.map_structure(lambda v: backend.snapshot(v, record.dtype), layer.states)
    else:
        batch = backend.dims(arguments.get("sequences").value)[0]
        states = _zeros(layer, arguments.get("sequences"), batch)
    return list(tree.map_structure(lambda v: record.slot(ops.cast(v, record.dtype), held=True), states))


def _zeros(layer, sequence, batch):
    if isinstance(layer, (keras.layers.ConvLSTM1D, keras.layers.ConvLSTM2D, keras.layers.ConvLSTM3D)):
        shape = layer.cell.compute_output_shape((None, *sequence.value.shape[2:]))[0]
        return [ops.zeros((batch, *shape[1:]), sequence.value.dtype) for _ in range(2)]
    return layer.get_initial_state(batch_size=batch)


def _ways(layer, arguments):
    given = arguments.get("initial_state")
    mask = arguments.mask("sequences")
    halves = (None, None) if given is None else (given[: len(given) // 2], given[len(given) // 2 :])
    return [(arguments.get("sequences"), half, mask) for half in halves]


def _one_way(record, layer, way):
    sequence, states, mask = way
    kwargs = {} if states is None else {"initial_state": states}
    kwargs |= {} if mask is None else {"mask": record.slot(mask, held=True)}
    emitted = emit(record, Arguments(layer, (sequence,), kwargs), f"{record.name}/{layer.name}")
    return emitted if isinstance(emitted, list) else [emitted]


def _merged(mode, record, ahead, back):
    if mode is None:
        return [ahead, back]
    values = [ahead.value, back.value]
    pieces_of = {
        "concat": lambda: concatenation(values, -1),
        "sum": lambda: sum_piece(values, "sum"),
        "ave": lambda: pieces.sequence(sum_piece(values, "sum"), pieces.affine(0.5, None, kind="average")),
        "mul": pieces.gate,
    }
    if mode not in pieces_of:
        raise UnsupportedLayerError(f"Layer {record.name!r} merges its two directions by {mode!r}, which has no rule.")
    return pieces_of[mode]()(record, ahead, back)
