"""Models of any shape: structures of inputs and outputs, shared layers, nested models and what enters them."""

import keras
import numpy as np
import pytest
from agreement import draw, filled, traced
from keras import layers, tree
from paths import assert_like_dense, same

from pane_keras import wrap
from pane_keras.errors import InputError, NoPathError, TargetError, UnknownLayerError


def dense(units, name=None, activation=None):
    return layers.Dense(units, activation=activation, name=name)


# Structures of inputs and outputs


def symbols():
    return [keras.Input((n,), name=name) for n, name in ((4, "p"), (3, "q"), (5, "r"))]


INPUTS = {
    "list": lambda a, b, c: [a, b, c],
    "tuple": lambda a, b, c: (a, b, c),
    "dict": lambda a, b, c: {"r": c, "p": a, "q": b},
    "nested dict": lambda a, b, c: {"left": {"q": b, "p": a}, "right": {"r": c}},
    "dict of lists": lambda a, b, c: {"two": [a, b], "one": c},
    "list of dicts": lambda a, b, c: [{"q": b, "p": a}, c],
}


def outputs_of(a, b, c, structure):
    one = dense(2, "one")(a)
    two = dense(3, "two")(layers.Concatenate(name="joined")([b, one]))
    three = layers.Subtract(name="three")([dense(3, "last")(c), two])
    return structure(one, two, three)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
@pytest.mark.parametrize("structure", INPUTS.values(), ids=INPUTS)
def test_structures_of_inputs(structure):
    a, b, c = symbols()
    model = filled(structure(a, b, c), outputs_of(a, b, c, lambda *outputs: outputs[2]))
    x = structure(draw(2, 4), draw(2, 3), draw(2, 5))
    trace = traced(model, x)
    assert same(wrap(model)(x), model(x))
    maps = trace.saliency(1)
    assert {name: m.sum.shape[1:] for name, m in maps.items()} == {"p": (4,), "q": (3,), "r": (5,)}
    for name in ("p", "q", "r"):
        assert_like_dense(trace, name, "logits")


OUTPUTS = {**INPUTS, "single": lambda a, b, c: {"only": c}}


@pytest.mark.parametrize("structure", OUTPUTS.values(), ids=OUTPUTS)
def test_structures_of_outputs(structure):
    a, b, c = symbols()
    model = filled([a, b, c], outputs_of(a, b, c, structure))
    x = [draw(2, 4), draw(2, 3), draw(2, 5)]
    trace, result = traced(model, x), model(x)
    assert same(wrap(model)(x), result)
    flat = tree.flatten(result)
    assert len(trace.output_names) == len(flat)
    reached = {"one": {"p"}, "two": {"p", "q"}, "three": {"p", "q", "r"}}
    for k, (name, value) in enumerate(zip(trace.output_names, flat)):
        np.testing.assert_allclose(trace.logits(name), value, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(trace.logits(k), trace.logits(name))
        assert set(trace.saliency(1, output=name)) == reached[name]
        assert_like_dense(trace, "p", name)


def test_an_input_that_is_an_output_too():
    a = keras.Input((4,), name="p")
    model = filled(a, [a, dense(2, "one")(a)])
    trace = traced(model, draw(2, 4))
    np.testing.assert_array_equal(trace.saliency(2, output=0).sum, [[0, 0, 1, 0]] * 2)
    assert_like_dense(trace, "input", "one")


def test_one_tensor_given_out_twice():
    a = keras.Input((4,), name="p")
    one = dense(2, "one")(a)
    model = filled(a, {"here": one, "there": one})
    trace = traced(model, draw(2, 4))
    first, second = (trace.saliency(0, output=k).sum for k in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert np.any(first)


def test_an_input_that_does_not_reach_the_output():
    a, b, c = symbols()
    model = filled([a, b, c], [dense(2, "one")(layers.Concatenate(name="joined")([a, c])), dense(3, "two")(b)])
    trace = traced(model, [draw(2, 4), draw(2, 3), draw(2, 5)])
    assert set(trace.saliency(0, output="one")) == {"p", "r"}
    assert set(trace.saliency(0, output="two")) == {"q"}
    with pytest.raises(NoPathError, match=r"No path leads from 'q' to 'one': .* excites 'one'\. Swap the two, or"):
        trace.between("q", "one")
    with pytest.raises(TargetError, match=r"several outputs: name the layer of one of \['one', 'two'\]"):
        trace.between("q", "logits")


@pytest.mark.parametrize("x", [{"left": {"p": draw(2, 4)}, "right": {"r": draw(2, 5)}}, [draw(2, 4)] * 3])
def test_a_wrong_structure(x):
    a, b, c = symbols()
    structure = INPUTS["nested dict"]
    pane = wrap(filled(structure(a, b, c), outputs_of(a, b, c, lambda *outputs: outputs[2])))
    with pytest.raises(InputError, match=r"expects (3 input\(s\): p, q, r|a dict with the keys \['left', 'right'\])"):
        pane.trace(x)


def test_dicts_of_one_model_in_any_order():
    """Keras flattens a dict by its sorted keys, whatever the order in which the user wrote it."""
    a, b, c = symbols()
    model = filled({"r": c, "p": a, "q": b}, outputs_of(a, b, c, lambda *outputs: outputs[2]))
    x = {"p": draw(2, 4), "q": draw(2, 3), "r": draw(2, 5)}
    pane = wrap(model)
    for order in (("p", "q", "r"), ("r", "q", "p"), ("q", "r", "p")):
        np.testing.assert_allclose(pane.trace({k: x[k] for k in order}).logits(), model(x), rtol=1e-5, atol=1e-6)


# Layers and models called more than once


def test_each_call_of_a_layer_is_a_node():
    x = keras.Input((4,), name="p")
    shared = dense(4, "dense", "relu")
    model = filled(x, dense(2, "out")(layers.Add(name="add")([shared(x), shared(shared(shared(x)))])))
    trace = traced(model, draw(2, 4))
    assert list(trace) == ["dense", "dense#2", "dense#3", "dense#4", "add", "out"]
    assert len(wrap(model).weights) == 4
    for name in ("dense", "dense#2", "dense#3", "dense#4"):
        assert_like_dense(trace, "input", name)
        assert_like_dense(trace, name, "logits") if name != "dense" else None
    with pytest.raises(UnknownLayerError, match="Did you mean 'dense#4'"):
        trace["dense#5"]


def test_each_call_of_a_model_is_a_node():
    inner = block(4, "inner")
    x = keras.Input((4,), name="p")
    model = filled(x, dense(2, "out")(layers.Add(name="add")([inner(inner(x)), inner(x)])))
    trace = traced(model, draw(2, 4))
    calls = [name.split("/")[0] for name in trace if name.endswith("/fc1")]
    assert sorted(calls) == ["inner", "inner#2", "inner#3"]
    assert_like_dense(trace, "input", "out")
    assert_like_dense(trace, f"{calls[0]}/fc1", f"{calls[0]}/sum")


def block(units, name):
    x = keras.Input((units,))
    inside = dense(units, "fc2")(dense(units + 1, "fc1", "relu")(x))
    return keras.Model(x, layers.Add(name="sum")([x, inside]), name=name)


# Nested models


def picture_block(name):
    x = keras.Input((6, 6, 3))
    y = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv1")(x)
    return keras.Model(x, layers.Add(name="sum")([x, y]), name=name)


def backbone(name):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 1, name="stem"),
            picture_block("block"),
            layers.GlobalAveragePooling2D(name="pool"),
        ],
        name=name,
    )


def test_models_nested_two_levels_deep():
    x = keras.Input((6, 6, 2), name="picture")
    model = filled(x, dense(3, "scores")(backbone("backbone")(x)))
    trace = traced(model, draw(2, 6, 6, 2))
    names = ["backbone/stem", "backbone/block/conv1", "backbone/block/sum", "backbone/pool", "scores"]
    assert list(trace) == names
    assert tuple(trace["backbone/block/conv1"].output.shape) == (2, 6, 6, 3)
    assert_like_dense(trace, "backbone/stem", "backbone/block/conv1")
    assert_like_dense(trace, "backbone/block/conv1", "scores")
    assert_like_dense(trace, "input", "logits")


def test_models_nested_three_levels_deep():
    outer = keras.Sequential([keras.Input((6, 6, 2)), backbone("backbone"), dense(4, "neck")], name="outer")
    x = keras.Input((6, 6, 2), name="picture")
    model = filled(x, [dense(3, "scores")(outer(x)), outer(layers.ReLU(name="half")(x))])
    trace = traced(model, draw(2, 6, 6, 2))
    assert "outer/backbone/block/conv1" in trace
    assert "outer#2/backbone/block/conv1" in trace
    assert_like_dense(trace, "outer/backbone/block/conv1", "scores")
    assert_like_dense(trace, "outer#2/backbone/block/conv1", "outer#2/neck")
    with pytest.raises(NoPathError, match="from 'outer/backbone/block/conv1' to 'outer#2/neck'"):
        trace.between("outer/backbone/block/conv1", "outer#2/neck")
    with pytest.raises(UnknownLayerError, match="Did you mean 'outer/backbone/block/conv1'"):
        trace["outer/backbone/blok/conv1"]


def test_a_nested_model_with_several_inputs_and_outputs():
    a, b = keras.Input((4,), name="p"), keras.Input((3,), name="q")
    one, two = dense(3, "one")(a), dense(3, "two")(b)
    minus = layers.Subtract(name="minus")([one, two])
    inner = keras.Model({"p": a, "q": b}, {"minus": minus, "one": one}, name="inner")
    x, y = keras.Input((4,), name="x"), keras.Input((3,), name="y")
    emitted = inner({"p": x, "q": y})
    model = filled([x, y], dense(2, "out")(layers.Concatenate(name="joined")([emitted["one"], emitted["minus"]])))
    trace = traced(model, [draw(2, 4), draw(2, 3)])
    assert {"inner/one", "inner/two", "inner/minus"} <= set(trace)
    assert_like_dense(trace, "x", "out")
    assert_like_dense(trace, "inner/two", "out")


def test_a_sequential_inside_a_sequential_inside_a_functional_that_shares_its_layers():
    """A layer that is called inside and outside of a nested model is one layer with several nodes."""
    shared = dense(4, "shared")
    inner = keras.Sequential([keras.Input((4,)), shared, layers.ReLU(name="relu")], name="inner")
    middle = keras.Sequential([keras.Input((4,)), inner, shared], name="middle")
    x = keras.Input((4,), name="p")
    model = filled(x, dense(2, "out")(shared(middle(x))))
    trace = traced(model, draw(2, 4))
    assert list(trace) == ["middle/inner/shared", "middle/inner/relu", "middle/shared", "shared", "out"]
    assert len(wrap(model).weights) == 4
    assert_like_dense(trace, "input", "out")


# Entries of nested models


def inner_of(shape, dtype="float32"):
    x = keras.Input(shape, dtype=dtype)
    flat = layers.Flatten(name="flat", dtype=dtype)(x)
    return keras.Model(x, layers.Dense(3, name="fc", dtype="float32")(flat), name="inner")


@pytest.mark.parametrize(("outer", "inner"), [((4,), (4, 1)), ((4, 1), (4,)), ((2, 3, 1), (2, 3)), ((2, 3), (2, 3, 1))])
def test_an_entry_that_changes_the_rank(outer, inner):
    x = keras.Input(outer, name="p")
    model = filled(x, dense(2, "out")(inner_of(inner)(dense(outer[-1], "first")(x))))
    trace = traced(model, draw(2, *outer))
    assert list(trace) == ["first", "inner/entry", "inner/flat", "inner/fc", "out"]
    assert tuple(trace["inner/entry"].output.shape) == (2, *inner)
    assert_like_dense(trace, "input", "out")
    assert_like_dense(trace, "first", "inner/entry")


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_an_entry_that_casts_from_whole_numbers(dtype):
    """A picture of whole numbers enters a model of floats: the same numbers, explained as floats."""
    x = keras.Input((2, 3), dtype=dtype, name="picture")
    model = filled(x, dense(2, "out")(inner_of((2, 3))(x)))
    data = np.random.default_rng(0).integers(0, 200, (2, 2, 3)).astype(dtype)
    trace = traced(model, data)
    assert next(iter(trace)) == "inner/entry"
    np.testing.assert_array_equal(trace["inner/entry"].output, data)
    assert_like_dense(trace, "input", "out")
    np.testing.assert_array_equal(trace.saliency(0).sum != 0, data != 0)


def test_an_entry_that_casts_to_whole_numbers():
    """What is behind the point is lost, and the trace has lost it too."""
    x = keras.Input((2, 3), name="p")
    inner_input = keras.Input((2, 3), dtype="int32")
    inner = keras.Model(inner_input, dense(2, "fc")(inner_input), name="inner")
    model = filled(x, dense(2, "out")(inner(x)))
    traced(model, 3 * draw(2, 2, 3))


def test_an_entry_that_casts_to_float64_and_back():
    x = keras.Input((2, 3), name="p")
    model = filled(x, dense(2, "out")(inner_of((2, 3), "float64")(x)))
    data = draw(2, 2, 3)
    trace = wrap(model).trace(data)
    np.testing.assert_allclose(trace.logits(), model(data), rtol=1e-5, atol=1e-6)
    assert trace.check().ok
    assert_like_dense(trace, "input", "out")


def test_an_entry_with_an_explicit_mask():
    """The mask that is passed counts inside the model, and only there."""
    inner_input = keras.Input((5, 3))
    pooled = layers.GlobalAveragePooling1D(name="pool")(layers.Dense(4, name="fc")(inner_input))
    inner = keras.Model(inner_input, pooled, name="inner")
    x, valid = keras.Input((5, 3), name="x"), keras.Input((5,), dtype="bool", name="valid")
    model = filled([x, valid], dense(2, "out")(inner(x, mask=valid)))
    mask = np.array([[1, 1, 0, 0, 0], [1, 0, 1, 1, 0]], bool)
    data = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    trace = traced(model, [data, mask])
    np.testing.assert_array_equal(np.any(trace.saliency(0)["x"].sum, axis=-1), mask)
    assert_like_dense(trace, "x", "out")
