"""Trace and queries inside `tf.function`: the same maps, no step that waits for the host, no device pinned."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from pane_keras import wrap
from pane_keras.errors import InputError, TargetError

# What a graph holds where Python or the host takes part in its run.
HOST_OPERATIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction", "HostCast", "Print", "PrintV2"}
QUERIES = {
    "saliency": lambda trace: trace.saliency(),
    "saliency of a class": lambda trace: trace.saliency(1),
    "between.map": lambda trace: trace.between("input", "logits").map(2),
    "between.map of several": lambda trace: trace.between("input", "logits").map([0, 3]),
    "between.effect": lambda trace: trace.between("inner", "logits").effect(weights=_ones(trace, "inner")),
    "contribution": lambda trace: trace.saliency().contribution(),
}


def _ones(trace, layer):
    return tf.ones_like(trace[layer].output)


def tensors(maps):
    return maps.positive, maps.negative, maps.sum, maps.log2_scale, maps.sum_log2_scale


def graph_function(function, *shapes, autograph=False, **options):
    """Returns `function` as a graph. The library has no control flow for autograph to convert, so it is mostly off."""
    signature = [tf.TensorSpec(shape, tf.float32) for shape in shapes] or None
    return tf.function(function, input_signature=signature, autograph=autograph, **options)


def query_function(pane, query, shape, **options):
    """Returns the graph images -> the tensors of a query."""
    return graph_function(lambda x: tensors(query(pane.trace(x))), shape, **options)


def operations(graph):
    """Yields every operation of a graph and of the functions that it calls."""
    yield from graph.get_operations()
    for name in graph.as_graph_def().library.function:
        yield from name.node_def


def assert_same(graph, eager):
    for g, e in zip(graph, eager, strict=True):
        assert g.dtype == e.dtype
        size = np.abs(np.asarray(e)).max()
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-6 * max(float(size), 1e-30))


@pytest.fixture
def renamed(randomize):
    """A residual model in which the name `inner` is a layer in the middle."""
    x = keras.Input((6, 6, 2))
    stem = layers.Conv2D(4, 3, padding="same", activation="tanh", name="stem")(x)
    inner = layers.Conv2D(4, 3, padding="same", activation="relu", name="inner")(stem)
    joined = layers.Concatenate()([layers.Add()([stem, inner]), layers.AveragePooling2D(1)(inner)])
    pooled = layers.MaxPooling2D()(layers.BatchNormalization()(joined))
    flat = layers.Flatten()(layers.DepthwiseConv2D(2)(pooled))
    return randomize(keras.Model(x, layers.Dense(4, activation="softmax")(flat)))


@pytest.mark.parametrize("query", QUERIES)
def test_a_graph_gives_the_same_maps(renamed, inputs_for, query):
    pane, x = wrap(renamed), inputs_for(renamed)
    function = query_function(pane, QUERIES[query], (None, 6, 6, 2))
    eager = tensors(QUERIES[query](pane.trace(x)))
    assert any(np.abs(np.asarray(part)).max() > 0 for part in eager[:2])
    assert_same(function(tf.constant(x)), eager)


def test_a_graph_of_a_fixed_batch_gives_the_same_maps(renamed, inputs_for):
    pane, x = wrap(renamed), inputs_for(renamed)
    function = query_function(pane, QUERIES["saliency"], (2, 6, 6, 2))
    assert_same(function(tf.constant(x)), tensors(pane.trace(x).saliency()))


def test_autograph_changes_nothing(two_outputs, inputs_for):
    """A bare `@tf.function` converts whatever Python it meets."""
    pane, x = wrap(two_outputs), inputs_for(two_outputs)
    function = query_function(pane, lambda trace: trace.saliency(output="kind"), (None, 6), autograph=True)
    assert_same(function(tf.constant(x)), tensors(pane.trace(x).saliency(output="kind")))


def test_one_graph_serves_every_batch_size(renamed, inputs_for):
    pane = wrap(renamed)
    function = query_function(pane, QUERIES["saliency"], (None, 6, 6, 2))
    for batch in (1, 3):
        x = inputs_for(renamed, batch)
        assert_same(function(tf.constant(x)), tensors(pane.trace(x).saliency()))
    assert function.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", ["cnn", "nested"])
def test_every_model_runs_in_a_graph(request, inputs_for, name):
    model = request.getfixturevalue(name)
    pane, x = wrap(model), inputs_for(model, 3)
    function = query_function(pane, QUERIES["saliency of a class"], (None, *x.shape[1:]))
    assert_same(function(tf.constant(x)), tensors(pane.trace(x).saliency(1)))


def test_two_inputs_in_a_graph(two_inputs, inputs_for):
    pane, xs = wrap(two_inputs), inputs_for(two_inputs)
    function = graph_function(lambda a, b: {k: tensors(m) for k, m in pane.trace([a, b]).saliency(0).items()})
    eager = pane.trace(xs).saliency(0)
    result = function(*map(tf.constant, xs))
    assert set(result) == set(eager) == {"left", "right"}
    for name, maps in eager.items():
        assert_same(result[name], tensors(maps))


def test_with_the_compiler_off(residual, inputs_for):
    pane, x = wrap(residual), inputs_for(residual)
    function = query_function(pane, QUERIES["saliency"], (None, 6, 6, 2), jit_compile=False)
    assert_same(function(tf.constant(x)), tensors(pane.trace(x).saliency()))


@pytest.mark.parametrize(("target", "dtype"), [(2, tf.int32), ([3, 0], tf.int64)], ids=["one for all", "one a sample"])
def test_a_target_that_is_a_tensor(residual, inputs_for, target, dtype):
    pane, x = wrap(residual), inputs_for(residual)
    function = graph_function(lambda x, t: tensors(pane.trace(x).saliency(t)))
    eager = tensors(pane.trace(x).saliency(target))
    assert_same(tensors(pane.trace(x).saliency(tf.constant(target, dtype))), eager)
    assert_same(function(tf.constant(x), tf.constant(target, dtype)), eager)


def test_one_trace_answers_several_queries_in_a_graph(renamed, inputs_for):
    pane, x = wrap(renamed), inputs_for(renamed)

    def several(x):
        trace = pane.trace(x)
        pair = trace.between("stem", "inner")
        return trace.logits(), trace["inner"].output, trace.saliency(0).sum, pair.map((2, 2, 1)).sum

    assert_same(graph_function(several, (2, 6, 6, 2))(tf.constant(x)), several(x))


def test_dense_in_a_graph(renamed, inputs_for):
    pane, x = wrap(renamed), inputs_for(renamed)
    function = graph_function(lambda x: tuple(pane.trace(x).between("input", "logits").dense()))
    assert_same(function(tf.constant(x)), tuple(pane.trace(x).between("input", "logits").dense()))


def test_the_graph_holds_no_host_operation_and_pins_no_device(renamed):
    pane = wrap(renamed)
    concrete = query_function(pane, QUERIES["saliency"], (None, 6, 6, 2)).get_concrete_function()
    found = list(operations(concrete.graph))
    assert len(found) > 50
    assert not {getattr(o, "type", getattr(o, "op", None)) for o in found} & HOST_OPERATIONS
    assert {o.device for o in found} == {""}


def test_the_graph_follows_the_device_of_its_caller(residual):
    """Under a device scope every operation is placed there: nothing overrides the user's choice."""
    pane = wrap(residual)

    def on_device(x):
        with tf.device("/GPU:0"):
            return tensors(pane.trace(x).saliency())

    concrete = graph_function(on_device, (None, 6, 6, 2)).get_concrete_function()
    placed = {
        o.device for o in concrete.graph.get_operations() if o.type in ("Conv2D", "Conv2DBackpropInput", "MatMul")
    }
    assert placed == {"/device:GPU:0"}


def test_nothing_reads_a_value_while_the_graph_is_made(renamed, monkeypatch):
    """A step that waited for the host would read an eager tensor, by `numpy()`, `bool()` or `float()`."""
    pane = wrap(renamed)
    read = []
    eager = type(tf.constant(0))
    original = eager._numpy
    monkeypatch.setattr(eager, "_numpy", lambda self: read.append(1) or original(self))
    assert tf.constant(1).numpy()
    assert tf.constant(1)
    assert float(tf.constant(1))
    assert len(read) == 3  # the counter counts
    read.clear()
    query_function(pane, QUERIES["saliency"], (None, 6, 6, 2)).get_concrete_function()
    assert read == []


def test_a_graph_sees_the_weights_of_each_call(residual, inputs_for):
    """A weight is read when the graph runs, not frozen into it."""
    pane, x = wrap(residual), tf.constant(inputs_for(residual))
    function = query_function(pane, QUERIES["saliency of a class"], (None, 6, 6, 2))
    before = np.asarray(function(x)[2])
    kernel = residual.get_layer("scores").kernel
    kernel.assign(-2 * kernel)
    assert_same(function(x)[2:3], (-2 * before,))
    assert_same(function(x), tensors(pane.trace(x).saliency(1)))


@pytest.mark.parametrize("autograph", [False, True])
def test_errors_that_need_no_values_rise_in_a_graph_too(residual, autograph):
    pane = wrap(residual)
    wrong_shape = graph_function(lambda x: pane.trace(x).logits(), (None, 5, 6, 2), autograph=autograph)
    with pytest.raises(InputError, match=r"expects the shape \(None, 6, 6, 2\)"):
        wrong_shape.get_concrete_function()
    wrong_class = graph_function(lambda x: pane.trace(x).saliency(9).sum, (None, 6, 6, 2), autograph=autograph)
    with pytest.raises(TargetError, match="has 5 classes"):
        wrong_class.get_concrete_function()


def test_a_map_inside_a_graph_prints(residual):
    """`print(maps)` while a graph is made is a common way to debug, and must not need values."""
    pane, texts = wrap(residual), []

    def show(x):
        maps = pane.trace(x).saliency(2)
        texts.append(repr(maps))
        return maps.sum

    graph_function(show, (None, 6, 6, 2)).get_concrete_function()
    assert "class 2" in texts[0]


def test_symbolic_classes_count_from_the_end_and_are_no_other_class(residual, inputs_for):
    """Where the host has no values nothing can be raised: a class that is not there has a map of zeros."""
    pane, x = wrap(residual), inputs_for(residual)
    function = graph_function(lambda x, t: tensors(pane.trace(x).saliency(t)))
    for target in ([-1, -5], -2):
        assert_same(function(tf.constant(x), tf.constant(target)), tensors(pane.trace(x).saliency(target)))
    for target in ([5, 2], [-6, 2]):
        positive, _, total, *_ = (np.asarray(t) for t in function(tf.constant(x), tf.constant(target)))
        assert not positive[0].any()
        assert not total[0].any()
        np.testing.assert_allclose(total[1], np.asarray(pane.trace(x).saliency(2).sum)[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (tf.constant([1.0, 2.0]), "A class is an int, or one int for each sample"),
        (tf.constant([[1, 2]]), "A class is an int, or one int for each sample"),
        (tf.constant([1, 2, 3]), "one class for each of the 2 samples. Received: 3 classes"),
    ],
    ids=["floats", "two axes", "too many"],
)
@pytest.mark.parametrize("way", ["saliency", "explain"])
def test_symbolic_classes_of_a_wrong_kind(residual, inputs_for, target, message, way):
    pane, x = wrap(residual), tf.constant(inputs_for(residual))
    ask = {"saliency": lambda x, t: pane.trace(x).saliency(t).sum, "explain": lambda x, t: pane.explain(x, t).sum}[way]
    with pytest.raises(TargetError, match=message):
        graph_function(ask)(x, target)


@pytest.mark.parametrize("shape", [(2, 6), (None, 6)], ids=str)
def test_explain_inside_a_graph(two_outputs, inputs_for, shape):
    pane, x = wrap(two_outputs), inputs_for(two_outputs)
    trace = pane.trace(x)
    for target in (None, 2, [0, -1]):
        function = graph_function(lambda x, t=target: tensors(pane.explain(x, t, output="kind")), shape)
        assert_same(function(tf.constant(x)), tensors(trace.saliency(target, output="kind")))
    ask = tf.function(lambda x, t: tensors(pane.explain(x, t, output="kind")), autograph=False)
    for target in ([0, -1], 1):
        assert_same(ask(tf.constant(x), tf.constant(target)), tensors(trace.saliency(target, output="kind")))


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize(
    "query",
    [
        lambda trace: tensors(trace.between("input", "h").dense()),
        lambda trace: tensors(trace.between("input", "h").channels()),
        lambda trace: (trace["h"].positive.dense(), trace["h"].negative.dense()),
    ],
    ids=["dense", "channels", "view"],
)
def test_all_coefficients_with_an_unknown_batch(randomize, inputs_for, width, query):
    x = keras.Input((4,))
    model = randomize(keras.Model(x, layers.Dense(2)(layers.Dense(width, name="h")(x))))
    pane, data = wrap(model), inputs_for(model, 3)
    function = graph_function(lambda x: tuple(query(pane.trace(x))), (None, 4))
    assert_same(function(tf.constant(data)), query(pane.trace(data)))


@pytest.mark.parametrize(
    ("ask", "value", "word"),
    [
        (lambda pair, t: pair.map(t), tf.constant(1), "unit"),
        (lambda pair, t: pair.map([t, 2]), tf.constant(1), "unit"),
        (lambda pair, t: pair.map(channel=t), tf.constant(1), "channel"),
        (lambda pair, t: pair.map(region=t), tf.constant([True] * 5), "region"),
        (lambda pair, t: pair.map(region=[t]), tf.constant([True] * 5), "region"),
    ],
    ids=["unit", "units", "channel", "region", "regions"],
)
def test_a_selection_without_a_value_is_refused(residual, inputs_for, ask, value, word):
    pane, x = wrap(residual), tf.constant(inputs_for(residual))
    message = rf"A {word} of layer 'logits' has to be known while a graph is made\. Received: .*weights=, which may be"
    with pytest.raises(TargetError, match=message):
        graph_function(lambda x, t: ask(pane.trace(x).between("input", "logits"), t).sum)(x, value)


def test_the_verdict_reads_values(residual):
    pane = wrap(residual)
    function = graph_function(lambda x: pane.trace(x).saliency().diagnose().sum, (2, 6, 6, 2))
    with pytest.raises(TargetError, match=r"diagnose\(\) reads values, which are not known inside a graph"):
        function.get_concrete_function()
