"""Rows of a few units: swept through their receptive field only, and looked up in the first dense layer they meet."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras import composition, receptive_field
from pane_keras.rules import dense as dense_rules
from pane_keras.selection import UnitRows
from pane_keras.testing import channels
from pane_keras.windows import Stencil, Window, stencil, window_of

PARTS = 1e-5
CONVOLUTIONS = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
DEPTHWISE = {1: layers.DepthwiseConv1D, 2: layers.DepthwiseConv2D}
SEPARABLE = {1: layers.SeparableConv1D, 2: layers.SeparableConv2D}
POOLING = {1: layers.MaxPooling1D, 2: layers.MaxPooling2D, 3: layers.MaxPooling3D}


def generated(seed):
    """A chain of local layers of any rank, stride, dilation and padding, with BatchNormalization between some."""
    rng = np.random.default_rng(seed)
    rank, size = int(rng.integers(1, 4)), int(rng.integers(7, 12))
    x = y = keras.Input((*[size] * rank, 3))
    for _ in range(int(rng.integers(1, 4))):
        y = _local_layer(rng, rank, min(y.shape[1:-1]))(y)
        y = layers.BatchNormalization()(y) if rng.random() < 0.5 else y
        y = layers.ReLU(max_value=6)(y) if rng.random() < 0.4 else y
    model = filled(x, y)
    return model, rng


def _local_layer(rng, rank, smallest):
    padding = str(rng.choice(["same", "valid"])) if smallest > 5 else "same"
    stride = int(rng.integers(1, 3))
    kinds = ["convolution", "convolution", "pooling", *(["depthwise", "separable"] if rank < 3 else [])]
    kind = rng.choice(kinds)
    if kind == "pooling":
        return POOLING[rank](int(rng.integers(2, 4)), strides=stride, padding=padding)
    if kind == "depthwise":
        return DEPTHWISE[rank](3, padding=padding, strides=stride, depth_multiplier=2)
    if kind == "separable":
        return SEPARABLE[rank](4, 3, padding="same", activation="gelu")
    causal = "causal" if rank == 1 and rng.random() < 0.3 else padding
    dilation = 1 if stride > 1 else int(rng.integers(1, 3))
    activation = str(rng.choice(["relu", "linear", "tanh"]))
    taps = int(rng.integers(1, 4))
    return CONVOLUTIONS[rank](
        6, taps, strides=stride, dilation_rate=dilation, padding=causal, activation=activation, groups=1
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_window_changes_no_map(seed, monkeypatch):
    model, rng = generated(seed)
    trace = pane_keras.wrap(model).trace(draw(2, *model.input_shape[1:], seed=seed))
    pair = trace.between("input", list(trace)[-1])
    units = [tuple(int(rng.integers(size)) for size in pair.target_shape) for _ in range(int(rng.integers(1, 4)))]
    found = pair.map(units)
    monkeypatch.setattr(composition, "window_of", lambda *_: None)
    for mine, whole in zip(channels(found), channels(pair.map(units))):
        np.testing.assert_allclose(mine, whole, rtol=0, atol=PARTS * max(np.abs(whole).max(), 1e-30))


def plane():
    x = keras.Input((12, 12, 2))
    y = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(x)
    y = layers.MaxPooling2D(name="pool")(y)
    return filled(x, layers.Conv2D(5, 3, padding="same", name="last")(y))


def test_only_the_receptive_field_is_swept(monkeypatch):
    """One unit of the last layer: 3 x 3 behind the pooling, 6 x 6 in front of it, 8 x 8 of the input."""
    trace = pane_keras.wrap(plane()).trace(draw(1, 12, 12, 2))
    seen, plain = [], receptive_field.narrowed

    def watched(block, operands, *window):
        rows, narrow = plain(block, operands, *window)
        seen.append([o.in_shape[:2] for o in narrow] + [rows.sum.mantissa.shape[1:3]])
        return rows, narrow

    monkeypatch.setattr(composition, "narrowed", watched)
    found = trace.between("input", "last").map((3, 3, 1)).sum
    assert seen == [[(8, 8), (6, 6), (6, 6), (3, 3), (1, 1)]]
    reached = np.argwhere(np.asarray(found)[0].any(axis=-1))
    assert reached.min() >= 3
    assert reached.max() <= 10


def test_a_window_ends_where_chains_meet():
    """Rows of one of several chains get the zeros around them back; those of a single one are maps of the window."""
    x = layers.Input((12, 12, 2))
    y = layers.Conv2D(3, 3, padding="same", activation="relu", name="stem")(x)
    y = layers.Add(name="meet")([y, layers.Conv2D(3, 3, padding="same", name="branch")(y)])
    trace = pane_keras.wrap(filled(x, layers.Conv2D(4, 3, padding="same", name="last")(y), 0)).trace(draw(1, 12, 12, 2))
    unit = np.ravel_multi_index((3, 5, 1), (12, 12, 4))
    for source, window in (("input", None), ("stem", None), ("meet", Window((2, 4), (5, 7)))):
        pair = trace.between(source, "last")
        _, landing = pair.composition().pull_within(*UnitRows(np.array([unit]), pair.output).closing())
        assert landing == window
        for mine, whole in zip(channels(pair.map((3, 5, 1))), channels(pair.dense())):
            np.testing.assert_allclose(mine, whole[:, 3, 5, 1], rtol=0, atol=PARTS * np.abs(whole).max())


def test_a_unit_at_the_border_and_units_all_over():
    trace = pane_keras.wrap(plane()).trace(draw(2, 12, 12, 2))
    pair = trace.between("input", "last")
    dense = channels(pair.dense())
    for units in ([(0, 0, 0)], [(5, 5, 4)], [(0, 0, 0), (5, 5, 4)], [(0, 5, 2)]):
        for mine, whole in zip(channels(pair.map(units)), dense):
            rows = np.stack([whole[(slice(None), *unit)] for unit in units], axis=1)
            np.testing.assert_allclose(mine, rows, rtol=0, atol=PARTS * np.abs(whole).max())


def test_windows_end_where_a_layer_is_not_local():
    """Behind the mean over the plane everything is reached, and a junction starts from whole rows."""
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(3, 3, padding="same", activation="relu", name="low")(x)
    y = layers.Add(name="sum")([y, layers.Conv2D(3, 3, padding="same")(y)])
    y = layers.Conv2D(4, 3, name="high")(layers.ZeroPadding2D(1)(y))
    trace = pane_keras.wrap(filled(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))).trace(draw(2, 8, 8, 3))
    for ends in (("input", "high"), ("low", "high"), ("input", "logits")):
        pair = trace.between(*ends)
        unit = tuple(size // 2 for size in pair.target_shape)
        for mine, whole in zip(channels(pair.map(unit)), channels(pair.dense())):
            row = whole[(slice(None), *unit)]
            np.testing.assert_allclose(mine, row, rtol=0, atol=PARTS * np.abs(whole).max())


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_channels_first_is_swept_whole(data_format, monkeypatch):
    seen, plain = [], receptive_field.narrowed
    monkeypatch.setattr(
        composition, "narrowed", lambda b, o, *w: seen.append(plain(b, o, *w)[1] is o) or plain(b, o, *w)
    )
    shape = (2, 6, 6) if data_format == "channels_first" else (6, 6, 2)
    x = keras.Input(shape)
    model = filled(x, layers.DepthwiseConv2D(3, data_format=data_format, padding="same")(x))
    trace = pane_keras.wrap(model).trace(draw(1, *shape))
    trace.between("input", list(trace)[-1]).map((1, 1, 1))
    assert seen == [data_format == "channels_first"]


def test_windows_inside_a_graph():
    import tensorflow as tf

    pane = pane_keras.wrap(plane())
    x = draw(2, 12, 12, 2)
    ask = lambda t: pane.trace(t).between("input", "last").map([(3, 3, 1), (4, 0, 0)]).sum  # noqa: E731
    compiled = tf.function(ask, input_signature=[tf.TensorSpec((None, 12, 12, 2))])
    np.testing.assert_allclose(compiled(x), ask(x), rtol=0, atol=PARTS * np.abs(ask(x)).max())


def test_the_window_of_units():
    assert window_of([0], (4, 5, 3)) == Window((0, 0), (1, 1))
    assert window_of(np.ravel_multi_index(([1, 3], [4, 2], [0, 2]), (4, 5, 3)), (4, 5, 3)) == Window((1, 2), (4, 5))
    assert window_of([0, 4 * 5 * 3 - 1], (4, 5, 3)) is None
    assert window_of([2], (7,)) is None
    assert window_of([2], (None, 3)) is None


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("taps", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (2, 3, 1), (3, 1, 2), (1, 2, 1)])
def test_what_a_window_reaches(padding, taps, stride, dilation):
    """Against the inputs that a convolution of ones really depends on."""
    size, layer = 11, layers.Conv1D(1, taps, stride, padding, dilation_rate=dilation, use_bias=False)
    layer.build((1, size, 1))
    layer.kernel.assign(np.ones_like(layer.kernel))
    depends = np.stack([np.asarray(layer(np.eye(size, dtype="float32")[k][None, :, None]))[0, :, 0] != 0
                        for k in range(size)])  # fmt: skip
    out = depends.shape[1]
    reach = stencil((size,), (out,), (taps,), (stride,), (dilation,), padding)
    for start in range(out):
        for stop in range(start + 1, out + 1):
            inner, ((before, after),) = reach.reached(Window((start,), (stop,)), (size,))
            needed = np.flatnonzero(depends[:, start:stop].any(axis=1))
            assert inner.start[0] <= needed.min()
            assert inner.stop[0] >= needed.max() + 1
            assert before + inner.sizes[0] + after == (stop - start - 1) * stride + (taps - 1) * dilation + 1


def test_a_causal_stencil_looks_back():
    assert stencil((9,), (9,), (3,), (1,), (2,), "causal") == Stencil((1,), (3,), (2,), (4,))


# --- coefficients that are looked up ---------------------------------------------------------------------------------


def vectors():
    x = keras.Input((6,))
    y = layers.Dense(7, activation="tanh", name="low")(x)
    y = layers.Dense(5, name="high")(layers.BatchNormalization()(y))
    return filled(x, layers.ReLU(name="gate")(y))


def test_units_of_dense_layers_are_looked_up(monkeypatch):
    """Pulled and pushed, behind elementwise layers too, they are what the product with one-hot rows gives."""
    calls, plain = [], dense_rules._pick
    monkeypatch.setattr(
        dense_rules, "_pick", lambda kernel, units, pull: calls.append(pull) or plain(kernel, units, pull)
    )
    trace = pane_keras.wrap(vectors()).trace(draw(3, 6))
    for ends in (("input", "gate"), ("low", "gate"), ("input", "low")):
        pair = trace.between(*ends)
        for query, size in ((pair.map, pair.target_shape[0]), (pair.effect, pair.source_shape[0])):
            calls.clear()
            found = channels(query(list(range(size))))
            assert set(calls) == {query == pair.map}
            products = channels(query(weights=list(np.eye(size, dtype="float32"))))
            for mine, product in zip(found, products):
                np.testing.assert_allclose(mine, product, rtol=0, atol=PARTS * np.abs(product).max())


def test_weights_are_not_looked_up(monkeypatch):
    monkeypatch.setattr(dense_rules, "_pick", lambda *_: pytest.fail("looked up"))
    trace = pane_keras.wrap(vectors()).trace(draw(2, 6))
    pair = trace.between("input", "gate")
    pair.map(weights=np.eye(5, dtype="float32")[0])
    pair.map(channel=2)
    trace.saliency()
