"""Channels that are zero all over a receptive field are left out of a sweep, and no map changes by it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers
from test_receptive_field import CONVOLUTIONS, POOLING, SEPARABLE

import pane_keras
from pane_keras import backend, receptive_field, silent_channels
from pane_keras.testing import channels

PARTS = 1e-5


@pytest.fixture
def swept_legs(monkeypatch):
    """Cuts however few the rows are; a list of the channels on each leg, of every sweep."""
    seen, plain = [], silent_channels.without_silent_channels

    def watched(operands, rows):
        kept = plain(operands, rows)
        seen.append([*(operand.in_shape[-1] for operand in kept), kept[-1].out_shape[-1]])
        return kept

    monkeypatch.setattr(silent_channels, "_PER_KERNEL_ENTRY", 0)
    monkeypatch.setattr(receptive_field, "without_silent_channels", watched)
    return seen


def stages(seed):
    """Convolutions of any rank behind ReLUs, some with BatchNormalization, pooling or another layer in between.

    Some of their channels are zero at every place.
    """
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    x = y = keras.Input((*[int(rng.integers(9, 12))] * rank, 2))
    for _ in range(int(rng.integers(2, 5))):
        y = SEPARABLE[rank](5, 2)(y) if rank < 3 and rng.random() < 0.2 else y
        y = CONVOLUTIONS[rank](6, int(rng.integers(1, 4)), padding="same", dilation_rate=int(rng.integers(1, 3)))(y)
        y = layers.BatchNormalization()(y) if rng.random() < 0.3 else y
        y = layers.ReLU(max_value=[None, 6][int(rng.integers(2))])(y)
        y = POOLING[rank](2, strides=int(rng.integers(1, 3)), padding="same")(y) if rng.random() < 0.3 else y
        y = layers.Activation("tanh")(y) if rng.random() < 0.2 else y
    model = filled(x, CONVOLUTIONS[rank](3, 2, padding="same")(y), seed)
    for layer in model.layers[:-1]:
        if isinstance(layer, (*CONVOLUTIONS.values(), layers.BatchNormalization)):
            silenced(layer, rng.random(layer.get_weights()[-1].shape) < 0.4)
    return model, rng


def silenced(layer, channels_of):
    """Some channels of a convolution or a normalization get an offset far below zero."""
    weights = layer.get_weights()
    weights[1][channels_of] = -1e3
    layer.set_weights(weights)


@pytest.mark.parametrize("seed", range(40))
def test_no_map_changes(seed, swept_legs, monkeypatch):
    model, rng = stages(seed)
    trace = pane_keras.wrap(model).trace(draw(2, *model.input_shape[1:], seed=seed))
    names = list(trace)
    pair = trace.between("input", names[-1])
    units = [tuple(int(rng.integers(size)) for size in pair.target_shape) for _ in range(int(rng.integers(1, 4)))]
    ask = [{}, {"split_below": names[int(rng.integers(len(names)))]}]
    found = [channels(pair.map(units, **how)) for how in ask]
    monkeypatch.setattr(receptive_field, "without_silent_channels", lambda operands, rows: operands)
    for how, mine in zip(ask, found):
        for one, whole in zip(mine, channels(pair.map(units, **how))):
            np.testing.assert_allclose(one, whole, rtol=0, atol=PARTS * max(np.abs(whole).max(), 1e-30))


def test_generated_networks_have_silent_channels(swept_legs):
    """Else the test above would test nothing."""
    fewer = 0
    for seed in range(12):
        model, _ = stages(seed)
        trace = pane_keras.wrap(model).trace(draw(2, *model.input_shape[1:], seed=seed))
        pair = trace.between("input", list(trace)[-1])
        swept_legs.clear()
        pair.map(tuple(size // 2 for size in pair.target_shape))
        fewer += any(min(legs[1:-1], default=6) < 5 for legs in swept_legs)
    assert fewer >= 8


def test_a_map_can_be_differentiated(swept_legs, monkeypatch):
    """The kernels are cut on the host, outside of the framework's sight."""
    model = chain(layers.Activation("tanh"))
    mute(model, "first", 0, 4, 5)
    pane, x = pane_keras.wrap(model), draw(1, 12, 12, 2)

    def slopes():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(pane.trace(x).between("input", "last").map((3, 3, 1)).sum ** 2)
        return tape.gradient(loss, [model.get_layer(name).kernel.value for name in ("first", "second", "last")])

    found = slopes()
    assert swept_legs[-1][1] == 3
    monkeypatch.setattr(receptive_field, "without_silent_channels", lambda operands, rows: operands)
    for mine, whole in zip(found, slopes()):
        assert np.any(whole)
        np.testing.assert_allclose(mine, whole, rtol=0, atol=PARTS * np.abs(whole).max())


def test_rows_beyond_the_range_of_a_float(swept_legs):
    """They are swept a second time, normalised before every stage."""
    model = chain()
    mute(model, "first", 0, 4, 5)
    pane = pane_keras.wrap(model)
    for layer in model.layers:
        layer.set_weights([w * (1e18 if w.ndim == 4 else 1) for w in layer.get_weights()])
    pair = pane.trace(draw(1, 12, 12, 2) * 1e-36).between("input", "last")
    found, dense = pair.map((3, 3, 1)), pair.dense()
    assert found.log2_scale.numpy().any()
    for mine, whole in zip(channels(found), channels(dense)):
        np.testing.assert_allclose(mine, whole[:, 3, 3, 1], rtol=0, atol=PARTS * np.abs(whole[:, 3, 3, 1]).max())


def test_an_eager_trace_inside_a_graph(swept_legs):
    model = chain()
    mute(model, "first", 0, 4, 5)
    pair = pane_keras.wrap(model).trace(draw(1, 12, 12, 2)).between("input", "last")
    inside = tf.function(lambda: pair.map((3, 3, 1)).sum)()
    eager = pair.map((3, 3, 1)).sum
    np.testing.assert_allclose(inside, eager, rtol=0, atol=PARTS * np.abs(eager).max())


def test_samples_count_as_rows(monkeypatch):
    seen = []
    monkeypatch.setattr(
        receptive_field, "without_silent_channels", lambda operands, rows: seen.append(rows) or operands
    )
    pair = pane_keras.wrap(chain()).trace(draw(4, 12, 12, 2)).between("input", "last")
    pair.map([(3, 3, 1), (3, 3, 2), (3, 4, 0)])
    assert seen == [12]


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


def swept(model, swept_legs, source="input", unit=(3, 3, 1)):
    """The channels on each leg between a source and `last`."""
    pair = pane_keras.wrap(model).trace(draw(2, 12, 12, 2)).between(source, "last")
    swept_legs.clear()
    pair.map(unit)
    return swept_legs[-1]


def test_silent_channels_leave_kernels_gates_and_poolings(swept_legs):
    model = chain()
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    # input, first, its ReLU, pooled, second, its ReLU, last.
    assert swept(model, swept_legs) == [2, 3, 3, 3, 3, 3, 5]


def test_both_ends_keep_their_channels(swept_legs):
    model = chain()
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    mute(model, "last", 3)
    assert swept(model, swept_legs, "first") == [6, 6, 3, 3, 5]


def test_a_stage_that_is_not_known_to_keep_channels_apart_keeps_them_all(swept_legs):
    model = chain(layers.DepthwiseConv2D(3, padding="same", use_bias=False))
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    assert swept(model, swept_legs) == [2, 6, 6, 6, 3, 3, 5]
    model = chain(groups=2)
    mute(model, "first", 0, 4, 5)
    mute(model, "second", 2)
    assert swept(model, swept_legs) == [2, 6, 6, 6, 4, 4, 5]


def test_channels_that_are_zero_elsewhere_only_stay(swept_legs):
    """Outside the receptive field nothing counts, inside it a single entry does."""
    model = chain(layers.Activation("linear"))
    trace = pane_keras.wrap(model).trace(draw(1, 12, 12, 2))
    y = np.asarray(trace["first"].output)[0]
    pair = trace.between("input", "last")
    for unit in ((0, 0, 1), (6, 6, 1), (11, 3, 0)):
        swept_legs.clear()
        pair.map(unit)
        near = tuple(slice(max(u - 2, 0), u + 3) for u in unit[:2])
        assert swept_legs[-1][2] == (y[near] != 0).any((0, 1)).sum()


def test_a_layer_without_any_sound_keeps_its_shape(swept_legs):
    model = chain()
    mute(model, "first", *range(6))
    pair = pane_keras.wrap(model).trace(draw(1, 12, 12, 2)).between("input", "last")
    assert not np.any(pair.map((3, 3, 1)).sum)
    assert swept_legs[-1][:4] == [2, 6, 6, 6]


def test_few_rows_are_not_worth_a_large_kernel():
    model = chain()
    mute(model, "first", 0, 4, 5)
    mute(model, "second")
    pair = pane_keras.wrap(model).trace(draw(1, 12, 12, 2)).between("input", "last")
    operands = list(pair.composition().operands)
    assert silent_channels.without_silent_channels(operands, 1) is operands
    fewer = silent_channels.without_silent_channels(operands, 10**9)
    assert [operand.in_shape[-1] for operand in fewer] == [2, 3, 3, 3, 4, 4]


def test_inside_a_graph_the_host_cannot_look(swept_legs):
    model = chain()
    mute(model, "first", 0, 4, 5)
    pane = pane_keras.wrap(model)
    x = draw(2, 12, 12, 2)
    ask = lambda t: pane.trace(t).between("input", "last").map([(3, 3, 1), (4, 0, 0)]).sum  # noqa: E731
    compiled = tf.function(ask, input_signature=[tf.TensorSpec((None, 12, 12, 2))])(x)
    assert swept_legs[-1][1] == 6
    np.testing.assert_allclose(compiled, ask(x), rtol=0, atol=PARTS * np.abs(ask(x)).max())
    assert swept_legs[-1][1] == 3


@pytest.mark.parametrize("dtype", ["float32", "int8", "int64"])
def test_channels_of_a_tensor(dtype):
    t = np.arange(24).reshape(2, 3, 4).astype(dtype)
    found = backend.take_channels(tf.constant(t), np.array([3, 1]))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, t[..., [3, 1]])
    whole = tf.constant(t)
    assert backend.take_channels(whole, None) is whole


def test_a_kernel_may_be_a_plain_number():
    operands = list(pane_keras.wrap(chain()).trace(draw(1, 12, 12, 2)).between("input", "last").composition().operands)
    operands[0] = replace(operands[0], kernel=2.0, kernel_of=None)
    kept = silent_channels.without_silent_channels(operands, 10**9)
    assert [operand.kind for operand in kept] == [operand.kind for operand in operands]
