"""Which units a query asks for: `map` and `effect` of units, weights, channels, regions, one for each sample."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.composition import Composition
from pane_keras.selection import said_classes
from pane_keras.testing import channels

# Sums of up to 60 rows in float32, in another order: relative to the largest entry of the chain of |kernels|.
TOLERANCE = 1e-5
BATCH = 3


def volume():
    """Layers of rank 4, 3, 2 and 1, one after the other."""
    x = keras.Input((3, 3, 3, 2), name="volume")
    y = layers.Conv3D(2, 2, activation="relu", name="rank4")(x)
    y = layers.Conv2D(3, 1, activation="tanh", name="rank3")(layers.Reshape((2, 2, 4))(y))
    y = layers.Conv1D(4, 2, activation="gelu", name="rank2")(layers.Reshape((4, 3))(y))
    y = layers.Dense(5, activation="relu", name="rank1")(layers.Flatten()(y))
    return filled(x, layers.Dense(3, name="scores")(y), seed=4)


@pytest.fixture(scope="module")
def trace():
    return pane_keras.wrap(volume()).trace(draw(BATCH, 3, 3, 3, 2))


@pytest.fixture(scope="module")
def pairs(trace):
    """{rank: (pair to a layer of the rank, its query, shape)}, by map; and {-rank: ...} from it, by effect."""
    to = {rank: trace.between("input", f"rank{rank}") for rank in (1, 2, 3, 4)}
    from_ = {rank: trace.between(f"rank{rank}", "logits") for rank in (1, 2, 3, 4)}
    asked = {rank: (pair, pair.map, pair.target_shape) for rank, pair in to.items()}
    return asked | {-rank: (pair, pair.effect, pair.source_shape) for rank, pair in from_.items()}


RANKS = pytest.mark.parametrize("rank", [1, 2, 3, 4, -1, -3])


def of_units(query, units):
    """{unit: (S, D) asked for by itself}."""
    return {unit: channels(query(unit)) for unit in units}


def assert_same(maps, expected, size=None):
    """S and D are the expected ones, to rounding of the largest entry of each channel."""
    for mine, twin in zip(channels(maps), expected, strict=True):
        assert mine.shape == twin.shape
        largest = np.abs(twin).max(initial=0) if size is None else size
        assert np.abs(mine - twin).max(initial=0) <= TOLERANCE * largest


def summed(units, mask):
    """Weighted sum of the units' maps, (S, D); `mask` has the layer's shape, or a batch axis as well."""
    weight = {unit: mask[(..., *unit)] for unit in np.ndindex(*mask.shape[-len(next(iter(units))) :])}
    return [sum(_spread(weight[u], t[channel]) * t[channel] for u, t in units.items()) for channel in range(2)]


def _spread(weight, tensor):
    return np.reshape(weight, (-1, *[1] * (tensor.ndim - 1)))


def some_units(shape, count=4):
    units = list(np.ndindex(*shape))
    return [units[k] for k in np.random.default_rng(len(shape)).permutation(len(units))[:count]]


def beside(*answers):
    """(S, D) of several selections, (batch, n, *shape), from those of each."""
    return [np.stack(parts, axis=1) for parts in zip(*answers)]


def stacked(query, units):
    return beside(*of_units(query, units).values())


@RANKS
@pytest.mark.parametrize("kind", [list, iter, np.array, "negative"])
def test_several_units_are_the_single_ones_side_by_side(pairs, rank, kind):
    _, query, shape = pairs[rank]
    units = some_units(shape)
    below = [tuple(i - n for i, n in zip(unit, shape)) for unit in units]
    maps = query(below if kind == "negative" else kind(units))
    assert_same(maps, stacked(query, units))
    assert maps.log2_scale.shape == (BATCH, len(units))


def test_a_generator_of_units(pairs):
    _, query, _ = pairs[2]
    assert_same(query((k, 1) for k in range(3)), stacked(query, [(k, 1) for k in range(3)]))


@pytest.mark.parametrize("units", [[1, 4, 0], np.array([1, 4, 0]), range(3), np.array([[1], [4]])], ids=str)
def test_units_of_a_layer_with_one_axis_are_ints(pairs, units):
    _, query, _ = pairs[1]
    wanted = [(int(np.ravel(unit)[0]),) for unit in units]
    assert_same(query(units), stacked(query, wanted))


@pytest.mark.parametrize("unit", [(2,), 2, -3, np.int64(2), np.int8(-3)], ids=repr)
def test_one_unit_has_no_axis_of_selections(pairs, unit):
    for rank in (1, -1):
        _, query, _ = pairs[rank]
        maps = query(unit)
        assert_same(maps, channels(query((2,))))
        assert maps.log2_scale.shape == (BATCH,)


@pytest.mark.parametrize("sign", [1, -1])
def test_several_selections_are_one_contraction(pairs, monkeypatch, sign):
    calls, name = [], "pull_within" if sign > 0 else "push"
    plain = getattr(Composition, name)
    monkeypatch.setattr(
        Composition, name, lambda self, rows, *units: calls.append(rows.shape) or plain(self, rows, *units)
    )
    _, query, shape = pairs[3 * sign]
    units = list(np.ndindex(*shape))
    for asked in ({"weights": list(draw(5, *shape))}, {"channel": [0, 1, 2, 0]}):
        query(**asked)
    query(units)
    assert calls == [(5, BATCH, *shape), (4, BATCH, *shape), (len(units), BATCH, *shape)]


@RANKS
def test_channels_and_regions_are_sums_of_the_units_maps(pairs, rank):
    _, query, shape = pairs[rank]
    units = of_units(query, list(np.ndindex(*shape)))
    size = max(np.abs(sum(np.abs(t[1]) for t in units.values())).max(), 1)
    region = draw(*shape, seed=2) > 0.3
    space = np.ones(()) if len(shape) == 1 else region[..., 0]
    own = np.zeros(shape, bool)
    own[..., 1] = True
    asked = [({"channel": 1}, own), ({"channel": 1 - shape[-1]}, own), ({"region": region}, region)]
    asked += [({"region": region.tolist()}, region), ({"channel": 1, "region": region | own}, own)]
    if len(shape) > 1:
        wide = np.broadcast_to(space[..., None], shape)
        asked += [({"region": space}, wide), ({"region": space.tolist()}, wide)]
        asked += [({"region": space, "channel": 1}, wide & own)]
    for how, mask in asked:
        assert_same(query(**how), summed(units, mask.astype(float)), size)


@RANKS
def test_lists_of_channels_and_regions(pairs, rank):
    _, query, shape = pairs[rank]
    last = shape[-1] - 1
    one = [channels(query(channel=k)) for k in (0, 1, last)]
    assert_same(query(channel=[0, 1, -1]), beside(*one))
    regions = [draw(*shape, seed=seed) > 0.2 for seed in (1, 2)]
    several = [channels(query(region=r)) for r in regions]
    assert_same(query(region=regions), beside(*several))
    with_own = [channels(query(region=r, channel=k)) for r, k in zip(regions, (1, 0))]
    assert_same(query(region=regions, channel=[1, 0]), beside(*with_own))
    with_one = [channels(query(region=r, channel=1)) for r in regions]
    assert_same(query(region=regions, channel=1), beside(*with_one))


@pytest.mark.parametrize("axis", [0, 1, 2, -3, -2, -1])
def test_any_axis_can_be_that_of_the_channels(pairs, axis):
    for rank in (3, -3):
        _, query, shape = pairs[rank]
        mask = np.zeros(shape, bool)
        np.moveaxis(mask, axis, 0)[1] = True
        expected = channels(query(region=mask))
        assert_same(query(channel=1, channel_axis=axis), expected)
        assert_same(query(channel=[1], channel_axis=axis), [t[:, None] for t in expected])
        space = draw(*np.delete(shape, axis), seed=5) > -1
        within = mask & np.expand_dims(space, axis % 3)
        assert_same(query(channel=1, region=space, channel_axis=axis), channels(query(region=within)))


def test_a_channels_first_layer():
    """A CPU has no convolution of this layout; a Permute leads to it, and a pooling reads it."""
    x = keras.Input((5, 4, 2))
    y = layers.Dense(3, activation="relu")(x)
    y = layers.Permute((3, 1, 2), name="first")(y)
    y = layers.GlobalAveragePooling2D(data_format="channels_first", name="pool")(y)
    trace = pane_keras.wrap(filled(x, layers.Dense(2)(y))).trace(draw(2, 5, 4, 2))
    pair = trace.between("first", "logits")
    assert pair.source_shape == (3, 5, 4)
    units = of_units(pair.effect, np.ndindex(3, 5, 4))
    mask = np.zeros((3, 5, 4))
    mask[2] = 1
    assert_same(pair.effect(channel=2, channel_axis=0), summed(units, mask))
    region = np.zeros((5, 4), bool)
    region[1:3, 2:] = True
    assert_same(pair.effect(channel=2, region=region, channel_axis=0), summed(units, mask * region))
    assert_same(pair.effect(region=region, channel_axis=0), summed(units, np.ones((3, 5, 4)) * region))


@RANKS
def test_weights_are_a_linear_combination(pairs, rank):
    _, query, shape = pairs[rank]
    units = of_units(query, list(np.ndindex(*shape)))
    w, each = draw(*shape, seed=8), draw(BATCH, *shape, seed=9)
    size = max(np.abs(sum(np.abs(t[1]) for t in units.values())).max(), 1)
    for weights in (w, w[None], w.tolist(), keras.ops.convert_to_tensor(w)):
        assert_same(query(weights=weights), summed(units, w), size)
    of_each = summed(units, each)
    assert_same(query(weights=each), of_each, size)
    assert_same(query(weights=[w, each]), beside(summed(units, w), of_each), size)


@RANKS
def test_one_selection_for_each_sample(pairs, rank):
    _, query, shape = pairs[rank]
    units = some_units(shape, BATCH)
    own = [np.stack([t[b, b] for b in range(BATCH)]) for t in stacked(query, units)]
    maps = query(units, per_sample=True)
    assert_same(maps, own)
    assert maps.log2_scale.shape == (BATCH,)
    weights = [draw(*shape, seed=seed) for seed in range(BATCH)]
    assert_same(query(weights=weights, per_sample=True), channels(query(weights=np.stack(weights))))
    marks = np.zeros((BATCH, *shape))
    for sample, number in enumerate((1, 0, -1)):
        marks[sample, ..., number] = 1
    assert_same(query(channel=[1, 0, -1], per_sample=True), channels(query(weights=marks)))


def test_regions_for_each_sample(pairs):
    _, query, shape = pairs[2]
    regions = [draw(*shape, seed=seed) > 0 for seed in range(BATCH)]
    assert_same(query(region=regions, per_sample=True), channels(query(weights=np.stack(regions).astype(float))))


@pytest.mark.parametrize(
    ("source", "rank", "axes"),
    [
        ("input", 4, ("depth", "height", "width", "channel")),
        ("rank4", 4, ("depth", "height", "width", "channel")),
        ("rank3", 3, ("height", "width", "channel")),
        ("rank2", 2, ("step", "channel")),
        ("rank1", 1, ("unit",)),
    ],
)
def test_axes_are_named(trace, source, rank, axes):
    pair = trace.between(source, "logits")
    assert pair.map(0).axes == ("sample", *axes)
    assert pair.map([0, 1]).axes == ("sample", "selection", *axes)
    assert pair.map([0, 1, 2], per_sample=True).axes == ("sample", *axes)
    assert len(pair.source_shape) == rank
    assert trace.between("input", source).effect((0, 0, 0, 0)).axes == ("sample", *axes) if source != "input" else True


def test_axes_of_a_layer_of_rank_five():
    x = keras.Input((1, 2, 1, 2, 2))
    model = filled(x, layers.Dense(2)(layers.Flatten()(x)))
    maps = pane_keras.wrap(model).trace(draw(2, 1, 2, 1, 2, 2)).saliency(0)
    assert maps.axes == ("sample", "axis0", "axis1", "axis2", "axis3", "axis4")


@pytest.mark.parametrize("target", ["rank1", "rank2", "rank3"])
def test_a_dense_excitation_names_each_of_its_axes(trace, target):
    dense = trace.between("input", target).dense()
    assert len(dense.axes) == len(dense.sum.shape)
    assert dense.axes[-4:] == ("source depth", "source height", "source width", "source channel")


@pytest.mark.parametrize("several", [False, True])
def test_samples_of_a_map(pairs, several):
    _, query, shape = pairs[2]
    maps = query(some_units(shape) if several else (0, 0))
    chosen = maps.samples(slice(1, None))
    for part in ("positive", "negative", "sum", "log2_scale", "sum_log2_scale", "signal"):
        np.testing.assert_array_equal(getattr(chosen, part), np.asarray(getattr(maps, part))[1:])
    assert (chosen.over, chosen.of, chosen.axes) == (maps.over, maps.of, maps.axes)
    np.testing.assert_array_equal(chosen.contribution().sum, np.asarray(maps.contribution().sum)[1:])


@pytest.mark.parametrize("asked", [(0, 2), range(0, 3, 2), np.array([0, 2]), iter([0, 2]), keras.ops.array([0, 2])])
def test_any_iterable_of_channels(pairs, asked):
    _, query, _ = pairs[2]
    assert_same(query(channel=asked), beside(channels(query(channel=0)), channels(query(channel=2))))


@pytest.mark.parametrize("one", [np.int64(2), np.array(2), keras.ops.array(2)], ids=repr)
def test_one_channel_or_unit_as_an_array(pairs, one):
    _, query, _ = pairs[1]
    for maps in (query(one), query(channel=one)):
        assert_same(maps, channels(query(2)))


def test_selections_as_tensors(pairs):
    _, query, shape = pairs[2]
    units, array = some_units(shape), keras.ops.array
    assert_same(query(array(units)), stacked(query, units))
    assert_same(query([array(unit) for unit in units]), stacked(query, units))
    region = draw(*shape, seed=2) > 0.3
    assert_same(query(region=array(region)), channels(query(region=region)))
    assert_same(query(region=[array(region)] * 2), channels(query(region=[region] * 2)))
    _, query, _ = pairs[1]
    assert_same(query(array([1, 4])), stacked(query, [(1,), (4,)]))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (None, "top class"),
        (3, "class 3"),
        ([1, 2], "class [1, 2]"),
        (np.arange(8), "class [0 1 2 3 4 5 6 7]"),
        (list(range(9)), "one class for each sample"),
        (tf.range(9), "one class for each sample"),
        (tf.constant(4), "class 4"),
    ],
)
def test_the_classes_that_a_map_explains(classes, said):
    assert said_classes(classes) == said


def test_many_classes_inside_a_graph_are_not_listed():
    seen = []
    tf.function(seen.append, input_signature=[tf.TensorSpec((None,), tf.int32)]).get_concrete_function()
    assert said_classes(seen[0]) == "one class for each sample"
