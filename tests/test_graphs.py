"""Models of any shape: structures of inputs and outputs, shared and nested layers, operations, and sums over paths."""

import keras
import numpy as np
import pytest
from agreement import draw, filled, traced
from keras import layers, ops, tree
from paths import assert_like_dense, assert_like_paths, same

import pane_keras.composition
from pane_keras import wrap
from pane_keras.errors import InputError, NoPathError, TargetError, UnknownLayerError, UnsupportedLayerError


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
    assert len(trace.output_names) == len(set(trace.output_names)) == len(flat)
    for k, (name, value) in enumerate(zip(trace.output_names, flat)):
        np.testing.assert_allclose(trace.logits(name), value, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(trace.logits(k), trace.logits(name))
        assert trace.saliency(1, output=name)["p" if value.shape[1] == 2 else "q"].sum.shape[0] == 2 or k


def test_an_input_that_is_an_output_too():
    a = keras.Input((4,), name="p")
    model = filled(a, [a, dense(2, "one")(a)])
    x = draw(2, 4)
    trace = traced(model, x)
    np.testing.assert_array_equal(trace.saliency(2, output=0).sum, [[0, 0, x[0, 2] != 0, 0], [0, 0, x[1, 2] != 0, 0]])
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
    assert list(trace)[0] == "inner/entry"
    assert keras.backend.standardize_dtype(trace["inner/entry"].output.dtype) == "float32"
    assert_like_dense(trace, "input", "out")
    np.testing.assert_array_equal(trace.saliency(0).sum != 0, data != 0)


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


# Operations


def test_operations_are_nodes():
    x = keras.Input((4, 3), name="p")
    h = ops.relu(x[:, 1:] * 2.0 - 0.5)
    h = ops.concatenate([h, ops.transpose(ops.reshape(h, (-1, 3, 3)), (0, 2, 1))], axis=1)
    model = filled(x, ops.sum(dense(2, "fc")(h), axis=1) / 3.0)
    trace = traced(model, draw(2, 4, 3))
    assert sum("fc" in name for name in trace) == 1
    kinds = {type(call.operation).__name__ for call in wrap(model).graph.calls}
    assert kinds >= {"GetItem", "Multiply", "Subtract", "Relu", "Concatenate", "Transpose", "Reshape", "Sum", "Dense"}
    assert_like_dense(trace, "input", "logits")
    assert_like_dense(trace, "fc", "logits")


def test_operations_of_the_same_name_are_different_nodes():
    x = keras.Input((3,), name="p")
    model = filled(x, dense(2, "fc")(ops.add(ops.add(ops.add(x, 1.0), x), x)))
    trace = traced(model, draw(2, 3))
    assert len(trace) == 4
    np.testing.assert_allclose(trace.between("input", list(trace)[2]).map(1).sum[:, 1], 3.0 * (draw(2, 3)[:, 1] != 0))


# Layers with several outputs


class Parts(layers.Layer):
    """Emits a dict: an even and an odd half."""

    def call(self, x):
        return {"even": x[:, ::2], "odd": x[:, 1::2]}


@pytest.fixture
def parts_model(own_registry):
    pane_keras.register(Parts)(pane_keras.pieces.graph)
    x = keras.Input((6,), name="p")
    emitted = Parts(name="parts")(dense(6, "first")(x))
    return filled(x, dense(2, "out")(layers.Subtract(name="minus")([emitted["even"], emitted["odd"]])))


def test_a_layer_with_several_outputs(parts_model):
    trace = traced(parts_model, draw(2, 6))
    assert list(trace) == ["first", "parts[0]", "parts[1]", "minus", "out"]
    assert tuple(trace["parts[1]"].output.shape) == (2, 3)
    np.testing.assert_array_equal(trace["parts[1]"].output, trace["first"].output[:, 1::2])
    assert_like_dense(trace, "first", "parts[0]")
    assert_like_dense(trace, "parts[1]", "out")
    assert_like_dense(trace, "input", "out")
    with pytest.raises(NoPathError, match=r"from 'parts\[0\]' to 'parts\[1\]'"):
        trace.between("parts[0]", "parts[1]")


def test_the_bare_name_of_a_layer_with_several_outputs(parts_model):
    trace = traced(parts_model, draw(2, 6))
    message = r"'parts' has several outputs: ask for one of 'parts\[0\]', 'parts\[1\]'\."
    for ask in (lambda n: trace[n], lambda n: trace.between(n, "out"), lambda n: trace.between("first", n)):
        with pytest.raises(UnknownLayerError, match=message):
            ask("parts")
    with pytest.raises(UnknownLayerError, match=r"no layer 'parts\[2\]'\. Did you mean 'parts\[1\]'|'parts\[0\]'"):
        trace["parts[2]"]


def test_split_is_a_node_with_several_outputs():
    x = keras.Input((6,), name="p")
    one, two, three = ops.split(x, 3, axis=1)
    model = filled(x, dense(2, "out")(ops.add(ops.multiply(one, two), three)))
    trace = traced(model, draw(2, 6))
    assert [name for name in trace if name.endswith("[2]")] == [f"{list(trace)[0][:-3]}[2]"]
    assert_like_dense(trace, "input", "out")


# Sums over paths


def diamond(x, name, inside=lambda x, name: dense(3, name)(x)):
    """Two branches that meet again."""
    return layers.Add(name=f"{name}_add")([inside(x, f"{name}_a"), inside(x, f"{name}_b")])


def test_a_diamond_of_diamonds_is_the_sum_of_its_paths():
    x = keras.Input((3,), name="p")
    model = filled(x, diamond(diamond(x, "low", diamond), "high", diamond))
    trace = traced(model, draw(2, 3))
    assert_like_paths(trace, "input", "high_add", 16)
    assert_like_paths(trace, "low_a_a", "high_add", 4)
    assert_like_paths(trace, "low_add", "high_b_add", 2)
    assert_like_dense(trace, "input", "high_add")


def test_paths_of_different_lengths():
    """Dense connections: every layer reads all that came before."""
    x = keras.Input((3,), name="p")
    seen = [x]
    for k in range(4):
        total = layers.Concatenate(name=f"cat{k}")(seen) if k else x
        seen.append(dense(2, f"fc{k}", "relu")(total))
    model = filled(x, dense(2, "out")(layers.Concatenate(name="cat")(seen)))
    trace = traced(model, draw(2, 3))
    assert_like_paths(trace, "input", "out", 16)
    assert_like_paths(trace, "fc0", "out", 8)


def test_both_ends_of_a_skip():
    """A source that is also on the way, and a target that goes on."""
    x = keras.Input((3,), name="p")
    first = dense(3, "first")(x)
    second = layers.Subtract(name="second")([dense(3, "inner")(first), first])
    model = filled(x, dense(2, "out")(layers.Add(name="add")([first, second])))
    trace = traced(model, draw(2, 3))
    assert_like_paths(trace, "first", "second", 2)
    assert_like_paths(trace, "first", "out", 3)
    assert_like_paths(trace, "input", "second", 2)


def test_a_tensor_added_to_itself():
    """Two edges between the same two slots are two paths."""
    x = keras.Input((3,), name="p")
    model = filled(x, layers.Add(name="twice")([x, x]))
    data = draw(2, 3)
    trace = traced(model, data)
    np.testing.assert_array_equal(trace.saliency(1).sum[:, 1], 2.0 * (data[:, 1] != 0))
    assert_like_paths(trace, "input", "twice", 2)


@pytest.mark.parametrize("direction", ["pull", "push"])
def test_a_chain_of_diamonds_takes_each_edge_once(direction, monkeypatch):
    """12 diamonds have 4096 paths and 48 edges."""
    x = y = keras.Input((3,), name="p")
    for k in range(12):
        y = diamond(y, f"d{k}")
    trace = wrap(filled(x, y)).trace(draw(1, 3))
    taken, original = [], getattr(pane_keras.composition, f"{direction}_chain")
    monkeypatch.setattr(
        pane_keras.composition,
        f"{direction}_chain",
        lambda block, operands: taken.extend(operands) or original(block, operands),
    )
    pair = trace.between("input", "logits")
    pair.map(1) if direction == "pull" else pair.effect(1)
    edges = len(trace._record.edges)
    assert edges == 48
    assert len(taken) == edges


# No path


def test_no_path_has_a_remedy():
    x = keras.Input((3,), name="p")
    a, b = dense(3, "a")(x), dense(3, "b")(x)
    trace = traced(filled(x, layers.Add(name="add")([a, b])), draw(2, 3))
    for source, target in (("a", "b"), ("add", "a"), ("add", "input")):
        if target == "input":
            continue
        with pytest.raises(
            NoPathError, match=rf"No path leads from '{source}' to '{target}'.* Swap the two, or choose"
        ):
            trace.between(source, target)


def test_a_comparison_leads_nowhere():
    """What is held is a constant for whatever it multiplies: nothing is excited through it."""
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y")
    gate = ops.cast(ops.greater(x, 0.0), "float32")
    model = filled([x, y], dense(2, "out")(ops.multiply(gate, y)))
    data = [draw(2, 3), draw(2, 3, seed=1)]
    trace = traced(model, data)
    assert set(trace.saliency(0)) == {"y"}
    np.testing.assert_array_equal(np.asarray(trace.saliency(0)["y"].sum) != 0, (data[0] > 0) & (data[1] != 0))
    with pytest.raises(NoPathError, match="No path leads from 'x' to 'out'"):
        trace.between("x", "out")


def words():
    x = keras.Input((4,), dtype="int32", name="ids")
    vectors = layers.Embedding(7, 3, name="emb")(x)
    return filled(x, dense(2, "out")(layers.Flatten(name="flat")(vectors)))


def test_a_model_of_indices_starts_at_its_embedding():
    model = words()
    trace = traced(model, np.array([[1, 2, 3, 0], [6, 6, 1, 2]]))
    with pytest.raises(NoPathError, match=r"inputs \['ids'\].*index.*between\('emb', 'logits'\)"):
        trace.saliency()
    with pytest.raises(NoPathError, match="from 'input' to 'logits'"):
        trace.between("input", "logits")
    assert_like_dense(trace, "emb", "logits")
    maps = trace.between("emb", "logits").map(1)
    assert tuple(maps.sum.shape) == (2, 4, 3)


def test_indices_beside_numbers():
    """Maps are of the inputs that excite something; the indices are missing."""
    ids, x = keras.Input((4,), dtype="int32", name="ids"), keras.Input((3,), name="x")
    vectors = layers.GlobalAveragePooling1D(name="mean")(layers.Embedding(7, 3, name="emb")(ids))
    model = filled([ids, x], dense(2, "out")(layers.Concatenate(name="cat")([vectors, x])))
    trace = traced(model, [np.array([[1, 2, 3, 0], [6, 6, 1, 2]]), draw(2, 3)])
    assert set(trace.saliency(0)) == {"x"}
    assert_like_dense(trace, "emb", "out")
    assert_like_dense(trace, "x", "out")


def test_an_operation_without_a_rule_is_named():
    x = keras.Input((3,), name="p")
    model = filled(x, dense(2, "out")(ops.sort(x)))
    with pytest.raises(UnsupportedLayerError, match=r"'sort' \(keras.ops, class Sort\) has no .* register that\."):
        wrap(model)
