"""Elementary tensors: plain einsum against the native kernels, for every layer of the table in test_layers.py."""

import keras
import numpy as np
import pytest
from keras import layers
from test_layers import CASES, named, prepare

import pane_keras
from pane_keras.block import closing
from pane_keras.contraction import contract_factors
from pane_keras.record import Record


def operands_of(layer, x):
    record = Record()
    xs = x if isinstance(x, list) else [x]
    slots = [record.slot(keras.ops.convert_to_tensor(v)) for v in xs]
    pane_keras.ExcitationLayer(layer).emit(record, (slots if isinstance(x, list) else slots[0],))
    return [edge.operand for edge in record.edges]


def by_axes(operand, difference):
    """The dense operand (b, out, in) from its elementary tensors, by opt_einsum on plain arrays."""
    dense, axes = contract_factors(operand.factors(difference))
    rank_out, rank_in = len(operand.out_shape), len(operand.in_shape)
    assert axes == ("b", *(f"out{k}" for k in range(rank_out)), *(f"in{k}" for k in range(rank_in)))
    return dense.reshape(len(operand.x), np.prod(operand.out_shape, dtype=int), -1)


def by_pulling(operand, difference):
    """The same from the native kernels, a row of ones at a time."""
    size = int(np.prod(operand.out_shape))
    rows = np.eye(size, dtype="float32").reshape(size, 1, *operand.out_shape)
    rows = np.broadcast_to(rows, (size, len(operand.x), *operand.out_shape))
    block = closing(keras.ops.convert_to_tensor(rows))
    # Channels that are one object would let an operand of E- = 0 answer for both.
    pulled = operand.pull(block._replace(difference=closing(keras.ops.convert_to_tensor(rows)).sum))
    channel = pulled.difference if difference else pulled.sum
    flat = np.asarray(channel.mantissa, "float64").reshape(size, len(operand.x), -1)
    return np.ldexp(flat, np.asarray(channel.exponent).reshape(size, -1, 1)).swapaxes(0, 1)


@named(CASES)
def test_plain_einsum_against_native_kernels(one):
    layer, x = prepare(one)
    for operand in operands_of(layer, x):
        for difference in (False, True):
            expected = by_axes(operand, difference)
            error = np.abs(by_pulling(operand, difference) - expected).max()
            assert error <= 1e-6 * np.abs(expected).max(), (operand.kind, "D" if difference else "S")


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (layers.Conv2D(2, 3), ["kernel(k0 k1 in2 out2)", "window(out0 k0 in0)", "window(out1 k1 in1)"]),
        (layers.Dense(2), ["kernel(in2 out2)", "delta(out0 in0)", "delta(out1 in1)"]),
        (layers.DepthwiseConv2D(2), ["kernel(k0 k1 in2 m)", "multiples(out2 in2 m)", "window(out0 k0 in0)"]),
    ],
    ids=["convolution", "dense", "depthwise"],
)
def test_axes_are_words(layer, names):
    x = np.ones((1, 5, 5, 2), "float32")
    layer(x)
    (operand,) = operands_of(layer, x)
    assert [str(f) for f in operand.factors()][: len(names)] == names
    assert [str(f) for f in operand.factors(difference=True)][-2:] == ["sign of o'(b out0 out1 out2)",
                                                                       "sign of x(b in0 in1 in2)"]  # fmt: skip


def test_an_expression_shows_the_factors():
    model = keras.Sequential([keras.Input((5, 5, 2)), layers.Conv2D(2, 3, name="conv"), layers.Flatten()])
    text = str(pane_keras.wrap(model).trace(np.ones((1, 5, 5, 2))).between("input", "logits").expression())
    assert "S = kernel(k0 k1 in2 out2) window(out0 k0 in0) window(out1 k1 in1) nonzero input(b in0 in1 in2)" in text
    assert "sign of o'(b out0 out1 out2)" in text
