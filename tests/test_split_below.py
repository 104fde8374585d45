"""`split_below`: positive is told from negative at and below a layer, and nowhere else (section 2).

The twin is the float64 four-product chain in which every layer above the cut has E+ := S and E- := 0.
"""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from architectures import chains, graphs
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from keras import layers

import pane_keras
from pane_keras.composition import told_apart
from pane_keras.errors import UnknownLayerError
from pane_keras.testing import channels, dense_network

PROFILE = settings(deadline=None, max_examples=12, derandomize=True, database=None, print_blob=False,
                   suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])  # fmt: skip
TOLERANCE = 1e-5


def dense_channels(network, trace, source, target):
    """Returns the twin's (S, D, sum of absolute products), each (batch, target units, source units)."""
    ends = trace._source(source), trace._target(target)
    p, n = network.between(*ends)
    return p + n, p - n, network.magnitude(*ends)


def assert_channels(maps, expected, size, word):
    """S and D of a map are the twin's, to float32 rounding of the chain of absolute coefficients."""
    for name, mine, twin in zip("SD", channels(maps), expected):
        mine = mine.reshape(twin.shape)
        error = np.abs(mine - twin).reshape(len(twin), -1).max(axis=1)
        bound = TOLERANCE * np.abs(size).reshape(len(twin), -1).max(axis=1)
        assert (error <= bound).all(), f"{name} of {word}: off by {error}, allowed {bound}"


def assert_cut(trace, cut, source="input", target="logits"):
    """Maps and effects of all units, and of random weights, agree with the twin that is cut at this layer."""
    pair, network = trace.between(source, target), dense_network(trace, split_below=cut)
    s, d, size = dense_channels(network, trace, source, target)
    batch = len(s)
    maps = pair.map(list(np.ndindex(*pair.target_shape)), split_below=cut)
    assert_channels(maps, (s, d), size, f"map cut at {cut}")
    v = draw(batch, *pair.source_shape, seed=3)
    pushed = [np.einsum("bts,bs->bt", t, np.reshape(w, (batch, -1))) for t, w in ((s, v), (d, v), (size, np.abs(v)))]
    assert_channels(pair.effect(weights=v, split_below=cut), pushed[:2], pushed[2], f"effect cut at {cut}")


def assert_saliency(trace, cut):
    """Saliency of the last class agrees with the cut twin, and its sum is the one without a cut."""
    s, d, size = (t[:, -1] for t in dense_channels(dense_network(trace, split_below=cut), trace, "input", "logits"))
    maps, whole = trace.saliency(-1, split_below=cut), trace.saliency(-1)
    assert_channels(maps, (s, d), size, f"saliency cut at {cut}")
    assert_same_sum(maps, whole, size)


def assert_same_sum(maps, whole, size):
    difference = np.abs(channels(maps)[0] - channels(whole)[0]).max()
    assert difference <= TOLERANCE * np.abs(size).max()


def same(a, b):
    return all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("positive", "negative", "sum"))


@PROFILE
@given(st.one_of(chains, graphs), st.data())
def test_any_cut_of_any_architecture(architecture, data):
    model, x = architecture.model(), architecture.inputs()
    assume(np.isfinite(model(x)).all())
    trace = pane_keras.wrap(model).trace(x)
    cut = data.draw(st.sampled_from(list(trace)), label="cut")
    assert_saliency(trace, cut)
    assert_cut(trace, cut)


@PROFILE
@given(graphs, st.data())
def test_any_cut_between_inner_layers(architecture, data):
    """The cut may lie above, below or beside both ends of the pair."""
    model, x = architecture.model(), architecture.inputs()
    assume(np.isfinite(model(x)).all())
    trace = pane_keras.wrap(model).trace(x)
    target = data.draw(st.sampled_from(list(trace)), label="target")
    sources = [name for name in ["input", *trace] if joined(trace, name, target)]
    assume(sources)
    source = data.draw(st.sampled_from(sources), label="source")
    assert_cut(trace, data.draw(st.sampled_from(list(trace)), label="cut"), source, target)


def joined(trace, source, target):
    start, end = trace._source(source), trace._target(target)
    reached = {start}
    for edge in trace._record.edges:
        if edge.source in reached:
            reached.add(edge.target)
    return start != end and end in reached


@pytest.mark.parametrize("top", ["scores", "logits_softmax"])
def test_a_cut_at_the_last_layer_is_no_cut(top):
    x = keras.Input((5,))
    y = layers.Dense(4, activation="tanh")(layers.Dense(6, activation="relu")(x))
    y = layers.Dense(3, name="scores")(y)
    model = filled(x, layers.Softmax(name="logits_softmax")(y) if top != "scores" else y)
    trace = pane_keras.wrap(model).trace(draw(2, 5))
    assert same(trace.saliency(split_below=top), trace.saliency())
    pair = trace.between("input", "logits")
    assert same(pair.map([0, 1], split_below=top), pair.map([0, 1]))
    assert same(pair.effect([0, 1], split_below=top), pair.effect([0, 1]))


def fused_chain():
    x = keras.Input((6, 6, 2))
    y = layers.Conv2D(3, 3, activation="tanh", name="first")(x)
    y = layers.Conv2D(4, 2, activation="gelu", name="second")(y)
    y = layers.Flatten()(y)
    y = layers.Dense(5, activation="elu", name="third")(y)
    model = filled(x, layers.Dense(3, activation="softmax", name="scores")(y))
    return pane_keras.wrap(model).trace(draw(2, 6, 6, 2))


@pytest.mark.parametrize("cut", ["first", "second", "third", "scores"])
def test_a_layer_with_a_fused_activation_is_told_apart_as_a_whole(cut):
    trace = fused_chain()
    assert_saliency(trace, cut)
    assert_cut(trace, cut)
    assert_cut(trace, cut, "first", "third")


def test_by_hand_on_a_chain_of_two():
    """D is that of the lower layer alone, weighted by S of the upper one."""
    trace = fused_chain()
    upper, lower = trace.between("second", "logits"), trace.between("input", "second")
    s = channels(upper.map(1))[0]
    expected = lower.map(weights=s.astype("float32"))
    maps = trace.saliency(1, split_below="second")
    size = np.abs(channels(expected)[1]).max()
    for mine, twin in zip(channels(maps), channels(expected)):
        np.testing.assert_allclose(mine, twin, rtol=0, atol=TOLERANCE * size)


def test_everything_above_the_cut_is_positive():
    """Nothing between two layers above the cut is told apart: P = S and N = 0."""
    trace = fused_chain()
    maps = trace.between("second", "third").map(2, split_below="first")
    np.testing.assert_array_equal(maps.positive, maps.sum)
    assert not np.asarray(maps.negative).any()
    assert np.asarray(trace.between("second", "third").map(2).negative).any()


def parallel():
    """Two branches of different depth from a stem, added up, and a head."""
    x = keras.Input((7,))
    stem = layers.Dense(6, activation="relu", name="stem")(x)
    left = layers.Dense(5, activation="tanh", name="left")(stem)
    left = layers.Dense(4, name="left_end")(left)
    right = layers.Dense(4, activation="gelu", name="right")(stem)
    y = layers.Dense(5, activation="relu", name="head")(layers.Add(name="meet")([left, right]))
    return pane_keras.wrap(filled(x, layers.Dense(3, name="scores")(y))).trace(draw(3, 7))


@pytest.mark.parametrize("cut", ["stem", "left", "left_end", "right", "meet", "head", "scores"])
def test_cuts_of_parallel_branches(cut):
    trace = parallel()
    assert_saliency(trace, cut)
    assert_cut(trace, cut)
    assert_cut(trace, cut, "stem", "meet")


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        ("stem", {"stem"}),
        ("left", {"stem", "left"}),
        ("left_end", {"stem", "left", "left_end"}),
        ("right", {"stem", "right"}),
        ("meet", {"stem", "left", "left_end", "right", "meet"}),
        ("scores", {"stem", "left", "left_end", "right", "meet", "head", "scores"}),
    ],
)
def test_the_layer_and_its_ancestors_are_told_apart(cut, told):
    trace = parallel()
    slots = told_apart(trace._record, trace._call(cut).output)
    by_layer = {name: {s.output in slots for s in trace._record.stages if s.name == name} for name in trace}
    assert by_layer == {name: {name in told} for name in trace}


def test_the_branch_beside_the_cut_is_not_told_apart():
    """Cut at `left`: `left` and the stem are told apart; what runs through `right` alone is not."""
    trace = parallel()
    maps = trace.between("stem", "right").map(1, split_below="left")
    assert not np.asarray(maps.negative).any()
    left = trace.between("stem", "left")
    assert same(left.map(1, split_below="left"), left.map(1))
    assert np.asarray(left.map(1).negative).any()
    maps, stem = trace.saliency(0, split_below="left"), trace.saliency(0, split_below="stem")
    assert not np.allclose(maps.negative, stem.negative)


@pytest.mark.parametrize(("cut", "layer"), [("drop", "hidden"), ("noise", "drop"), ("flat", "drop")])
def test_an_identity_layer_is_cut_where_its_input_is(cut, layer):
    trace = pane_keras.wrap(with_identities()).trace(draw(2, 4, 3))
    if cut != "flat":
        assert same(trace.saliency(1, split_below=cut), trace.saliency(1, split_below=layer))
    assert_saliency(trace, cut)
    assert_cut(trace, cut)


def test_a_cut_at_an_identity_of_the_input_tells_nothing_apart():
    trace = pane_keras.wrap(with_identities()).trace(draw(2, 4, 3))
    maps = trace.saliency(0, split_below="first_drop")
    np.testing.assert_array_equal(maps.positive, maps.sum)
    assert not np.asarray(maps.negative).any()


def with_identities():
    x = keras.Input((4, 3))
    y = layers.Dense(5, activation="tanh", name="hidden")(layers.Dropout(0.5, name="first_drop")(x))
    y = layers.GaussianNoise(0.5, name="noise")(layers.Dropout(0.5, name="drop")(y))
    return filled(x, layers.Dense(3, name="scores")(layers.Flatten(name="flat")(y)))


def test_a_shared_layer_is_cut_at_one_of_its_calls():
    x = keras.Input((5,))
    twice = layers.Dense(5, activation="tanh", name="twice")
    trace = pane_keras.wrap(filled(x, layers.Dense(3)(twice(twice(x))))).trace(draw(2, 5))
    for cut in ("twice", "twice#2"):
        assert_saliency(trace, cut)
    assert not same(trace.saliency(0, split_below="twice"), trace.saliency(0, split_below="twice#2"))


def test_the_sum_is_the_same_at_every_cut(residual_trace):
    whole = residual_trace.saliency(2)
    size = dense_channels(dense_network(residual_trace), residual_trace, "input", "logits")[2]
    for cut in residual_trace:
        assert_same_sum(residual_trace.saliency(2, split_below=cut), whole, size)


@pytest.mark.parametrize("ask", ["saliency", "map", "effect"])
def test_an_unknown_cut_is_named_with_what_is_close(residual_trace, ask):
    pair = residual_trace.between("input", "logits")
    query = {"saliency": residual_trace.saliency, "map": lambda **how: pair.map(1, **how),
             "effect": lambda **how: pair.effect((0, 0, 0), **how)}[ask]  # fmt: skip
    with pytest.raises(UnknownLayerError, match=r"no layer 'stem_rel'\. Did you mean 'stem_relu'"):
        query(split_below="stem_rel")


def test_several_inputs_are_told_apart_below_the_cut_only(two_inputs, inputs_for):
    """Cut at one input's layer: the other input carries the sum in both channels."""
    trace = pane_keras.wrap(two_inputs).trace(inputs_for(two_inputs))
    maps = trace.saliency(1, split_below="dense_left")
    whole = trace.saliency(1)
    assert not np.asarray(maps["right"].negative).any()
    assert np.asarray(maps["left"].negative).any()
    for name in maps:
        size = np.abs(channels(whole[name])[1]).max()
        assert_same_sum(maps[name], whole[name], size)
