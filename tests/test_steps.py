"""Steps put off inside a compiled function: one loop takes many, and the maps are those of `trace` and `saliency`."""

from functools import partial

import applications
import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from architectures import chains, graphs
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from test_explain import assert_same

import pane_keras
from pane_keras import backend
from pane_keras.backend.tensorflow import steps
from pane_keras.testing import channels

# What may pass over a layer's values beside loops: kernels, and what only says how a tensor is read.
KERNELS = {"Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput"}
VIEWS = {"Placeholder", "Identity", "Reshape", "EnsureShape", "BroadcastTo"}


@pytest.fixture
def every_size(monkeypatch):
    """Steps on the smallest tensors are put off, too."""
    monkeypatch.setattr(steps, "_SMALLEST", 1)


def loops(graph):
    """The operations of a graph that call a loop, in order."""
    return [o for o in graph.get_operations() if o.type.endswith("PartitionedCall")]


def graph_of(function, *arrays):
    return backend.compiled(function).get_concrete_function(*map(tf.constant, arrays)).graph


def masked_sum(x, y, c):
    """x [y > 0] c + y, by steps that know nothing of one another."""
    return backend.taken(backend.step(ops.add, backend.multiply_rows(backend.keep_positive(x, y, 1), c, 1), y))


def test_many_steps_are_one_loop(every_size):
    x, y, c = (np.round(4 * values) for values in (draw(2, 3, 4), draw(2, 3, 4, seed=1), draw(4)))  # nothing is rounded
    graph = graph_of(masked_sum, x, y, c)
    (loop,) = loops(graph)
    assert len(loop.inputs) == 3  # y is read once, though two steps ask for it
    assert {o.type for o in graph.get_operations()} <= {"Placeholder", "Identity", loop.type}
    np.testing.assert_array_equal(backend.compiled(masked_sum)(x, y, c), x * (y > 0) * c + y)


def test_the_same_steps_share_a_loop(every_size):
    steps._loop.cache_clear()
    x, y, c = draw(2, 3, 4), draw(2, 3, 4, seed=1), draw(4)

    def twice(x, y, c):
        return masked_sum(x, y, c), masked_sum(y, x, c)

    assert len(loops(graph_of(twice, x, y, c))) == 2
    assert steps._loop.cache_info().misses == 1


def module_level(x):
    return x + 1


def closure(offset):
    def add(x):
        return x + offset

    add.__module__, add.__qualname__ = "keras.add", "add"
    return add


MAY_NOT_LAST = {
    "lambda": lambda x: x + 1,
    "partial": partial(ops.add, 1.0),
    "of a user's module": module_level,
    "method of a layer": layers.Rescaling(1.0, 1.0).call,
    "closure": closure(1),
}


@pytest.mark.parametrize("function", MAY_NOT_LAST.values(), ids=MAY_NOT_LAST)
def test_functions_that_may_not_last_are_called_at_once(every_size, function):
    """A loop is kept by its functions: one that is new each time would be compiled each time."""

    def run(x):
        return backend.taken(backend.step(function, x))

    x = draw(2, 3)
    assert not loops(graph_of(run, x))
    np.testing.assert_array_equal(backend.compiled(run)(x), x + 1)


def test_a_function_that_is_said_to_last_is_put_off(every_size):
    function, seen = backend.lasting(lambda x: x + 1), []
    graph_of(lambda x: seen.append(backend.step(function, x)) or backend.taken(seen[0]), draw(2, 3))
    assert isinstance(seen[0], steps.Step)


def put_off(x):
    return isinstance(backend.multiply_rows(x, x, 1), steps.Step)


def test_where_steps_are_put_off(monkeypatch):
    found = []

    def note(x):
        found.append(put_off(x))
        return x

    large, small = tf.zeros((2**10, 2**10)), tf.zeros((2**10, 2**10 - 1))
    note(large)
    tf.function(note).get_concrete_function(large)
    backend.compiled(note, jit=True).get_concrete_function(large)
    backend.compiled(note).get_concrete_function(tf.TensorSpec((None, 2**10)))
    backend.compiled(note).get_concrete_function(small)
    with monkeypatch.context() as patch:
        patch.setattr(tf.config, "list_logical_devices", lambda kind: ["/GPU:0"])
        backend.compiled(note).get_concrete_function(large)
    with monkeypatch.context() as patch:
        patch.setattr(tf.test, "is_built_with_xla", lambda: False)
        backend.compiled(note).get_concrete_function(large)
    assert found == [False] * 7
    backend.compiled(note).get_concrete_function(large)
    assert found[-1]


def test_a_result_that_would_be_larger_than_its_first_input_is_not_put_off(every_size):
    def run(x, y):
        assert not isinstance(backend.step(ops.multiply, y, x), steps.Step)
        assert not isinstance(backend.step(ops.multiply, x, 2.0), steps.Step)
        return backend.taken(backend.step(ops.multiply, x, y)), backend.step(ops.multiply, y, x)

    x, y = draw(2, 3, 4), draw(1, 1, 4)
    for product in backend.compiled(run)(x, y):
        np.testing.assert_array_equal(product, x * y)


def test_what_takes_one_tensor_is_worked_out_again_what_takes_two_is_read_back(every_size):
    """Rows masked by relu(x) read x, which is in memory anyway; rows masked by relu(x + y) read that sum."""

    def run(x, y):
        of_one, of_two = backend.step(ops.relu, x), backend.step(ops.relu, backend.step(ops.add, x, y))
        written = [backend.taken(of_one), backend.taken(of_two)]
        return written, [backend.taken(backend.keep_positive(t, mask, 1)) for t, mask in ((y, of_one), (x, of_two))]

    x, y = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    graph = graph_of(run, x, y)
    _, of_two, masked_by_one, masked_by_two = loops(graph)
    given = dict(zip("xy", graph.inputs))
    assert list(masked_by_one.inputs) == [given["y"], given["x"]]
    assert list(masked_by_two.inputs) == [given["x"], of_two.outputs[0]]
    _, (one, two) = backend.compiled(run)(x, y)
    np.testing.assert_array_equal(one, y * (x > 0))
    np.testing.assert_array_equal(two, x * (x + y > 0))


def test_a_glance_writes_nothing_that_others_would_read(every_size):
    def run(x, y):
        total = backend.step(ops.add, x, y)
        assert backend.glanced(total).shape == x.shape
        return backend.taken(backend.step(ops.relu, total))

    graph = graph_of(run, draw(2, 3), draw(2, 3, seed=1))
    (end,) = (tensor.op for tensor in graph.outputs)
    loop = next(o for o in loops(graph) if o.outputs[0] is end.inputs[0])
    assert list(loop.inputs) == list(graph.inputs)


def test_chains_of_sums_are_written_down_on_the_way(every_size):
    """Else the last of many residual blocks would work out, and read, all that came before it."""

    def run(*xs):
        total = xs[0]
        for x in xs[1:]:
            total = backend.settled(backend.step(ops.add, total, x))
        return backend.taken(total)

    arrays = [draw(2, 3, seed=k) for k in range(9)]
    assert {len(loop.inputs) for loop in loops(graph_of(run, *arrays))} <= {2, 3}
    np.testing.assert_allclose(backend.compiled(run)(*arrays), sum(arrays), atol=1e-6)


def test_where_steps_double_they_are_written_down(every_size, monkeypatch):
    """Each x tanh(x) reads what is before it twice."""
    found, plain = [], steps._loop

    def counted(structure):
        found.append(str(structure).count("<function"))
        return plain(structure)

    def run(x):
        for _ in range(40):
            x = backend.settled(backend.product(x, backend.step(ops.tanh, x)))
        return backend.taken(x)

    monkeypatch.setattr(steps, "_loop", counted)
    x = np.ones((2, 3), "float32")
    backend.compiled(run).get_concrete_function(tf.constant(x))
    assert max(found) <= 1 + 2 * (1 + steps._MOST_STEPS)
    assert len(found) > 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sum_that_cancels_is_zero_as_for_the_layers(every_size, dtype):
    a, b = (np.random.default_rng(k).normal(size=(64, 64)).astype(dtype) for k in range(2))

    def run(a, b, c):
        return backend.taken(backend.step(ops.add, backend.product(a, b), c))

    assert not np.any(backend.compiled(run)(a, b, -(a * b)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("numbers", [(2.0, 1), (np.float64(0.1), np.float32(3))], ids=["python", "numpy"])
def test_factors_that_are_numbers(every_size, dtype, numbers):
    x = draw(2, 3).astype(dtype)
    inside = backend.compiled(lambda x: backend.taken(backend.moved(x, *numbers)))(x)
    assert inside.dtype == dtype
    np.testing.assert_allclose(inside, x * numbers[0] + numbers[1], rtol=1e-6)


def test_gradients_find_their_way_through_loops(every_size):
    """Somebody may train with the map, or attack it."""
    x = keras.Input((6, 6, 4))
    model = filled(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(residual_block(x))))
    pane, values = pane_keras.wrap(model), tf.constant(draw(2, 6, 6, 4))

    def slope(maps_of):
        with tf.GradientTape() as tape:
            tape.watch(values)
            size = tf.reduce_sum(maps_of(values).sum ** 2)
        return np.asarray(tape.gradient(size, values))

    compiled, eager = slope(lambda v: pane.explain(v, 0)), slope(lambda v: pane.trace(v).saliency(0))
    assert np.abs(eager).max() > 0
    np.testing.assert_allclose(compiled, eager, atol=1e-4 * np.abs(eager).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_normalization_rounds_as_the_layer_does(every_size, dtype):
    """With the one rounding of a fused multiply-add, units next to zero would change their sign."""
    x, factor, offset = (np.random.default_rng(k).normal(size=(64, 64)).astype(dtype) for k in range(3))
    factor[0, :2] = 0, -1
    inside = backend.compiled(lambda *given: backend.taken(backend.moved(*given)))(x, factor, offset)
    np.testing.assert_array_equal(inside, x * factor + offset)
    np.testing.assert_array_equal(backend.moved(*map(tf.constant, (x, factor, offset))), x * factor + offset)


def residual_block(x):
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)))
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(4, 1)(y)))
    y = layers.Activation("silu")(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y)))
    gate = layers.Dense(4, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    return layers.ReLU()(layers.Add()([x, layers.Multiply()([y, gate])]))


def test_no_layer_of_a_residual_network_passes_over_its_values_alone(every_size):
    x = keras.Input((6, 6, 3))
    y = residual_block(residual_block(layers.Conv2D(4, 1)(x)))
    model = filled(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))
    pane, values = pane_keras.wrap(model), draw(2, 6, 6, 3)
    assert_same(pane.explain(values), pane.trace(values).saliency())
    (explanation,) = pane._held.explainer._functions.values()
    graph = explanation._function.get_concrete_function([tf.constant(values)]).graph
    passing = {o.type for o in graph.get_operations() for t in o.outputs if t.shape == (2, 6, 6, 4)}
    assert passing <= KERNELS | VIEWS | {o.type for o in loops(graph)}


@settings(max_examples=15, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])  # fmt: skip
@given(st.one_of(chains, graphs))
def test_explain_is_saliency_on_any_architecture(every_size, architecture):
    model, x = architecture.model(), architecture.inputs()
    assume(np.isfinite(model(x)).all())
    pane = pane_keras.wrap(model)
    assert_same(pane.explain(x), pane.trace(x).saliency())


@pytest.fixture
def double():
    """Models are made in float64, in which no rounding of a kernel moves a unit to the other side of zero."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ResNet50V2"])
def test_explain_is_saliency_on_an_application(every_size, double, name):
    model = applications.build(name)
    x = applications.photographs(model.input_shape[1])[:2].astype("float64")
    pane = pane_keras.wrap(model)
    for mine, twin in zip(channels(pane.explain(x)), channels(pane.trace(x).saliency())):
        assert np.abs(twin).max() > 0
        assert np.abs(mine - twin).max() <= 1e-11 * np.abs(twin).max()
