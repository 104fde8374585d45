"""Random graphs of `keras.ops` calls, with several paths and shared tensors, against the four-product chain.

The chain in float64 (`pane_keras.testing.dense_network`) takes the coefficients that the rules state, and the signs of
the forward pass: tests/test_operations.py checks these, and here it is their composition that is checked.
"""

import keras
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from keras import ops

import pane_keras
from pane_keras.excitation import Excitation
from pane_keras.testing import dense_network, true_values

BATCH = 2
TOLERANCE = 1e-5
LARGEST = 24


def row(x):
    """A constant for the last axis, of both signs and with a zero."""
    return (np.arange(x.shape[-1]) % 4 / 2 - 0.5).astype("float32")


def matrix(x):
    """A constant that maps the last axis to three units."""
    return (np.arange(3 * x.shape[-1]).reshape(-1, 3) * 5 % 7 / 4 - 0.75).astype("float32")


def size(x):
    return int(np.prod(x.shape[1:]))


def flat(x):
    return ops.reshape(x, (-1, size(x)))


def mask(x):
    return ops.cast(x > 0, "float32")


# Functions of one tensor, and of two with the same shape.
UNARY = {
    "relu": ops.relu,
    "tanh": ops.tanh,
    "sin": ops.sin,
    "sigmoid": ops.sigmoid,
    "absolute": ops.absolute,
    "negative": ops.negative,
    "clip": lambda x: ops.clip(x, -0.5, 1),
    "row plus": lambda x: ops.add(row(x), x),
    "minus row": lambda x: x - row(x),
    "times row": lambda x: x * row(x),
    "over number": lambda x: x / 2,
    "positive part": lambda x: x * mask(x),
    "leaky": lambda x: ops.where(x > 0, x, 0.25 * x),
    "matmul": lambda x: ops.matmul(x, matrix(x)),
    "flat": flat,
    "halves": lambda x: ops.reshape(x, (-1, 2, size(x) // 2)) if size(x) % 2 == 0 else x * 0.5,
    "first": lambda x: x[:, :1],
    "backwards": lambda x: x[..., ::-1],
    "every second": lambda x: x[..., ::2],
    "cumsum": lambda x: ops.cumsum(x, axis=-1),
    "softmax": lambda x: ops.softmax(x, axis=-1),
    "mean kept": lambda x: x - ops.mean(x, axis=-1, keepdims=True),
}
RANK_THREE = {
    "mean": lambda x: ops.mean(x, axis=1),
    "sum": lambda x: ops.sum(x, axis=-1),
    "max": lambda x: ops.max(x, axis=1),
    "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
    "gram": lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2)),
}
BINARY = {
    "add": ops.add,
    "subtract": ops.subtract,
    "multiply": ops.multiply,
    "maximum": ops.maximum,
    "mask of": lambda x, y: x * mask(y),
    "where": lambda x, y: ops.where(x > y, x, y),
    "concatenate": lambda x, y: ops.concatenate([x, y], axis=-1) if size(x) < LARGEST else x + y,
}

steps = st.tuples(st.sampled_from([*UNARY, *RANK_THREE, *BINARY]), st.integers(0, 9), st.integers(0, 9))


def applied(step, tensors):
    """Returns what a step makes of two of the tensors; the second is the first where the shapes differ."""
    name, first, second = step
    x = tensors[-1 - first % len(tensors)]
    if name in BINARY:
        alike = [y for y in tensors if y.shape == x.shape]
        return BINARY[name](x, alike[second % len(alike)])
    if name in RANK_THREE and len(x.shape) == 3:
        return RANK_THREE[name](x)
    return UNARY.get(name, ops.tanh)(x)


def traced(program, several, seed):
    """Returns the trace of a model that runs the steps one after the other; its output reads every input."""
    inputs = [keras.Input((3, 4), name=f"input_{k}") for k in range(1 + several)]
    tensors = list(inputs)
    for step in program:
        tensors.append(applied(step, tensors))
    output = ops.concatenate([flat(tensors[-1]), *map(flat, inputs)], axis=-1)
    model = keras.Model(inputs, output)
    rng = np.random.default_rng(seed)
    xs = [np.where(rng.random((BATCH, 3, 4)) < 0.2, 0, rng.normal(size=(BATCH, 3, 4))) for _ in inputs]
    xs = [x.astype("float32") for x in xs]
    trace = pane_keras.wrap(model).trace(xs)
    np.testing.assert_allclose(trace._record.slots[trace._outputs[0]].value, model(xs), rtol=1e-6, atol=1e-6)
    return trace


def assert_pair(trace, twin, source, target):
    """P, N and their sum between two slots; float32 rounding is measured against the sum of absolute products."""
    dense = Excitation(trace._record, source, target, ("source", "target")).dense()
    p, n = twin.between(source, target)
    rounding = 8 * len(trace._record.stages) * 2.0**-24 * twin.magnitude(source, target)
    found = (dense.positive, dense.log2_scale), (dense.negative, dense.log2_scale), (dense.sum, dense.sum_log2_scale)
    for word, expected, (mantissa, scale) in zip(("P", "N", "P + N"), (p, n, p + n), found):
        actual = true_values(mantissa, scale).reshape(expected.shape)
        assert np.isfinite(actual).all(), f"{word} is not finite"
        for sample in range(BATCH):
            gap, most = (np.abs(v[sample]).max() for v in (actual - expected, expected))
            bound = max(TOLERANCE * most, rounding[sample].max())
            assert gap <= bound, f"{word} of sample {sample}: off by {gap:.2e}, allowed {bound:.2e}"


def joined(trace):
    """Returns the pairs of slots of the model's tensors with a path between them."""
    slots = [*trace._input_slots, *(emitted.output for emitted in trace._emitted.values())]
    pairs = []
    for source in dict.fromkeys(slots):
        reached = {source}
        for edge in trace._record.edges:
            reached |= {edge.target} if edge.source in reached else set()
        pairs += [(source, target) for target in dict.fromkeys(slots) if target in reached - {source}]
    return pairs


@settings(deadline=None, max_examples=50, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
          phases=[Phase.explicit, Phase.generate])  # fmt: skip
@given(st.lists(steps, min_size=3, max_size=8), st.booleans(), st.integers(0, 99), st.data())
def test_random_graph_is_the_four_product_chain(program, several, seed, data):
    trace = traced(program, several, seed)
    report = trace.check()
    assert report.ok, str(report)
    twin = dense_network(trace)
    assert_pair(trace, twin, trace._input_slots[-1], trace._outputs[0])
    assert_pair(trace, twin, *data.draw(st.sampled_from(joined(trace)), label="slots"))
