"""`wrap` and `PaneModel`: shared weights, the model's own results, names, copies, and nothing left behind."""

import copy
import gc
import json
import pickle
import threading
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, tree

import pane_keras
from pane_keras import ExcitationLayer, pieces, wrap
from pane_keras.errors import ModelError, PaneError, SaveError

MODELS = ("cnn", "residual", "two_inputs", "two_outputs", "nested")


@pytest.fixture(params=MODELS)
def model(request):
    return request.getfixturevalue(request.param)


def equal(a, b):
    a, b = tree.flatten(a), tree.flatten(b)
    return len(a) == len(b) and all(
        np.asarray(x).dtype == np.asarray(y).dtype and np.array_equal(np.asarray(x), np.asarray(y))
        for x, y in zip(a, b)
    )


def state(model):
    """Everything about a model that wrapping must leave as it was."""
    operations = [layer for layer in model._flatten_layers() if layer is not model]
    return {
        "config": json.dumps(model.get_config(), sort_keys=True, default=str),
        "weights": [w.numpy().tobytes() for w in model.variables],
        "ids": [id(w) for w in model.variables],
        "trainable": [layer.trainable for layer in operations] + [w.trainable for w in model.variables],
        "nodes": [(o.name, len(o._inbound_nodes), len(o._outbound_nodes)) for o in operations],
        "compiled": (model.compiled, id(getattr(model, "optimizer", None)), id(getattr(model, "loss", None))),
        "losses": len(model.losses),
        "attributes": [sorted(vars(layer)) for layer in operations],
    }


# Weights


def test_weights_are_the_models_own_variables(model):
    pane = wrap(model)
    assert len(pane.weights) == len(model.weights) > 0
    assert {id(w) for w in pane.weights} == {id(w) for w in model.weights}
    assert {id(w) for w in pane.trainable_weights} == {id(w) for w in model.trainable_weights}
    assert {id(w) for w in pane.non_trainable_weights} == {id(w) for w in model.non_trainable_weights}
    assert pane.count_params() == model.count_params()


def test_wrapping_makes_no_variable(model, monkeypatch):
    made = []
    original = keras.Variable.__init__
    monkeypatch.setattr(
        keras.Variable, "__init__", lambda self, *args, **kwargs: made.append(1) or original(self, *args, **kwargs)
    )
    wrap(model)
    assert made == []
    layers.Dense(2).build((None, 3))
    assert len(made) == 2  # the counter counts


def test_an_update_shows_in_both(cnn, inputs_for):
    pane, x = wrap(cnn), inputs_for(cnn)
    before = np.asarray(pane(x))
    cnn.get_layer("conv1").kernel.assign(-cnn.get_layer("conv1").kernel)
    assert not np.allclose(before, pane(x))
    assert equal(pane(x), cnn(x))
    pane.weights[0].assign(2 * pane.weights[0])
    assert equal(pane(x), cnn(x))
    np.testing.assert_allclose(pane.trace(x)["predictions"].output, cnn(x), rtol=1e-5)


def test_a_frozen_layer_stays_frozen(cnn):
    cnn.get_layer("conv1").trainable = False
    pane = wrap(cnn)
    assert len(pane.trainable_weights) == len(cnn.trainable_weights) == 4
    assert len(pane.non_trainable_weights) == 2
    assert not cnn.get_layer("conv1").trainable


def test_the_model_is_left_as_it_was(model, inputs_for):
    if model.name != "residual":  # compiled or not
        model.compile(optimizer="sgd", loss="mse")
    x = inputs_for(model)
    before = state(model)
    pane = wrap(model)
    trace = pane.trace(x)
    trace.saliency(output=0)
    trace.check()
    pane(x)
    assert state(model) == before


def test_global_state_is_left_as_it_was(residual, inputs_for):
    x = inputs_for(residual)
    keras.utils.set_random_seed(3)
    expected = keras.random.uniform((3,)), np.random.random(3), tf.random.uniform((3,))
    keras.utils.set_random_seed(3)
    policy, phase = keras.config.dtype_policy(), keras.config.floatx()
    wrap(residual).trace(x).saliency()
    assert (keras.config.dtype_policy(), keras.config.floatx()) == (policy, phase)
    assert equal((keras.random.uniform((3,)), np.random.random(3), tf.random.uniform((3,))), expected)


def test_names_given_by_keras_do_not_shift():
    """Wrapping draws no automatic names: a layer made afterwards is called as it would have been without it."""

    def names(act):
        keras.backend.clear_session()
        x = keras.Input((3,))
        act(keras.Model(x, layers.Dense(2)(x)))
        return [layers.Dense(1).name, keras.Sequential().name, keras.Input((2,)).name]

    assert names(lambda model: wrap(model).trace(np.ones((1, 3), "float32"))) == names(lambda model: None)


# The model's own results


def test_calling_gives_the_models_result(model, inputs_for):
    pane, x = wrap(model), inputs_for(model)
    for training in (None, False, True):
        assert equal(pane(x, training=training), model(x, training=training)), training


def test_training_reaches_the_model(inputs_for):
    model = keras.Sequential([keras.Input((30,)), layers.Dropout(0.5, seed=1)])
    pane, x = wrap(model), inputs_for(model)
    assert equal(pane(x), x)
    assert not equal(pane(x, training=True), x)


@pytest.mark.parametrize("name", ["cnn", "two_inputs", "two_outputs"])
def test_predict_gives_the_models_result(request, inputs_for, name):
    model = request.getfixturevalue(name)
    pane, x = wrap(model), inputs_for(model, 5)
    assert equal(pane.predict(x, batch_size=2, verbose=0), model.predict(x, batch_size=2, verbose=0))


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int64", "bool"])
def test_other_dtypes_give_the_models_result(cnn, dtype):
    x = np.random.default_rng(0).integers(0, 9, (2, 8, 8, 3)).astype(dtype)
    pane = wrap(cnn)
    assert equal(pane(x), cnn(x))
    np.testing.assert_allclose(pane.trace(x)["predictions"].output, cnn(x), rtol=1e-5, atol=1e-7)


def test_a_float64_model_stays_float64():
    model = keras.Sequential([keras.Input((4,), dtype="float64"), layers.Dense(3, dtype="float64")])
    x = np.random.default_rng(0).normal(size=(2, 4))
    pane = wrap(model)
    np.testing.assert_array_equal(pane.trace(x).logits(), model(x))
    assert "float64" in str(pane.trace(x).saliency().sum.dtype)
    assert equal(pane(x), model(x))


def test_lists_and_dicts_of_inputs(two_inputs, inputs_for):
    pane, (left, right) = wrap(two_inputs), inputs_for(two_inputs)
    expected = two_inputs([left, right])
    for x in ([left, right], (left, right), {"left": left, "right": right}, {"right": right, "left": left}):
        assert equal(pane(x), expected)
        np.testing.assert_allclose(pane.trace(x).logits(), expected, rtol=1e-5, atol=1e-6)


def test_a_list_with_the_only_input(residual, inputs_for):
    pane, x = wrap(residual), inputs_for(residual)
    assert equal(pane([x]), residual([x]))
    np.testing.assert_allclose(pane.trace([x]).logits(), residual([x]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pane.trace({"picture": x}).logits(), residual(x), rtol=1e-5, atol=1e-6)


def test_a_model_of_dicts(inputs_for):
    a, b = keras.Input((4,), name="z"), keras.Input((3,), name="y")
    model = keras.Model({"first": a, "second": b}, {"sum": layers.Dense(2)(a), "other": layers.Dense(3)(b)})
    pane = wrap(model)
    x = {"second": np.ones((2, 3), "float32"), "first": np.full((2, 4), 2, "float32")}
    result = model(x)
    assert set(pane(x)) == {"sum", "other"}
    assert equal(pane(x), result)
    trace = pane.trace(x)
    assert {tuple(trace.logits(name).shape) for name in trace.output_names} == {(2, 2), (2, 3)}


def test_a_wrapped_model_works_inside_another_model(cnn, inputs_for):
    """A drop-in in a pipeline: called on a symbolic tensor it is a layer like any other."""
    x = keras.Input((8, 8, 3))
    outer = keras.Model(x, wrap(cnn)(x))
    data = inputs_for(cnn)
    assert equal(outer(data), cnn(data))


# The layers


def test_every_call_is_an_excitation_layer(model):
    pane = wrap(model)
    assert len(pane.layers) == len(pane.excitations) == len(pane.graph.calls)
    assert all(isinstance(layer, ExcitationLayer) for layer in pane.layers)
    originals = {id(layer) for layer in model._flatten_layers()}
    assert all(id(layer.operation) in originals for layer in pane.layers)


def test_nested_and_shared_layers_have_a_name_for_each_call(nested, inputs_for):
    trace = wrap(nested).trace(inputs_for(nested))
    assert list(trace) == ["backbone/conv1", "backbone/pool", "dense", "dense#2", "scores"]


def test_a_backbone_called_twice_has_two_sets_of_names(inputs_for):
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, layers.Dense(4, name="inner")(inner_input), name="backbone")
    x = keras.Input((4,))
    model = keras.Model(x, layers.Add(name="add")([inner(x), inner(inner(x))]))
    pane = wrap(model)
    trace = pane.trace(inputs_for(model))
    assert len(set(trace)) == 4
    assert sum(name.endswith("/inner") for name in trace) == 3
    assert len(pane.weights) == 2


def test_deep_nesting_joins_the_names(randomize, inputs_for):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="d")], name="inner")
    middle = keras.Sequential([keras.Input((4,)), inner, layers.ReLU(name="r")], name="middle")
    model = randomize(keras.Sequential([keras.Input((4,)), middle, layers.Dense(2, name="out")]))
    x = inputs_for(model)
    trace = wrap(model).trace(x)
    assert list(trace) == ["middle/inner/d", "middle/r", "out"]
    np.testing.assert_allclose(trace.logits(), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "residual"])
def test_the_trace_holds_every_intermediate_output(request, inputs_for, name):
    model = request.getfixturevalue(name)
    x = inputs_for(model)
    trace = wrap(model).trace(x)
    names = [layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    assert sorted(trace) == sorted(names)
    expected = keras.Model(model.inputs, [model.get_layer(n).output for n in names])(x)
    for layer, value in zip(names, expected):
        np.testing.assert_allclose(trace[layer].output, value, rtol=1e-5, atol=1e-6, err_msg=layer)


def test_excite_on_a_layer_of_its_own(randomize):
    model = randomize(keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d")]))
    layer, x = model.get_layer("d"), np.array([[1.0, -2.0, 0.0]], "float32")
    output, positive, negative = ExcitationLayer(layer).excite(x)
    kernel = np.asarray(layer.kernel).T[None]
    o = np.asarray(x @ layer.kernel)[..., None]
    agrees = kernel * x[:, None] * o > 0
    np.testing.assert_allclose(output, layer(x), rtol=1e-6)
    np.testing.assert_allclose(positive, np.where(agrees, kernel, 0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(negative, np.where(~agrees & (x[:, None] != 0), kernel, 0), rtol=1e-6, atol=1e-7)


def test_excite_on_a_layer_with_two_inputs():
    a, b = np.array([[1.0, -3.0]], "float32"), np.array([[2.0, 1.0]], "float32")
    output, positive, negative = ExcitationLayer(layers.Add()).excite([a, b])
    np.testing.assert_array_equal(output, a + b)
    assert len(positive) == len(negative) == 2
    np.testing.assert_array_equal(positive[0], [np.eye(2)])
    np.testing.assert_array_equal(negative[0], np.zeros((1, 2, 2)))
    np.testing.assert_array_equal(positive[1], [np.diag([1.0, 0.0])])
    np.testing.assert_array_equal(negative[1], [np.diag([0.0, 1.0])])


# One pass


def test_a_trace_runs_every_convolution_once(residual, inputs_for, monkeypatch):
    pane, x = wrap(residual), inputs_for(residual)
    calls, original = [], tf.nn.convolution
    monkeypatch.setattr(tf.nn, "convolution", lambda *a, **k: calls.append(1) or original(*a, **k))
    pane.trace(x)
    assert len(calls) == 3  # stem, branch, side


def test_a_trace_runs_a_users_layer_once(own_registry, inputs_for):
    class Double(layers.Layer):
        def call(self, x):
            return 2 * x

    runs = []

    @pane_keras.register(Double)
    def excite(layer, inputs):
        return pieces.nonnegative(lambda x: runs.append(layer.name) or 2 * x)

    shared = Double(name="double")
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(shared(shared(x))))
    pane = wrap(model)
    assert runs == []  # wrapping runs nothing
    trace = pane.trace(inputs_for(model))
    assert runs == ["double", "double"]  # once a call
    trace["double"].output  # noqa: B018  reading runs nothing again
    assert len(runs) == 2


def test_a_trace_keeps_the_weights_it_was_made_with(model, inputs_for, parts):
    pane, x = wrap(model), inputs_for(model)
    kept = pane.trace(x)
    before = [parts(m) for m in tree.flatten(_maps(kept))]
    logits = np.array(kept.logits(0))
    for weight in model.weights:
        weight.assign(weight * 3 + 1)
    after = [parts(m) for m in tree.flatten(_maps(kept))]
    np.testing.assert_array_equal(kept.logits(0), logits)
    assert equal(before, after)
    assert kept.check().ok
    assert not equal(before, [parts(m) for m in tree.flatten(_maps(pane.trace(x)))])


def test_an_in_place_update_does_not_reach_a_trace(residual, inputs_for):
    pane, x = wrap(residual), inputs_for(residual)
    kept = pane.trace(x)
    before = np.array(kept.saliency(0).sum)
    for weight in residual.weights:
        weight.value.assign_add(tf.ones_like(weight.value))
    np.testing.assert_array_equal(kept.saliency(0).sum, before)
    assert kept.check().ok


def _maps(trace):
    maps = trace.saliency(0, output=0)
    return list(maps.values()) if isinstance(maps, dict) else [maps]


def test_scales_follow_weights_that_grow_after_wrapping(parts):
    """Coefficients of 2**240 from a model that was tame when it was wrapped."""
    model = keras.Sequential(
        [keras.Input((3,)), *(layers.Dense(3, use_bias=False, kernel_initializer="identity") for _ in range(3))]
    )
    pane = wrap(model)
    for weight in model.weights:
        weight.assign(np.eye(3) * 2.0**80)
    maps = pane.trace(np.full((1, 3), 2.0**-120, "float32")).saliency(1)
    positive, negative, total = parts(maps)
    assert positive[0, 1] == total[0, 1] == 2.0**240
    assert not negative.any()
    assert np.asarray(maps.log2_scale)[0] > 100


# Copies and files


@pytest.mark.parametrize("copied", [lambda p: pickle.loads(pickle.dumps(p)), copy.deepcopy])
def test_copies_work_on_their_own(cnn, inputs_for, copied):
    pane, x = wrap(cnn), inputs_for(cnn)
    twin = copied(pane)
    assert isinstance(twin, pane_keras.PaneModel)
    assert equal(twin(x), cnn(x))
    np.testing.assert_array_equal(twin.trace(x).saliency(1).sum, pane.trace(x).saliency(1).sum)
    assert not {id(w) for w in twin.weights} & {id(w) for w in pane.weights}
    before = np.asarray(twin(x))
    cnn.get_layer("conv2").kernel.assign(-cnn.get_layer("conv2").kernel)
    assert equal(twin(x), before)


SAVERS = {
    "pane.save": lambda pane, path: pane.save(path),
    "keras.saving.save_model": lambda pane, path: keras.saving.save_model(pane, path),
}


@pytest.mark.parametrize("saver", SAVERS)
def test_saving_says_in_one_line_what_to_save(cnn, tmp_path, saver):
    path = tmp_path / "pane.keras"
    with pytest.raises(SaveError, match=r"save the model itself, `pane\.model\.save\(path\)`") as caught:
        SAVERS[saver](wrap(cnn), path)
    assert "\n" not in str(caught.value)
    assert saver != "pane.save" or not path.exists()  # Keras's own function opens the file first


def test_the_remedy_for_saving_works(cnn, inputs_for, tmp_path):
    pane, x = wrap(cnn), inputs_for(cnn)
    pane.model.save(tmp_path / "model.keras")
    again = wrap(keras.models.load_model(tmp_path / "model.keras"))
    assert equal(again(x), pane(x))
    np.testing.assert_array_equal(again.trace(x).saliency(0).positive, pane.trace(x).saliency(0).positive)


def test_trainable_is_guarded(cnn):
    pane = wrap(cnn)
    assert pane.trainable is True
    pane.trainable = True  # what it is already
    with pytest.raises(AttributeError, match="Set `trainable` on the model that was wrapped"):
        pane.trainable = False
    assert cnn.trainable
    assert all(layer.trainable for layer in cnn.layers)
    cnn.trainable = False
    assert pane.trainable is False
    assert pane.trainable_weights == []


def test_the_guard_is_an_error_of_the_family(cnn):
    with pytest.raises(PaneError, match="PaneModel shares its layers"):
        wrap(cnn).trainable = False


# Memory and threads


def test_traces_are_freed_by_reference_count(residual, inputs_for):
    pane, x = wrap(residual), inputs_for(residual)
    pane.trace(x).saliency()  # caches are filled before anything is counted
    gc.collect()
    gc.disable()
    try:
        trace = pane.trace(x)
        trace.saliency()
        emission = trace["concat"]
        pair = trace.between("stem", "scores")
        pair.map(0), pair.dense(), str(pair.expression()), trace.check()
        dead = [weakref.ref(trace), weakref.ref(trace.logits()), weakref.ref(trace["stem"].output)]
        assert all(ref() is not None for ref in dead)
        del trace, emission, pair
        assert [ref() for ref in dead] == [None, None, None]
    finally:
        gc.enable()


def test_a_pane_model_keeps_nothing_of_a_trace(cnn, inputs_for):
    pane = wrap(cnn)
    pane.trace(inputs_for(cnn))
    before = {name: id(value) for name, value in vars(pane).items()}
    variables = len(pane.variables)
    pane.trace(inputs_for(cnn)).saliency()
    assert {name: id(value) for name, value in vars(pane).items()} == before
    assert len(pane.variables) == variables


def test_traces_from_several_threads_do_not_mix(residual, inputs_for):
    pane = wrap(residual)
    batches = [inputs_for(residual) for _ in range(4)]
    expected = [np.asarray(pane.trace(x).saliency(1).sum) for x in batches]
    results = {}

    def work(k):
        for _ in range(3):
            results.setdefault(k, []).append(np.asarray(pane.trace(batches[k]).saliency(1).sum))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for k, value in enumerate(expected):
        assert len(results[k]) == 3
        for result in results[k]:
            np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-7)


# A Sequential that grows or shrinks


def stack(name):
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, name="hidden"), layers.Dense(3, name="out")], name=name)


def grow(model):
    model.add(layers.Dense(2, name="more"))


def shrink(model):
    model.pop()


@pytest.mark.parametrize("change", [grow, shrink])
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "nested"])
def test_layers_added_or_removed_after_wrapping(change, inside):
    inner, x = stack("inner"), np.ones((1, 4), "float32")
    model = keras.Sequential([keras.Input((4,)), inner], name="outer") if inside else inner
    pane = wrap(model)
    pane.explain(x, 0)
    change(inner)
    message = rf"'{model.name}' runs other layers than when it was wrapped\. Wrap it again"
    for ask in (pane.trace, lambda x: pane.explain(x, 0)):
        with pytest.raises(ModelError, match=message):
            ask(x)
    if not inside:  # a model around it keeps the shapes it was built with
        np.testing.assert_allclose(wrap(model).trace(x).logits(), model(x), rtol=1e-6)


def test_a_sequential_that_is_built_again_is_the_same():
    model, x = stack("again"), np.ones((1, 4), "float32")
    pane = wrap(model)
    model.build((None, 4))
    model.add(model.pop())
    np.testing.assert_allclose(pane.trace(x).logits(), model(x), rtol=1e-6)


# A wrapped model


def test_wrapping_a_wrapped_model_wraps_the_model_inside(cnn, inputs_for):
    first = wrap(cnn)
    second = wrap(first)
    assert second.model is cnn
    assert list(second.trace(inputs_for(cnn))) == list(first.trace(inputs_for(cnn)))


def test_a_wrapped_model_that_has_changed_can_be_wrapped_again():
    model, x = stack("again"), np.ones((1, 4), "float32")
    pane = wrap(model)
    grow(model)
    np.testing.assert_allclose(wrap(pane).trace(x).logits(), model(x), rtol=1e-6)
