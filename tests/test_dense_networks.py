"""`expression().to_dense_network()`: a pair as plain NumPy arrays and one einsum, and the expression as HTML."""

from xml.etree import ElementTree

import keras
import numpy as np
import opt_einsum
import pytest
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.testing import channels

TOLERANCE = 1e-5


def traced(inputs, outputs, batch=2):
    inputs = inputs if isinstance(inputs, list) else [inputs]
    arrays = [draw(batch, *x.shape[1:], seed=k) for k, x in enumerate(inputs)]
    model = filled(inputs if len(inputs) > 1 else inputs[0], outputs)
    return pane_keras.wrap(model).trace(arrays if len(arrays) > 1 else arrays[0])


def assert_networks(trace, source, target, by_numpy=True):
    """opt_einsum and NumPy contract the arrays of both channels to those of `dense()`."""
    pair = trace.between(source, target)
    found = channels(pair.dense())
    size = np.abs(found[1]).max()
    assert size > 0, "the test is empty: nothing is excited"
    for word, expected in zip(("sum", "difference"), found):
        net = pair.expression().to_dense_network(word)
        values = {"itself": net.contract(), "opt_einsum": opt_einsum.contract(net.equation, *net.operands)}
        if by_numpy:
            values["numpy"] = np.einsum(net.equation, *net.operands, optimize="greedy")
        for evaluator, mine in values.items():
            assert mine.shape == expected.shape == (2, *pair.target_shape, *pair.source_shape)
            error = np.abs(mine - expected).max()
            assert error <= TOLERANCE * size, f"{word} by {evaluator}: off by {error:.1e} of {size:.1e}"
        assert len(net.names) == len(net.operands)
        assert all(isinstance(array, np.ndarray) for array in net.operands)


SEQUENCE, PICTURE, VOLUME = (5, 2), (4, 5, 2), (3, 3, 2, 2)
LAYERS = [
    (SEQUENCE, layers.Dense(3)),
    (SEQUENCE, layers.Dense(3, activation="tanh")),
    (SEQUENCE, layers.EinsumDense("abc,cd->abd", output_shape=(None, 3))),
    (SEQUENCE, layers.Conv1D(3, 2)),
    (SEQUENCE, layers.Conv1D(3, 3, strides=2, padding="same", activation="gelu")),
    (SEQUENCE, layers.Conv1D(4, 2, dilation_rate=2, padding="causal", groups=2)),
    (SEQUENCE, layers.DepthwiseConv1D(2, depth_multiplier=2)),
    (SEQUENCE, layers.SeparableConv1D(3, 2, padding="same")),
    (SEQUENCE, layers.Conv1DTranspose(3, 2, strides=2)),
    (PICTURE, layers.Conv2D(3, (2, 3))),
    (PICTURE, layers.Conv2D(3, 3, strides=(2, 1), padding="same", use_bias=False)),
    (PICTURE, layers.Conv2D(4, 2, groups=2, activation="relu")),
    (PICTURE, layers.Conv2D(3, 2, dilation_rate=(2, 3), padding="same")),
    (PICTURE, layers.DepthwiseConv2D(2, depth_multiplier=2, padding="same")),
    (PICTURE, layers.DepthwiseConv2D(2, dilation_rate=2, activation="silu")),
    (PICTURE, layers.SeparableConv2D(3, 2, strides=2, depth_multiplier=2)),
    (PICTURE, layers.Conv2DTranspose(3, 2, strides=2)),
    (VOLUME, layers.Conv3D(2, 2, strides=1)),
    (PICTURE, layers.MaxPooling2D(2)),
    (PICTURE, layers.MaxPooling2D(3, strides=1, padding="same")),
    (PICTURE, layers.AveragePooling2D(2, padding="same")),
    (SEQUENCE, layers.MaxPooling1D(2)),
    (PICTURE, layers.GlobalAveragePooling2D()),
    (PICTURE, layers.GlobalMaxPooling2D(keepdims=True)),
    (PICTURE, layers.ZeroPadding2D(1)),
    (PICTURE, layers.Cropping2D(1)),
    (PICTURE, layers.UpSampling2D(2, interpolation="bilinear")),
    (PICTURE, layers.Flatten()),
    (PICTURE, layers.Permute((3, 1, 2))),
    ((3,), layers.RepeatVector(2)),
    (SEQUENCE, layers.ReLU()),
    (SEQUENCE, layers.PReLU()),
    (SEQUENCE, layers.Activation("sigmoid")),
    (SEQUENCE, layers.Softmax()),
    (PICTURE, layers.BatchNormalization()),
    (SEQUENCE, layers.LayerNormalization()),
    (PICTURE, layers.GroupNormalization(2)),
    (SEQUENCE, layers.UnitNormalization()),
    (SEQUENCE, layers.Rescaling(0.5, offset=-0.25)),
    (SEQUENCE, layers.LSTM(3, return_sequences=True)),
    (SEQUENCE, layers.Dropout(0.5)),
]


@pytest.mark.parametrize(("shape", "layer"), LAYERS, ids=lambda v: getattr(v, "name", None))
def test_every_kind_of_layer(shape, layer):
    x = keras.Input(shape)
    # A layer behind it, or the last softmax would be left out.
    trace = traced(x, layers.Rescaling(1.0, name="end")(layer.__class__.from_config(layer.get_config())(x)))
    assert_networks(trace, "input", next(iter(trace)))


def two_paths(merge):
    x = keras.Input((4, 3))
    y = merge([layers.Dense(3, activation="tanh", name="left")(x), layers.Dense(3, name="right")(x)])
    return traced(x, layers.Rescaling(1.0)(y))


MERGES = [layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum,
          layers.Concatenate]  # fmt: skip


@pytest.mark.parametrize("merge", MERGES, ids=lambda cls: cls.__name__)
def test_merges(merge):
    """From one branch the merge is one operand; from the stem, two paths are summed."""
    trace = two_paths(merge(name="merge"))
    for source in ("left", "right", "input"):
        assert_networks(trace, source, "merge")


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal):
    """From the values alone, and from a signal that is query, key and value at once."""
    x = keras.Input((4, 3))
    y = layers.MultiHeadAttention(2, 2, name="attend")(
        layers.Dense(3, name="query")(x), layers.Dense(3, name="value")(x), use_causal_mask=causal
    )
    trace = traced(x, layers.Dense(2, name="end")(y))
    assert_networks(trace, "value", "attend")
    assert_networks(trace, "input", "end")


def test_several_layers_with_a_junction():
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    y = layers.Add(name="meet")([y, layers.Conv2D(3, 2, padding="same")(layers.BatchNormalization()(y))])
    y = layers.Dense(4, activation="gelu", name="hidden")(layers.Flatten()(y))
    trace = traced(x, layers.Dense(3, activation="softmax", name="scores")(y))
    for ends in (("input", "logits"), ("stem", "meet"), ("stem", "scores"), ("input", "hidden"), ("meet", "logits")):
        assert_networks(trace, *ends)


def test_a_stretch_of_paths_is_one_tensor():
    """Before and after the junctions every operand stays as its elementary tensors."""
    x = keras.Input((3,))
    y = layers.Dense(3, use_bias=False, name="below")(x)
    y = layers.Add()([y, layers.Dense(3)(y)])
    trace = traced(x, layers.Dense(2, use_bias=False, name="above")(y))
    net = trace.between("input", "logits").expression().to_dense_network("difference")
    assert net.names == (
        "below: kernel",
        "below: sign of o'",
        "below: sign of x",
        "sum over paths",
        "above: kernel",
        "above: sign of o'",
        "above: sign of x",
    )


def test_two_inputs(two_inputs, inputs_for):
    trace = pane_keras.wrap(two_inputs).trace(inputs_for(two_inputs))
    for name in ("left", "right"):
        assert_networks(trace, name, "scores")


def test_beyond_float32_the_arrays_are_true_values():
    """float64 arrays carry what the maps need exponents for."""
    rng = np.random.default_rng(1)
    kernels = [rng.integers(-3, 4, (4, 4)) * 2.0**40 for _ in range(4)]
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4, use_bias=False) for _ in kernels)])
    model.set_weights(kernels)
    trace = pane_keras.wrap(model).trace(draw(2, 4) * np.float32(2.0**-100))
    assert (np.asarray(trace.saliency(0).log2_scale) > 30).all()
    assert_networks(trace, "input", "logits")


def test_longer_than_the_alphabet():
    """opt_einsum takes any letters."""
    x = y = keras.Input((2, 2))
    for _ in range(30):
        y = layers.Dense(2, use_bias=False)(y)
    trace = traced(x, y)
    assert_networks(trace, "input", "logits", by_numpy=False)


@pytest.mark.parametrize("channel", ["S", None, "positive"])
def test_only_two_channels_there_are(residual_trace, channel):
    with pytest.raises(ValueError, match=f"Expected channel='sum' or 'difference'. Received: {channel!r}"):
        residual_trace.between("stem", "logits").expression().to_dense_network(channel)


def test_html_names_every_layer_escaped():
    x = keras.Input((4,))
    y = layers.Dense(3, activation="relu", name="a<b>&c")(x)
    y = layers.Add(name="sum")([y, layers.Dense(3, name='q"uote')(y)])
    trace = traced(x, layers.Dense(2, name="<i>end")(y))
    page = trace.between("input", "<i>end").expression()._repr_html_()
    cells = [cell.text for cell in ElementTree.fromstring(page).iter("td")]
    assert {"a<b>&c", "sum", 'q"uote', "<i>end"} <= set(cells)
    assert "input → &lt;i&gt;end" in page


def test_html_shows_what_the_text_shows(residual_trace):
    expression = residual_trace.between("input", "logits").expression()
    page = expression._repr_html_()
    cells = [cell.text for cell in ElementTree.fromstring(page).iter("td")]
    for chain, equation in zip(expression.chains, expression.equations):
        assert equation.replace(">", "&gt;") in page
        for operand in chain.operands:
            assert any(cells[k : k + 2] == [operand.name, operand.kind] for k in range(len(cells)))
