"""Slow float64 twins of attention, recurrence and embeddings, written from their formulas with `Tracked` signals.

Attention (Vaswani et al. 2017): o = sum_s A[t, s] v[s] with v and o projected linearly and A = softmax(q k / sqrt(d))
held fixed. LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014) and simple recurrence: as the documentation of
Keras states them, step by step, a sum being one stage for each of its plus signs, and gates being products of two.
A twin reads weights and settings only. It takes signs from its own float64 numbers.
"""

import numpy as np
from tracked import constant, joined, linear, reshaped, scaled, sigmoid, tanh, where


def values(variable):
    return None if variable is None else np.asarray(variable, "float64")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def dense(layer, x):
    """o' = x W, o = o' + b."""
    return linear(x, lambda s: s @ values(layer.kernel), values(layer.bias) if layer.use_bias else 0.0)


# --- attention ----------------------------------------------------------------------------------------------------


def projected(layer, x):
    """(..., time, d) projected to (..., time, heads, size), as numbers or as a signal."""
    kernel, bias = values(layer.kernel), 0.0 if layer.bias is None else values(layer.bias)
    project = lambda s: np.einsum("...td,dnh->...tnh", s, kernel)  # noqa: E731
    return project(x) + bias if isinstance(x, np.ndarray) else linear(x, project, bias)


def attention_weights(query, key, mask, scored):
    """softmax(q k / sqrt(d)), (batch, ..., heads, targets, sources).

    Args:
        query, key: Arrays (batch, ..., time, heads, size).
        mask: Booleans (batch, targets, sources), or None.
        scored: Whether the layer forms the scores: what a mask leaves out is then 0 even where it leaves out all;
            otherwise nothing left means everything alike.
    """
    logits = np.einsum("...tnh,...snh->...nts", query, key) / np.sqrt(query.shape[-1])
    if mask is None:
        return softmax(logits)
    mask = mask.reshape(len(mask), *[1] * (logits.ndim - 3), *mask.shape[1:])
    return softmax(np.where(mask, logits, -1e30)) * (np.where(mask, 1, 0) if scored else 1)


def mixed(weights, x, groups=1):
    """o[t, n] = sum_s A[n, t, s] v[s, n / groups], with A held fixed."""

    def of(a):
        return lambda s: np.einsum("...nts,...snh->...tnh", a, np.repeat(s, groups, axis=-2))

    return linear(x, [of(a) for a in weights])


def multi_head_attention(layer, query, value, key=None, mask=None, scored=False):
    """Returns (output, weights) of MultiHeadAttention; the query excites only through a gate.

    Args:
        layer: The layer.
        query, value, key: Signals (batch, ..., time, d), attended to along the axis before the last.
        mask, scored: As in `attention_weights`.
    """
    key = value if key is None else key
    weights = attention_weights(
        projected(layer._query_dense, query.value), projected(layer._key_dense, key.value), mask, scored
    )
    return _output(layer, query, mixed(weights, projected(layer._value_dense, value)), layer._use_gate), weights


def grouped_query_attention(layer, query, value, key=None, mask=None, scored=False):
    """Returns (output, weights) of GroupQueryAttention: several heads of the query share one of key and value."""
    key = value if key is None else key
    groups = layer.num_query_heads // layer.num_key_value_heads
    keys = np.repeat(projected(layer._key_dense, key.value), groups, axis=-2)
    weights = attention_weights(projected(layer._query_dense, query.value), keys, mask, scored)
    context = mixed(weights, projected(layer._value_dense, value), groups)
    return _output(layer, query, context, layer.use_gate), weights


def _output(layer, query, context, gated):
    if gated:
        context = context * sigmoid(projected(layer._gate_dense, query))
    final = layer._output_dense
    bias = 0.0 if final.bias is None else values(final.bias)
    return linear(context, lambda s: np.einsum("...tnh,nhd->...td", s, values(final.kernel)), bias)


def attention(layer, query, value, key=None, mask=None, query_mask=None):
    """Returns (output, weights) of Attention, without projections: scores are dot products or sums of tanh."""
    q, k = query.value[:, :, None], (value if key is None else key).value[:, None]
    scale = 1.0 if layer.scale is None else values(layer.scale)
    if layer.score_mode == "dot":
        scores = scale * (q * k).sum(axis=-1)
    else:
        scores = values(layer.concat_score_weight) * np.tanh(scale * (q + k)).sum(axis=-1)
    return _weighed(scores, value, mask, query_mask)


def additive_attention(layer, query, value, key=None, mask=None, query_mask=None):
    """Returns (output, weights) of AdditiveAttention (Bahdanau et al. 2015): scores are sum of scale tanh(q + k)."""
    q, k = query.value[:, :, None], (value if key is None else key).value[:, None]
    scale = 1.0 if layer.scale is None else values(layer.scale)
    return _weighed((scale * np.tanh(q + k)).sum(axis=-1), value, mask, query_mask)


def _weighed(scores, value, mask, query_mask):
    weights = softmax(scores if mask is None else np.where(mask, scores, -1e30))
    output = linear(value, [lambda s, a=a: a @ s for a in weights])
    return output if query_mask is None else where(query_mask, output, 0.0), weights


# --- recurrence ---------------------------------------------------------------------------------------------------


def simple_step(cell, x, states):
    """h = tanh((x W + h' U) + b)."""
    h = tanh(_biased(x @ values(cell.kernel) + states[0] @ values(cell.recurrent_kernel), values(cell.bias)))
    return h, [h]


def gru_step(cell, x, states):
    """z, r = sigmoid(x W + h' U), g = tanh(x W + r (h' U)) or tanh(x W + (r h') U), h = z h' + (1 - z) g."""
    before = states[0]
    inner, outer = _gru_biases(cell)
    wz, wr, wg = (x @ w for w in _columns(cell.kernel, 3))
    (uz, ur, ug), (bz, br, bg) = _columns(cell.recurrent_kernel, 3), outer
    z, r = sigmoid(wz + before @ uz + (inner[0] + bz)), sigmoid(wr + before @ ur + (inner[1] + br))
    g = tanh(wg + (r * (before @ ug + bg) if cell.reset_after else (r * before) @ ug) + inner[2])
    h = z * before + (1.0 - z.value if not z.chains else scaled(z, -1.0, 1.0)) * g
    return h, [h]


def _gru_biases(cell):
    """Those of x W and those of h' U, which only `reset_after` has."""
    biases = np.zeros((2, 3 * cell.units))
    if cell.bias is not None:
        own = values(cell.bias)
        biases[: len(own) if own.ndim == 2 else 1] = own
    return np.split(biases[0], 3), np.split(biases[1], 3)


def lstm_step(cell, x, states):
    """i, f, o = sigmoid((x W + h' U) + b), c = f c' + i tanh(...), h = o tanh(c), in either implementation."""
    h, c = states
    biases = np.zeros(4 * cell.units) if cell.bias is None else values(cell.bias)
    gates = []
    for w, u, b in zip(_columns(cell.kernel, 4), _columns(cell.recurrent_kernel, 4), np.split(biases, 4)):
        gates.append((x @ w + h @ u) + b)
    i, f, g, o = gates
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h, [h, c]


STEPS = {"SimpleRNNCell": simple_step, "GRUCell": gru_step, "LSTMCell": lstm_step}


def stacked_step(cell, x, states):
    """Cells above each other, each with states of its own."""
    following = []
    for part, own in zip(cell.cells, states):
        x, new = step(part, x, own)
        following.append(new)
    return x, following


def step(cell, x, states):
    return (stacked_step if hasattr(cell, "cells") else STEPS[type(cell).__name__])(cell, x, states)


def recurrent(layer, x, states=None, mask=None):
    """Returns (outputs of all steps in the order in which they ran, last states).

    Args:
        layer: SimpleRNN, GRU, LSTM, or RNN over one of their cells or a stack of them.
        x: Signal (batch, time, d).
        states: Signals; zeros by default.
        mask: Booleans (batch, time): where they are false, output and states are those before, or the output is 0.
    """
    states = states or zeros(layer.cell, len(x.value))
    outputs, steps = [], range(x.value.shape[1])
    for t in reversed(steps) if layer.go_backwards else steps:
        output, following = step(layer.cell, x[t], states)
        if mask is not None:
            old = 0.0 if not outputs or layer.zero_output_for_mask else outputs[-1]
            output, following = where(mask[:, t], output, old), _kept(mask[:, t], following, states)
        outputs.append(output)
        states = following
    return outputs, states


def _kept(mask, new, old):
    return [_kept(mask, a, b) if isinstance(a, list) else where(mask, a, b) for a, b in zip(new, old)]


def zeros(cell, batch):
    if hasattr(cell, "cells"):
        return [zeros(part, batch) for part in cell.cells]
    return [constant(np.zeros((batch, cell.units))) for _ in range(2 if type(cell).__name__ == "LSTMCell" else 1)]


def whole(outputs):
    """Returns steps as one signal (batch, time, ...)."""
    return joined(lambda *steps: np.stack(steps), *outputs)


def bidirectional(layer, x, mask=None):
    """Returns (one output or a list of two, last states of both ways)."""
    (ahead, states), (back, more) = (
        recurrent(way, x, mask=mask) for way in (layer.forward_layer, layer.backward_layer)
    )
    sequences = layer.forward_layer.return_sequences
    ahead, back = (whole(ahead), whole(back[::-1])) if sequences else (ahead[-1], back[-1])
    merges = {
        "concat": lambda: joined(lambda a, b: np.concatenate([a, b], axis=-1), ahead, back),
        "sum": lambda: ahead + back,
        "ave": lambda: scaled(ahead + back, 0.5),
        "mul": lambda: ahead * back,
        None: lambda: [ahead, back],
    }
    return merges[layer.merge_mode](), [*states, *more]


def _columns(kernel, count):
    return np.split(values(kernel), count, axis=1)


def _biased(x, bias):
    return x if bias is None else x + bias


# --- others -------------------------------------------------------------------------------------------------------


def embedding(layer, ids):
    """The vectors, (batch, time, d): excitations start from them."""
    return values(layer.embeddings)[np.asarray(ids, int)]


def reverse_embedding(layer, x):
    """o = x T^T for the table T of the vectors, c tanh(o / c) where it is capped at c."""
    table = values(layer.embeddings).T if layer.tie_weights else values(layer.reverse_embeddings)
    y, cap = x @ table, layer.logit_soft_cap
    return y if cap is None else scaled(tanh(scaled(y, 1 / cap)), cap)


def time_distributed(function, x):
    """A twin `function` of one step, at every step."""
    return whole([function(x[t]) for t in range(x.value.shape[1])])


def flattened(x):
    return reshaped(x, (x.value[0].size,))
