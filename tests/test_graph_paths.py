"""Operations and layers with several outputs as nodes, sums over all paths, and what no path leads to."""

import keras
import numpy as np
import pytest
from agreement import draw, filled, traced
from keras import layers, ops
from paths import assert_like_dense, assert_like_paths

import pane_keras.composition
from pane_keras import wrap
from pane_keras.errors import NoPathError, UnknownLayerError, UnsupportedLayerError


def dense(units, name=None, activation=None):
    return layers.Dense(units, activation=activation, name=name)


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
    assert [name[-3:] for name in trace][:3] == ["[0]", "[1]", "[2]"]
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
    for source, target in (("a", "b"), ("add", "a")):
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
