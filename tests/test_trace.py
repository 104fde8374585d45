"""`Trace`: lookup, saliency, `between`, heads that are left out, several inputs and outputs, and the self-check."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import pane_keras
from pane_keras import Excitation, ExcitationMap, Trace, pieces, wrap
from pane_keras.errors import NoPathError, TargetError, UnknownLayerError


def slopes(model, source, target, x, weights):
    """Returns the gradient of a weighted sum of the target with respect to the source where that is not 0.

    For layers that are linear, ReLU or max pooling this is the sum map, by another road.
    """
    tail, at = keras.Model(source, target), tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(at)
        total = tf.reduce_sum(tail(at) * weights)
    return np.where(np.asarray(at) != 0, tape.gradient(total, at), 0)


def assert_maps_equal(a, b):
    for part in ("positive", "negative", "sum"):
        np.testing.assert_allclose(getattr(a, part), getattr(b, part), rtol=1e-5, atol=1e-6, err_msg=part)


@pytest.fixture
def trace(residual_trace):
    return residual_trace


# Lookup


def test_a_trace_is_a_collection_of_names(trace):
    names = ["stem", "stem_norm", "stem_relu", "branch", "add", "add_relu", "side", "concat", "pool", "scores"]
    assert isinstance(trace, Trace)
    assert list(trace) == names
    assert len(trace) == 10
    assert "add" in trace
    assert "picture" not in trace
    assert "Trace(10 layers" in repr(trace)


def test_a_layer_emits_output_positive_negative(trace, residual):
    output, positive, negative = trace["stem"]
    assert tuple(output.shape) == (2, 6, 6, 4)
    assert positive.shape == negative.shape == (2, 6, 6, 4, 6, 6, 2)
    dense = np.asarray(positive)
    assert dense.shape == positive.shape
    assert dense.dtype == np.float32
    assert np.asarray(positive, dtype="float64").dtype == np.float64
    # One unit in the middle: its coefficients, positive and negative together, are the kernel where x is not 0.
    kernel = np.asarray(residual.get_layer("stem").kernel)[..., 1]
    window = (0, slice(1, 4), slice(2, 5))
    x = np.asarray(trace.between("input", "stem").map((2, 3, 1)).signal)[window]
    both = (dense + np.asarray(negative))[0, 2, 3, 1][window[1:]]
    np.testing.assert_allclose(both, np.where(x != 0, kernel, 0), rtol=1e-5, atol=1e-6)
    assert np.count_nonzero(dense) + np.count_nonzero(np.asarray(negative)) > 0
    assert not np.any((dense != 0) & (np.asarray(negative) != 0))  # each coefficient is in one of the two


def test_views_are_lazy(trace, monkeypatch):
    asked = []
    original = Excitation.dense
    monkeypatch.setattr(Excitation, "dense", lambda self, *args: asked.append(1) or original(self, *args))
    _, positive, _ = trace["pool"]
    assert positive.shape == (2, 7, 6, 6, 7)
    assert "positive" in repr(positive)
    assert asked == []
    np.asarray(positive)
    assert asked == [1]


def test_a_layer_with_several_inputs_emits_lists(trace):
    output, positive, negative = trace["concat"]
    assert tuple(output.shape) == (2, 6, 6, 7)
    assert [p.shape for p in positive] == [(2, 6, 6, 7, 6, 6, 4), (2, 6, 6, 7, 6, 6, 3)]
    assert [n.shape for n in negative] == [p.shape for p in positive]
    # The layer's own operand: what also reaches it around another layer is not in it.
    first, second = np.asarray(trace["add_relu"].output), np.asarray(trace["side"].output)
    copied = np.asarray(positive[0])[:, 2, 3, 1], np.asarray(positive[1])[:, 2, 3, 5]
    for view, signal, channel in ((copied[0], first, 1), (copied[1], second, 1)):
        expected = np.zeros_like(view)
        expected[:, 2, 3, channel] = signal[:, 2, 3, channel] != 0
        np.testing.assert_array_equal(view, expected)
    assert not np.asarray(negative[0]).any()  # a copy is always positive
    added = trace["add"]
    assert len(added.positive) == len(added.negative) == 2
    assert added.output is trace["add"].output


def test_views_hold_only_the_layers_own_excitation():
    """x + x + 5 x: what reaches the Add around another layer, or as another input, is not in an input's view."""
    x = keras.Input((1,))
    scaled = layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(5.0))(x)
    model = keras.Model(x, layers.Add(name="add")([x, x, scaled]))
    trace = wrap(model).trace(np.ones((1, 1), "float32"))
    assert [np.asarray(view).item() for view in trace["add"].positive] == [1, 1, 1]
    assert np.asarray(trace.between("input", "add").map(0).positive).item() == 7


def test_a_view_answers_for_single_units(trace):
    dense = np.asarray(trace["side"].negative)
    np.testing.assert_allclose(trace["side"].negative.map((1, 2, 0)), dense[:, 1, 2, 0], rtol=1e-6, atol=1e-7)


# Saliency


def test_the_default_is_the_top_class_of_each_sample(cnn, inputs_for):
    x = inputs_for(cnn, 8) + np.random.default_rng(1).normal(0, 8, (8, 1, 1, 3)).astype("float32")
    trace = wrap(cnn).trace(x)
    top = np.argmax(cnn(x), axis=1)
    assert len(set(top)) > 1
    assert_maps_equal(trace.saliency(), trace.saliency(list(top)))
    for sample, chosen in enumerate(top):
        one = trace.between("input", "logits").map(int(chosen))
        np.testing.assert_allclose(trace.saliency().positive[sample], one.positive[sample], rtol=1e-5, atol=1e-7)


def test_a_map_has_the_shape_of_the_input(trace):
    maps = trace.saliency()
    assert isinstance(maps, ExcitationMap)
    for part in (maps.positive, maps.negative, maps.sum, maps.signal):
        assert tuple(part.shape) == (2, 6, 6, 2)
    assert tuple(maps.log2_scale.shape) == tuple(maps.sum_log2_scale.shape) == (2,)
    assert not np.any(maps.log2_scale)
    assert "top class" in repr(maps)
    np.testing.assert_allclose(np.add(maps.positive, maps.negative), maps.sum, rtol=1e-4, atol=1e-6)


SAME_CLASSES = {
    "an int": 3,
    "from the end": -2,
    "numpy": np.int64(3),
    "unsigned": np.uint8(3),
    "0-d array": np.array(3),
    "a list": [3, 3],
    "a tuple": (3, 3),
    "an array": np.array([3, 3]),
    "mixed ends": [3, -2],
    "numpy in a list": [np.int32(3), np.int64(3)],
}


@pytest.mark.parametrize("target", SAME_CLASSES)
def test_ways_to_name_a_class(trace, target):
    expected = trace.between("input", "logits").map(3)
    assert np.any(expected.positive)
    assert_maps_equal(trace.saliency(SAME_CLASSES[target]), expected)


def test_one_class_for_each_sample(trace):
    maps = trace.saliency([1, 4])
    pair = trace.between("input", "scores")
    for sample, k in enumerate((1, 4)):
        np.testing.assert_allclose(maps.sum[sample], pair.map(k).sum[sample], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(maps.negative[sample], pair.map(k).negative[sample], rtol=1e-5, atol=1e-7)


def test_the_sum_of_a_relu_network_is_its_gradient(trace, residual):
    x = trace.saliency().signal
    for k in range(5):
        expected = slopes(residual, residual.input, residual.output, x, np.eye(5, dtype="float32")[k])
        np.testing.assert_allclose(trace.saliency(k).sum, expected, rtol=1e-4, atol=1e-6)


def test_logits_with_several_axes_are_refused(inputs_for):
    model = keras.Sequential([keras.Input((6, 2)), layers.Dense(3)])
    trace = wrap(model).trace(inputs_for(model))
    with pytest.raises(TargetError, match=r"shape \(2, 6, 3\): ask between\('input', 'logits'\)"):
        trace.saliency()
    assert tuple(trace.between("input", "logits").map((5, 2)).sum.shape) == (2, 6, 2)


# Heads


HEADS = {
    "fused softmax": lambda x: layers.Dense(3, activation="softmax", name="head")(x),
    "fused sigmoid": lambda x: layers.Dense(3, activation="sigmoid", name="head")(x),
    "Activation softmax": lambda x: layers.Activation("softmax", name="head")(layers.Dense(3)(x)),
    "Activation sigmoid": lambda x: layers.Activation("sigmoid", name="head")(layers.Dense(3)(x)),
    "Softmax layer": lambda x: layers.Softmax(name="head")(layers.Dense(3)(x)),
    "none": lambda x: layers.Dense(3, name="head")(x),
}


def headed(head):
    x = keras.Input((5,))
    return keras.Model(x, head(layers.Dense(6, activation="relu", name="hidden")(x)))


@pytest.fixture(params=HEADS)
def head(request, randomize):
    return randomize(headed(HEADS[request.param]))


def test_a_head_is_left_out_of_the_maps(head, inputs_for):
    bare = headed(HEADS["none"])
    bare.set_weights(head.get_weights())
    x = inputs_for(head)
    trace, plain = wrap(head).trace(x), wrap(bare).trace(x)
    np.testing.assert_allclose(trace.logits(), bare(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trace["head"].output, head(x), rtol=1e-5, atol=1e-6)  # what it emits is not changed
    for k in range(3):
        expected = plain.saliency(k)
        assert np.any(expected.negative)
        assert_maps_equal(trace.saliency(k), expected)
        assert_maps_equal(trace.between("input", "head").map(k), expected)
        assert_maps_equal(trace.between("input", "logits").map(k), expected)
    assert_maps_equal(trace.saliency(), plain.saliency())
    assert_maps_equal(trace.between("hidden", "head").map(0), plain.between("hidden", "head").map(0))
    assert trace.check().ok


def test_a_softmax_inside_a_model_stays(randomize, inputs_for):
    x = keras.Input((5,))
    inner = layers.Dense(4, activation="softmax", name="inner")(x)
    model = randomize(keras.Model(x, layers.Dense(3, activation="softmax", name="head")(inner)))
    data = inputs_for(model)
    trace = wrap(model).trace(data)
    pair = trace.between("input", "inner").map(1)
    logit = np.asarray(model.get_layer("inner").kernel)[:, 1]
    assert not np.allclose(pair.sum, np.where(data != 0, logit, 0), rtol=0.1)
    np.testing.assert_allclose(np.sum(trace["inner"].output, axis=-1), 1, rtol=1e-5)
    assert trace.check().ok


# Between


def test_between_goes_from_output_to_output(cnn, inputs_for):
    """A fused activation belongs to its layer: the source is what it emits, the target as well."""
    x = inputs_for(cnn)
    trace = wrap(cnn).trace(x)
    conv1, conv2, relu2 = (cnn.get_layer(name).output for name in ("conv1", "conv2", "relu2"))
    weights = np.random.default_rng(0).normal(size=(3, 3, 5)).astype("float32")
    source = trace["conv1"].output
    assert np.min(source) == 0
    pairs = {"conv2": conv2, "relu2": relu2}
    for name, tensor in pairs.items():
        maps = trace.between("conv1", name).map(weights=weights)
        np.testing.assert_allclose(maps.sum, slopes(cnn, conv1, tensor, source, weights), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(maps.signal, source)
    first = np.zeros((6, 6, 4), "float32")
    first[2, 3, 1] = 1
    expected = slopes(cnn, cnn.inputs[0], conv1, x, first)
    np.testing.assert_allclose(trace.between("input", "conv1").map((2, 3, 1)).sum, expected, rtol=1e-4, atol=1e-6)


def test_between_knows_its_ends(trace):
    pair = trace.between("stem", "side")
    assert (pair.source, pair.target) == ("stem", "side")
    assert (pair.source_shape, pair.target_shape) == ((6, 6, 4), (6, 6, 3))
    assert repr(pair) == "Excitation('stem' (6, 6, 4) -> 'side' (6, 6, 3))"


def test_the_input_has_two_names(trace):
    assert_maps_equal(trace.between("input", "scores").map(1), trace.between("picture", "scores").map(1))


def test_a_layer_and_itself(trace):
    maps = trace.between("pool", "pool").map(2)
    np.testing.assert_array_equal(maps.positive, np.tile(np.eye(7, dtype="float32")[2], (2, 1)))
    assert not np.any(maps.negative)


def test_pairs_compose(trace):
    """between(a, c) = between(b, c) o between(a, b) where every path runs through b."""
    first, second, whole = (
        trace.between(*p) for p in (("stem", "add_relu"), ("add_relu", "scores"), ("stem", "scores"))
    )
    row = second.map(2)
    sums = first.map(weights=row.sum).sum
    positive = np.add(first.map(weights=row.positive).positive, first.map(weights=row.negative).negative)
    np.testing.assert_allclose(whole.map(2).sum, sums, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole.map(2).positive, positive, rtol=1e-4, atol=1e-5)


def test_no_path(trace):
    for source, target in (("scores", "stem"), ("branch", "stem_relu"), ("scores", "pool")):
        with pytest.raises(NoPathError, match=f"No path leads from '{source}' to '{target}'"):
            trace.between(source, target)


def test_layers_called_input_and_logits(randomize, inputs_for):
    x = keras.Input((4,), name="features")
    hidden = layers.Dense(5, activation="relu", name="input")(x)
    hidden = layers.Dense(6, activation="relu", name="logits")(hidden)
    model = randomize(keras.Model(x, layers.Dense(3, name="out")(hidden)))
    trace = wrap(model).trace(inputs_for(model))
    assert_maps_equal(trace.between("input", "logits").map(2), trace.saliency(2))
    assert_maps_equal(trace.between("features", "out").map(2), trace.saliency(2))
    assert tuple(trace.logits().shape) == (2, 3)
    assert list(trace) == ["input", "logits", "out"]
    assert tuple(trace["logits"].output.shape) == (2, 6)
    assert tuple(trace["input"].output.shape) == (2, 5)
    assert trace.between("logits", "out").source_shape == (6,)


def test_unknown_layers(trace):
    with pytest.raises(UnknownLayerError, match="Did you mean 'stem_relu'"):
        trace["stem_rel"]
    with pytest.raises(UnknownLayerError, match=r"no layer 'zzz'\. Its 10 layers are listed by `list\(trace\)`"):
        trace.between("zzz", "scores")
    with pytest.raises(UnknownLayerError, match="no layer 'add_rel'"):
        trace.between("stem", "add_rel")


# Nested and shared


def test_nested_layers_are_reached_by_name(nested, inputs_for):
    trace = wrap(nested).trace(inputs_for(nested))
    assert tuple(trace["backbone/conv1"].output.shape) == (2, 4, 4, 3)
    assert trace.between("backbone/conv1", "scores").source_shape == (4, 4, 3)
    assert_maps_equal(trace.between("input", "scores").map(0), trace.saliency(0))


def test_the_calls_of_a_shared_layer_are_told_apart(nested, inputs_for):
    trace = wrap(nested).trace(inputs_for(nested, 3))
    first, second = trace["dense"].output, trace["dense#2"].output
    dense = nested.get_layer("dense")
    np.testing.assert_allclose(second, dense(first), rtol=1e-5, atol=1e-6)
    assert not np.allclose(first, second)
    kernel = np.asarray(dense.kernel)
    single = trace.between("dense", "dense#2").map(1).sum
    alive = np.where(np.asarray(second)[:, 1:2] > 0, 1, 0) * (np.asarray(first) != 0)
    np.testing.assert_allclose(single, alive * kernel[:, 1], rtol=1e-5, atol=1e-6)


# Several inputs and outputs


def test_several_inputs_give_a_map_each(two_inputs, inputs_for):
    left, right = inputs_for(two_inputs)
    trace = wrap(two_inputs).trace([left, right])
    assert trace.input_names == ("left", "right")
    maps = trace.saliency(1)
    assert {name: tuple(m.sum.shape) for name, m in maps.items()} == {"left": (2, 4), "right": (2, 3)}
    row = np.asarray(two_inputs.get_layer("scores").kernel)[:, 1]
    for name, x, sign in (("left", left, 1), ("right", right, -1)):
        dense = two_inputs.get_layer(f"dense_{name}")
        alive = np.asarray(dense(x)) > 0
        expected = (alive * row * sign) @ np.asarray(dense.kernel).T * (x != 0)
        np.testing.assert_allclose(maps[name].sum, expected, rtol=1e-4, atol=1e-6)
        assert_maps_equal(trace.between(name, "logits").map(1), maps[name])
    with pytest.raises(UnknownLayerError, match=r"several inputs: say which one of \['left', 'right'\]"):
        trace.between("input", "logits")


def test_several_outputs_need_a_name(two_outputs, inputs_for):
    x = inputs_for(two_outputs)
    trace = wrap(two_outputs).trace(x)
    assert trace.output_names == ("kind", "size")
    for ask in (trace.saliency, trace.logits):
        with pytest.raises(TargetError, match=r"several outputs: pass output=, one of \['kind', 'size'\]"):
            ask()
    for name, index, classes in (("kind", 0, 3), ("size", 1, 2)):
        assert tuple(trace.logits(name).shape) == (2, classes)
        np.testing.assert_array_equal(trace.logits(name), trace.logits(index))
        assert_maps_equal(trace.saliency(1, output=name), trace.saliency(1, output=index))
        assert_maps_equal(trace.saliency(1, output=name), trace.between("input", name).map(1))
    np.testing.assert_allclose(trace.logits("size"), two_outputs(x)[1], rtol=1e-5)
    assert not np.allclose(trace.saliency(1, output=0).sum, trace.saliency(1, output=1).sum)


@pytest.mark.parametrize("output", ["weight", 2, -1, 0.5, np.int64(2)])
def test_outputs_that_do_not_exist(two_outputs, inputs_for, output):
    trace = wrap(two_outputs).trace(inputs_for(two_outputs))
    with pytest.raises(TargetError, match=r"[Oo]utput"):
        trace.saliency(0, output=output)


def test_a_dict_of_outputs_is_named_by_what_it_holds(randomize, inputs_for):
    x = keras.Input((4,))
    model = randomize(keras.Model(x, {"b": layers.Dense(2, name="one")(x), "a": layers.Dense(3, name="two")(x)}))
    data = inputs_for(model)
    trace = wrap(model).trace(data)
    result = model(data)
    for name in trace.output_names:
        key = {"one": "b", "two": "a"}.get(name, name)
        np.testing.assert_allclose(trace.logits(name), result[key], rtol=1e-5, atol=1e-6)


def test_the_keys_of_a_dict_of_outputs(randomize, inputs_for):
    """What the model itself returns under a name can be asked for by it."""
    x = keras.Input((4,))
    outputs = {"logits": layers.Dense(2, name="one")(x), "two": layers.Dense(3, name="b")(x)}
    outputs["one"] = layers.Dense(4, name="c")(x)
    model = randomize(keras.Model(x, outputs))
    data = inputs_for(model)
    trace = wrap(model).trace(data)
    for key, value in model(data).items():
        np.testing.assert_allclose(trace.logits(key), value, rtol=1e-5, atol=1e-6)
        assert_maps_equal(
            trace.saliency(1, output=key), trace.between("input", {"two": "b", "one": "c"}.get(key, key)).map(1)
        )
    with pytest.raises(TargetError, match=r"no output 'three'\. Its outputs are .*, by key \['logits', 'one', 'two'\]"):
        trace.logits("three")


def test_ends_called_input_and_logits_among_several(randomize, inputs_for):
    """A name that is really there means what is called so."""
    x, meta = keras.Input((4,), name="input"), keras.Input((3,), name="meta")
    hidden = layers.Dense(5, activation="relu", name="h")(layers.Concatenate()([x, meta]))
    model = randomize(
        keras.Model([x, meta], [layers.Dense(3, name="logits")(hidden), layers.Dense(2, name="aux")(hidden)])
    )
    trace = wrap(model).trace(inputs_for(model))
    for name, output in (("logits", 0), ("aux", 1)):
        maps = trace.saliency(1, output=output)
        for source in ("input", "meta"):
            assert_maps_equal(trace.between(source, name).map(1), maps[source])
    assert trace.between("h", "logits").target_shape == (3,)


def test_a_layer_called_input_among_several_inputs(randomize, inputs_for):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    hidden = layers.Dense(5, name="input")(layers.Concatenate()([a, b]))
    model = randomize(keras.Model([a, b], layers.Dense(3)(hidden)))
    trace = wrap(model).trace(inputs_for(model))
    assert trace.between("input", "logits").source_shape == (5,)


# The self-check


@pytest.mark.parametrize("name", ["cnn", "residual", "two_inputs", "two_outputs", "nested"])
def test_a_sound_trace_is_complete(request, inputs_for, name):
    model = request.getfixturevalue(name)
    trace = wrap(model).trace(inputs_for(model))
    report = trace.check()
    assert report.ok is True
    assert list(report.layers) == [n for n in trace if n in report.layers]
    assert set(trace) - set(report.layers) <= {"flatten"}
    assert report.max_residual == max([*report.layers.values(), report.end_to_end])
    assert 0 <= report.max_residual < 1e-5


def test_a_report_prints_as_a_table(trace):
    lines = str(trace.check()).splitlines()
    assert lines[0].split() == ["layer", "E+", "share", "residual"]
    assert [line.split()[0] for line in lines[1:-1]] == [*trace, "end"]
    assert all(float(line.split()[-1]) < 1e-5 for line in lines[1:-1])
    assert lines[-1].startswith("complete: largest residual")
    assert len({line.index(line.split()[-1]) for line in lines[1:-2]}) == 1  # the numbers stand in one column


def break_bias(stage):
    return replace(stage, bias=lambda: stage.bias() + 0.1)


def break_kernel(stage):
    (edge,) = stage.edges
    kernel = np.asarray(edge.operand.kernel) * np.float32(1.01)
    return replace(stage, edges=(replace(edge, operand=replace(edge.operand, kernel=tf.constant(kernel))),))


@pytest.mark.parametrize("broken", [break_bias, break_kernel])
@pytest.mark.parametrize("layer", ["stem", "branch", "scores"])
def test_a_broken_layer_is_found(residual, inputs_for, broken, layer):
    trace = wrap(residual).trace(inputs_for(residual))
    stages = trace._record.stages
    (number,) = [i for i, stage in enumerate(stages) if stage.name == layer]
    stages[number] = broken(stages[number])
    report = trace.check()
    assert report.ok is False
    assert report.layers[layer] > 1e-3
    assert report.end_to_end > report.tolerance
    assert all(value < 1e-5 for name, value in report.layers.items() if name != layer)
    (line,) = [line for line in str(report).splitlines() if line.startswith(layer + " ")]
    assert line.endswith("TOO LARGE")
    assert str(report).splitlines()[-1].startswith("NOT complete")


def test_a_wrong_rule_is_found(own_registry, inputs_for):
    class Squash(layers.Layer):
        def call(self, x):
            return keras.ops.tanh(x)

    @pane_keras.register(Squash)
    def excite(layer, inputs):
        return pieces.elementwise(keras.ops.tanh, lambda x, y: keras.ops.ones_like(x))

    model = keras.Sequential([keras.Input((4,)), Squash(name="squash"), layers.Dense(2, name="out")])
    report = wrap(model).trace(inputs_for(model)).check()
    assert not report.ok
    assert report.layers["squash"] > 0.01
    assert report.layers["out"] < 1e-6


def test_a_report_never_calls_nan_ok(residual, inputs_for):
    trace = wrap(residual).trace(inputs_for(residual))
    stages = trace._record.stages
    stages[0] = replace(stages[0], bias=lambda: np.float32("nan"))
    assert not trace.check().ok


def test_the_output_of_a_sequential_model_has_its_layer_s_name():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2, name="kind")])
    trace = pane_keras.wrap(model).trace(np.ones((1, 3), "float32"))
    assert trace.output_names == ("kind",)
    np.testing.assert_array_equal(trace.saliency(1, output="kind").sum, trace.saliency(1).sum)
