"""Channels that are zero all over a receptive field are left out of a sweep, and no map changes by it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers
from test_receptive_field import generated

import pane_keras
from pane_keras import backend, receptive_field, silent_channels
from pane_keras.testing import channels

PARTS = 1e-5


@pytest.fixture
def cut(monkeypatch):
    """Cuts however few the rows are; a list of the channels on each leg, of every sweep."""
    seen, plain = [], silent_channels.without_silent_channels

    def watched(operands, rows):
        kept = plain(operands, rows)
        seen.append([*(operand.in_shape[-1] for operand in kept), kept[-1].out_shape[-1]])
        return kept

    monkeypatch.setattr(silent_channels, "_PER_KERNEL_ENTRY", 0)
    monkeypatch.setattr(receptive_field, "without_silent_channels", watched)
    return seen


def silenced(model, rng):
    """Some channels of each convolution are zero behind a ReLU, or zero from the start."""
    for layer in model.layers:
        if isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Conv3D)) and layer.use_bias:
            kernel, bias = map(np.array, layer.get_weights())
            kind = rng.integers(0, 3, bias.shape)
            kernel[..., kind == 0] = 0
            bias[kind == 0], bias[kind == 1] = 0, -1e3 * (layer.activation is keras.activations.relu)
            layer.set_weights([kernel, bias])
    return model


@pytest.mark.parametrize("seed", range(40))
def test_no_map_changes(seed, cut, monkeypatch):
    model, rng = generated(seed)
    trace = pane_keras.wrap(silenced(model, rng)).trace(draw(2, *model.input_shape[1:], seed=seed))
    pair = trace.between("input", list(trace)[-1])
    units = [tuple(int(rng.integers(size)) for size in pair.target_shape) for _ in range(int(rng.integers(1, 4)))]
    found = channels(pair.map(units))
    monkeypatch.setattr(receptive_field, "without_silent_channels", lambda operands, rows: operands)
    for mine, whole in zip(found, channels(pair.map(units))):
        np.testing.assert_allclose(mine, whole, rtol=0, atol=PARTS * max(np.abs(whole).max(), 1e-30))


def chain(middle=None, groups=1):
    x = keras.Input((12, 12, 2))
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(x)
    y = (middle or layers.MaxPooling2D())(y)
    y = layers.Conv2D(4, 3, padding="same", activation="relu", groups=groups, name="second")(y)
    return filled(x, layers.Conv2D(5, 3, padding="same", name="last")(y))


def mute(model, name, *muted):
    """These channels of a layer are zero, and all others are not."""
    layer = model.get_layer(name)
    kernel, bias = map(np.array, layer.get_weights())
    kernel, bias[:] = kernel / 20, 20
    kernel[..., muted], bias[list(muted)] = 0, -1
    layer.set_weights([kernel, bias])


def swept(model, cut, source="input", unit=(3, 3, 1)):
    """The channels on each leg between a source and `last`."""
    pair = pane_keras.wrap(model).trace(draw(2, 12, 12, 2)).between(source, "last")
    cut.clear()
    pair.map(unit)
    return cut[-1]


def test_silent_channels_leave_kernels_gates_and_poolings(cut):
    model = chain()
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    # input, first, its ReLU, pooled, second, its ReLU, last.
    assert swept(model, cut) == [2, 3, 3, 3, 3, 3, 5]


def test_both_ends_keep_their_channels(cut):
    model = chain()
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    mute(model, "last", 3)
    assert swept(model, cut, "first") == [6, 6, 3, 3, 5]


def test_a_stage_that_is_not_known_to_keep_channels_apart_keeps_them_all(cut):
    model = chain(layers.DepthwiseConv2D(3, padding="same", use_bias=False))
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    assert swept(model, cut) == [2, 6, 6, 6, 3, 3, 5]
    model = chain(groups=2)
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    assert swept(model, cut) == [2, 6, 6, 6, 4, 4, 5]


def test_channels_that_are_zero_elsewhere_only_stay(cut):
    """Outside the receptive field nothing counts, inside it a single entry does."""
    model = chain(layers.Activation("linear"))
    trace = pane_keras.wrap(model).trace(draw(1, 12, 12, 2))
    y = np.asarray(trace["first"].output)[0]
    pair = trace.between("input", "last")
    for unit in ((0, 0, 1), (6, 6, 1), (11, 3, 0)):
        cut.clear()
        pair.map(unit)
        near = tuple(slice(max(u - 2, 0), u + 3) for u in unit[:2])
        assert cut[-1][2] == (y[near] != 0).any((0, 1)).sum()


def test_a_layer_without_any_sound_keeps_its_shape(cut):
    model = chain()
    mute(model, "first", *range(6))
    pair = pane_keras.wrap(model).trace(draw(1, 12, 12, 2)).between("input", "last")
    assert not np.any(pair.map((3, 3, 1)).sum)
    assert cut[-1][:4] == [2, 6, 6, 6]


def test_few_rows_are_not_worth_a_large_kernel():
    model = chain()
    mute(model, "first", 0, 4, 5)
    mute(model, "second")
    pair = pane_keras.wrap(model).trace(draw(1, 12, 12, 2)).between("input", "last")
    operands = list(pair.composition().operands)
    assert silent_channels.without_silent_channels(operands, 1) is operands
    cut = silent_channels.without_silent_channels(operands, 10**9)
    assert [operand.in_shape[-1] for operand in cut] == [2, 3, 3, 3, 4, 4]


def test_inside_a_graph_the_host_cannot_look(cut):
    model = chain()
    mute(model, "first", 0, 4, 5)
    pane = pane_keras.wrap(model)
    x = draw(2, 12, 12, 2)
    ask = lambda t: pane.trace(t).between("input", "last").map([(3, 3, 1), (4, 0, 0)]).sum  # noqa: E731
    compiled = tf.function(ask, input_signature=[tf.TensorSpec((None, 12, 12, 2))])(x)
    assert cut[-1][1] == 6
    np.testing.assert_allclose(compiled, ask(x), rtol=0, atol=PARTS * np.abs(ask(x)).max())
    assert cut[-1][1] == 3


@pytest.mark.parametrize("dtype", ["float32", "int8", "int64"])
def test_channels_of_a_tensor(dtype):
    t = np.arange(24).reshape(2, 3, 4).astype(dtype)
    found = backend.take_channels(tf.constant(t), np.array([3, 1]))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, t[..., [3, 1]])
    whole = tf.constant(t)
    assert backend.take_channels(whole, None) is whole
