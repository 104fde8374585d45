"""Pins what `keras_internals` relies on: a new version of Keras that changes it fails here first."""

import threading

import keras
import numpy as np
import pytest
from keras import layers, ops

from pane_keras.keras_internals import _ARITHMETIC, hang_mask, mask_of, same_names, same_nodes, symbolic_variables


def chained():
    """A model with a nested layer, and its layers."""
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="deep")], name="inner")
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2, name="top")(inner(x)))
    return model, inner, inner.layers[0]


# Names


def test_keras_numbers_its_names():
    """Without `same_names`, the next layer has the next number."""
    keras.backend.clear_session()
    assert [layers.Dense(1).name for _ in range(2)] == ["dense", "dense_1"]
    with same_names():
        assert [layers.Dense(1).name for _ in range(2)] == ["dense_2", "dense_3"]
        keras.Input((2,))
    assert layers.Dense(1).name == "dense_2"


def test_names_when_nothing_has_been_named_yet():
    keras.backend.clear_session()
    with same_names():
        assert layers.Dense(1).name == "dense"
    assert layers.Dense(1).name == "dense"


def test_names_after_an_error():
    keras.backend.clear_session()
    with pytest.raises(ValueError, match="units"), same_names():
        [layers.Dense(units) for units in (1, 1, -1)]
    assert layers.Dense(1).name == "dense"


def test_names_of_nested_blocks():
    keras.backend.clear_session()
    with same_names():
        layers.Dense(1)
        with same_names():
            layers.Dense(1)
        assert layers.Dense(1).name == "dense_1"
    assert layers.Dense(1).name == "dense"


def test_names_of_symbolic_tensors():
    keras.backend.clear_session()
    with same_names():
        first = ops.add(keras.KerasTensor((2,)), 1).name
    assert ops.add(keras.KerasTensor((2,)), 1).name == first


def test_names_are_counted_by_thread():
    """What another thread names in the meantime is its own."""
    keras.backend.clear_session()
    seen = []
    with same_names():
        thread = threading.Thread(target=lambda: seen.extend(layers.Dense(1).name for _ in range(3)))
        thread.start()
        thread.join()
    assert seen == ["dense", "dense_1", "dense_2"]
    assert layers.Dense(1).name == "dense"


# Nodes


def test_a_symbolic_call_adds_nodes_which_are_taken_back():
    model, inner, deep = chained()
    parts = (model, inner, deep, model.layers[-1])

    def counts():
        return [(len(p._inbound_nodes), len(p._outbound_nodes)) for p in parts]

    before = counts()
    with same_nodes(model):
        h = inner(keras.Input((3,)))
        model.layers[-1](deep(h))
        assert counts() != before
        assert len(deep._inbound_nodes) > before[2][0]
        assert len(deep._outbound_nodes) > before[2][1]
    assert counts() == before


def test_nodes_are_taken_back_after_an_error():
    layer = layers.Dense(2)
    layer(keras.Input((3,)))
    with pytest.raises(ValueError, match="incompatible with the layer"), same_nodes(layer):
        [layer(keras.Input((size,))) for size in (3, 3, 4)]
    assert len(layer._inbound_nodes) == 1


def test_nodes_of_the_lists_themselves():
    """Keras keeps a reference to the list, so the list stays and only what it holds is put back."""
    layer = layers.Dense(2)
    layer(keras.Input((3,)))
    nodes = layer._inbound_nodes
    with same_nodes(layer):
        layer(keras.Input((3,)))
    assert layer._inbound_nodes is nodes
    assert len(nodes) == 1


def test_nodes_of_layers_in_lists_and_dicts():
    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.many = [layers.Dense(3), {"one": layers.Dense(3)}]

        def call(self, x):
            return self.many[1]["one"](self.many[0](x))

    holder = Holder()
    holder.call(keras.Input((3,)))
    parts = [holder.many[0], holder.many[1]["one"]]
    with same_nodes(holder):
        holder.call(keras.Input((3,)))
        assert [len(p._inbound_nodes) for p in parts] == [2, 2]
    assert [len(p._inbound_nodes) for p in parts] == [1, 1]


def test_flatten_layers_gives_the_layer_and_all_below_it():
    model, inner, deep = chained()
    found = list(model._flatten_layers())
    assert found[0] is model
    assert {id(inner), id(deep)} <= set(map(id, found))
    assert deep not in model.layers


def test_nodes_of_an_operation():
    """An operation of keras.ops has no sublayers."""
    operation = keras.ops.add(keras.Input((2,)), 1.0)._keras_history.operation
    with same_nodes(operation):
        operation(keras.Input((2,)), 1.0)
        assert len(operation._inbound_nodes) == 2
    assert len(operation._inbound_nodes) == 1


# Masks


def test_keras_hangs_a_mask_on_what_a_layer_emits():
    vectors = layers.Embedding(4, 2, mask_zero=True)(np.array([[1, 0]]))
    np.testing.assert_array_equal(mask_of(vectors), [[True, False]])
    assert mask_of(layers.Dense(2)(np.ones((1, 2)))) is None


def test_a_layer_finds_the_mask_that_was_hung():
    x, mask = ops.ones((1, 3, 2)), ops.convert_to_tensor([[True, False, False]])
    x = x * ops.reshape(ops.convert_to_tensor([1.0, 5.0, 9.0]), (1, 3, 1))
    assert float(layers.GlobalAveragePooling1D()(x)[0, 0]) == 5.0
    hang_mask(x, mask)
    assert mask_of(x) is mask
    assert float(layers.GlobalAveragePooling1D()(x)[0, 0]) == 1.0


def test_a_mask_is_found_on_symbolic_tensors_too():
    x = keras.Input((3, 2))
    hang_mask(x, keras.Input((3,), dtype="bool"))
    assert mask_of(layers.Dense(2)(x)) is mask_of(x)


# Variables


EXPRESSIONS = {
    "__add__": lambda v, x: v + x,
    "__sub__": lambda v, x: v - x,
    "__mul__": lambda v, x: v * x,
    "__truediv__": lambda v, x: v / x,
    "__matmul__": lambda v, x: v @ x,
    "__pow__": lambda v, x: v**x,
}


def variable():
    return keras.Variable(np.full((2, 2), 3.0, "float32"))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_variable_computes_with_a_symbolic_tensor_only_inside(name):
    expression, v, x = EXPRESSIONS[name], variable(), keras.Input(batch_shape=(2, 2))
    with symbolic_variables():
        assert isinstance(expression(v, x), keras.KerasTensor)
    try:
        outside = expression(v, x)
    except Exception:
        outside = None
    assert not isinstance(outside, keras.KerasTensor)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_comes_of_it_has_the_values(name):
    expression, v = EXPRESSIONS[name], variable()
    x = keras.Input(batch_shape=(2, 2))
    with symbolic_variables():
        model = keras.Model(x, expression(v, x))
    value = np.array([[1, 2], [4, 5]], "float32")
    np.testing.assert_allclose(model(value), expression(np.full((2, 2), 3.0, "float32"), value), rtol=1e-6)


def test_eager_arithmetic_inside_is_as_outside():
    v, value = variable(), np.ones((2, 2), "float32")
    with symbolic_variables():
        inside = [np.asarray(expression(v, value)) for expression in EXPRESSIONS.values()]
    np.testing.assert_array_equal(inside, [np.asarray(expression(v, value)) for expression in EXPRESSIONS.values()])


def test_every_operator_is_covered():
    assert set(_ARITHMETIC) == set(EXPRESSIONS)


def everything():
    return [dict(vars(cls)) for cls in keras.Variable.__mro__]


@pytest.mark.parametrize("fails", [False, True])
def test_methods_of_variables_are_restored(fails):
    before = everything()
    try:
        with symbolic_variables():
            assert everything() != before
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert everything() == before


def test_methods_of_variables_are_restored_after_nested_blocks():
    before = everything()
    with symbolic_variables():
        outer = everything()
        with symbolic_variables():
            pass
        assert everything() == outer
        assert isinstance(variable() * keras.Input(batch_shape=(2, 2)), keras.KerasTensor)
    assert everything() == before
