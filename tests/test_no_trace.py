"""Explaining a model leaves nothing behind: not on the model, not on the user's tensors, not in Keras or TensorFlow."""

import gc
import random
import threading
import weakref

import bystanders
import keras
import numpy as np
import pytest
import tensorflow as tf
from bystanders import MODELS, draws, explain, names, source_of, state_of, tensors, world
from keras import layers, tree
from test_composite import Block, Chain, Outer

import pane_keras
from pane_keras import pieces, wrap

pytestmark = pytest.mark.usefixtures("own_registry", "blocks")


@pytest.fixture
def blocks():
    pane_keras.register(Outer, Block, Chain)(pieces.graph)


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


def compiled(model, x):
    """Trained for a step, so that the optimizer and the metrics have a state."""
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    model.fit(x, np.ones((2, *model(x).shape[1:])), verbose=0)
    return model


def test_the_model(kind):
    model, x = MODELS[kind]()
    model(x) if kind == "masked" else compiled(model, x)
    before = state_of(model)
    explain(wrap(model), x, source_of(kind))
    after = state_of(model)
    for word in before:
        assert after[word] == before[word], word


@pytest.mark.parametrize("kind", ["functional", "composite"])
def test_it_trains_as_before(kind):
    """The same step after an explanation as without one."""
    results = []
    for act in (lambda model, x: None, lambda model, x: explain(wrap(model), x, source_of(kind))):
        keras.utils.set_random_seed(3)
        model, x = MODELS[kind]()
        compiled(model, x)
        act(model, x)
        losses = model.fit(x, np.ones((2, *model(x).shape[1:])), epochs=2, verbose=0).history["loss"]
        results.append((losses, model.predict(x, verbose=0)))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_the_users_tensors(kind):
    model, data = MODELS[kind]()
    x = tensors(data)
    before = tree.map_structure(lambda t: sorted(vars(t)), x)
    pane = wrap(model)
    explain(pane, x, source_of(kind))
    assert tree.map_structure(lambda t: sorted(vars(t)), x) == before
    assert not any(hasattr(t, "_keras_mask") for t in tree.flatten(x))
    for mine, own in zip(tree.flatten(x), tree.flatten(data)):
        np.testing.assert_array_equal(mine, own)


def test_a_mask_that_hangs_on_the_users_tensor_stays():
    model, data = bystanders.masked()
    x = tf.constant(data)
    mask = tf.constant(data > 2)
    x._keras_mask = mask
    explain(wrap(model), x, "emb")
    assert x._keras_mask is mask


def test_the_world_and_every_source_of_chance(kind):
    """What is drawn afterwards is what would have been drawn."""
    model, x = MODELS[kind]()
    model(x)
    seed()
    expected = [draws(), draws()]
    seed()
    first, before = draws(), world()
    explain(wrap(model), x, source_of(kind))
    after = world()
    assert [first, draws()] == expected
    for word in before:
        assert after[word] == before[word], word


def seed():
    keras.utils.set_random_seed(5)
    random.seed(5)


def test_dropout_inside_a_recurrent_layer_draws_what_it_would_have_drawn():
    stack = [layers.Masking(), layers.LSTM(2, dropout=0.5, name="lstm"), layers.Dense(2)]
    model = keras.Sequential([keras.Input((3, 2)), *stack])
    states = [v for v in model.variables if "seed" in v.path]
    before = [v.numpy() for v in states]
    explain(wrap(model), np.ones((2, 3, 2), "float32"), "input")
    assert states
    np.testing.assert_array_equal([v.numpy() for v in states], before)


def test_the_world_after_a_model_that_cannot_be_read():
    class Branching(keras.Model):
        def call(self, x):
            return -x if tf.reduce_sum(x) > 0 else x

    model = Branching()
    model(np.ones((1, 4), "float32"))
    before = world(), state_of(model), keras.Variable.__mul__
    with pytest.raises(pane_keras.PaneError, match="cannot be read as a graph"):
        wrap(model)
    assert (world(), state_of(model), keras.Variable.__mul__) == before


def test_names_of_what_is_built_afterwards(kind):
    def named(act):
        keras.backend.clear_session()
        model, x = MODELS[kind]()
        model(x)
        act(model, x)
        return names()

    assert named(lambda model, x: explain(wrap(model), x, source_of(kind))) == named(lambda model, x: None)


def test_a_model_is_freed_with_its_explanations(kind):
    """What was read of a layer goes after the layer itself has gone."""
    model, x = MODELS[kind]()
    pane = wrap(model)
    trace = explain(pane, x, source_of(kind))
    dead = [weakref.ref(thing) for thing in (model, pane, trace, model.layers[-1], model.weights[0])]
    del model, pane, trace
    keras.backend.clear_session()
    gc.collect()
    gc.collect()
    assert [ref() is None for ref in dead] == [True] * 5


# Threads


def batches(x, count):
    """Different inputs of the same kind."""
    return [(x + k) % 7 if x.dtype == "int32" else x * (k + 1) for k in range(count)]


def numbers(trace, source):
    maps = trace.between(source, "logits").map(1)
    return [np.asarray(t) for t in (trace.logits(), maps.sum, maps.positive, maps.negative)]


@pytest.mark.parametrize("kind", ["functional", "subclassed", "composite", "masked"])
def test_traces_from_threads_are_those_of_one(kind):
    """Several at once, on a model whose inner graphs nobody has read yet; what they share is restored afterwards."""
    model, x = MODELS[kind]()
    model(x)
    pane, before = wrap(model), state_of(model)
    count = 3 if kind == "masked" else 8  # a recurrent model has hundreds of stages
    inputs, source = batches(x, count), source_of(kind)
    start, results, errors = threading.Barrier(count), {}, []

    def work(k):
        try:
            start.wait()
            results[k] = [numbers(pane.trace(inputs[k]), source) for _ in range(2)]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    arithmetic = vars(keras.Variable).copy()
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert errors == []
    assert state_of(model) == before
    assert dict(vars(keras.Variable)) == arithmetic
    for k in range(count):
        alone = numbers(pane.trace(inputs[k]), source)
        for result in results[k]:
            for mine, expected in zip(result, alone, strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["subclassed", "composite"])
def test_wrapping_from_threads(kind):
    """Reading a model adds nodes to its layers and takes them back: one thread at a time."""
    model, x = MODELS[kind]()
    before, results, errors = state_of(model), {}, []

    def work(k):
        try:
            results[k] = numbers(wrap(model).trace(x), "input")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert errors == []
    assert state_of(model) == before
    alone = numbers(wrap(model).trace(x), "input")
    for k in range(8):
        for mine, expected in zip(results[k], alone, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)
