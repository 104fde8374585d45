"""Recurrent layers, unrolled over time: every step is the graph of the cell, whose gates are products (section 2)."""

import keras
from keras import ops, tree

from pane_keras import backend, pieces
from pane_keras.arguments import Arguments
from pane_keras.emission import emit
from pane_keras.errors import UnsupportedLayerError
from pane_keras.registry import register_as
from pane_keras.rules.merging import concatenation, sum_piece
from pane_keras.rules.sequences import kept, stacked, steps


@register_as(keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.StackedRNNCells, "ConvLSTMCell")
def cell(layer, inputs, arguments):
    """One step: the graph of the cell's own call."""
    return pieces.graph(layer, inputs, arguments)


@register_as(keras.layers.SimpleRNNCell)
def simple_cell(layer, inputs, arguments):
    """h = f(x W + h' U + b)."""

    def step(x, states):
        # Keras's own call draws dropout masks even at inference.
        h = ops.matmul(x, layer.kernel)
        h = h if layer.bias is None else ops.add(h, layer.bias)
        h = ops.add(h, ops.matmul(tree.flatten(states)[0], layer.recurrent_kernel))
        h = h if layer.activation is None else layer.activation(h)
        return h, [h] if isinstance(states, (list, tuple)) else h

    return pieces.graph(layer, inputs, arguments, function=step)


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
