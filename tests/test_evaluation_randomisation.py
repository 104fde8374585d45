"""Cascading randomisation: which layers get new weights, on a clone, and what is compared."""

import random

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers, ops

import pane_keras
from pane_keras.errors import ModelError, UnknownLayerError
from pane_keras.evaluation import cascade_randomisation, rank_correlation


def network():
    """A nested model with batch normalisation, adapted inputs and dropout."""
    x = keras.Input((5, 5, 2))
    y = layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0], name="adapted")(x)
    inner = keras.Sequential([keras.Input((5, 5, 2)), layers.Conv2D(3, 3, name="convolution"),
                              layers.BatchNormalization(name="normed"), layers.ReLU()], name="inner")  # fmt: skip
    y = layers.Dropout(0.5)(layers.Flatten()(inner(y)))
    hidden = layers.Dense(4, activation="tanh", name="hidden")
    return filled(x, layers.Dense(3, activation="softmax", name="top")(hidden(y)))


ORDER = ("top", "hidden", "inner/normed", "inner/convolution")


def weights_of(model):
    """Weights by the name of their layer."""
    names = {name.split("/")[-1] for name in ORDER} | {"adapted"}
    parts = [layer for layer in model._flatten_layers() if layer.name in names]
    return {layer.name: [ops.convert_to_numpy(w).copy() for w in layer.weights] for layer in parts}


def spied():
    """An explainer that notes the weights of the models it is given, and the list of them."""
    seen = []

    def explain(model, images, targets, batch_size):
        seen.append((weights_of(model), list(targets)))
        return np.random.default_rng(len(seen)).normal(size=images.shape)

    return explain, seen


def changed(weights, others):
    return {name for name in weights if not all(map(np.array_equal, weights[name], others[name]))}


def test_layers_get_new_weights_from_the_top():
    model, (explain, seen) = network(), spied()
    own = weights_of(model)
    found = cascade_randomisation(model, draw(3, 5, 5, 2), explain, targets=[0, 2, 1])
    assert found.layers == ORDER
    assert found.value.shape == found.absolute.shape == (3, 4)
    assert [targets for _, targets in seen] == [[0, 2, 1]] * 5
    names = [name.split("/")[-1] for name in ORDER]
    assert [changed(own, weights) for weights, _ in seen] == [set(names[:k]) for k in range(5)]
    for name, initial in zip(("gamma", "beta", "mean", "variance"), (1, 0, 0, 1)):
        index = ("gamma", "beta", "mean", "variance").index(name)
        np.testing.assert_array_equal(seen[-1][0]["normed"][index], np.full(3, initial))


def test_maps_are_compared_with_the_first():
    model, (explain, seen) = network(), spied()
    found = cascade_randomisation(model, draw(2, 5, 5, 2), explain)
    maps = [np.random.default_rng(k).normal(size=(2, 5, 5, 2)) for k in range(1, 6)]
    assert len(seen) == 5
    for k in range(4):
        np.testing.assert_array_equal(found.value[:, k], rank_correlation(maps[0], maps[k + 1]))
        np.testing.assert_array_equal(found.absolute[:, k], rank_correlation(abs(maps[0]), abs(maps[k + 1])))


def test_the_predicted_classes_are_kept():
    model, (explain, seen), images = network(), spied(), draw(3, 5, 5, 2)
    cascade_randomisation(model, images, explain)
    top = np.asarray(model(images)).argmax(axis=1).tolist()
    assert [targets for _, targets in seen] == [top] * 5


def test_maps_at_some_layers():
    model, (explain, seen) = network(), spied()
    found = cascade_randomisation(model, draw(2, 5, 5, 2), explain, at=["inner/normed", "top"])
    assert found.layers == ("top", "inner/normed")
    assert changed(seen[0][0], seen[2][0]) == {"top", "hidden", "normed"}
    assert len(seen) == 3


def test_seeds_are_kept_and_the_process_is_left_as_it_was():
    model, images = network(), draw(1, 5, 5, 2)
    model.compile(loss=lambda y, z: 0.0)
    keras.backend.clear_session()
    before, first = weights_of(model), layers.Dense(1).name
    state, numbers, drawn = random.getstate(), np.random.get_state()[1].copy(), []
    for seed in (3, 3, 4):
        explain, seen = spied()
        cascade_randomisation(model, images, explain, seed=seed)
        drawn.append(seen[-1][0])
    assert not changed(drawn[0], drawn[1])
    assert changed(drawn[0], drawn[2]) == {"top", "hidden", "convolution"}
    assert random.getstate() == state
    assert np.array_equal(np.random.get_state()[1], numbers)
    assert not changed(before, weights_of(model))
    assert (first, layers.Dense(1).name) == ("dense", "dense_1")


def test_a_map_of_the_input_alone_stays_the_same():
    """What edge detectors do (Adebayo et al.): the image itself as a map."""
    found = cascade_randomisation(network(), draw(2, 5, 5, 2), lambda model, images, targets, size: images)
    np.testing.assert_allclose(found.value, np.ones((2, 4)))


def test_maps_of_pane_change():
    def explain(model, images, targets, batch_size):
        return np.asarray(pane_keras.wrap(model).trace(images).saliency(targets).sum)

    pane, images = pane_keras.wrap(network()), draw(2, 5, 5, 2)
    found = cascade_randomisation(pane, images, explain, at=["inner/convolution"])
    assert (np.abs(found.value) < 0.9).all()


def test_a_frozen_layer_gets_new_weights_too():
    model, (explain, seen) = network(), spied()
    model.trainable = False
    cascade_randomisation(model, draw(1, 5, 5, 2), explain)
    assert changed(seen[0][0], seen[-1][0]) == {"top", "hidden", "normed", "convolution"}


def test_a_shared_layer_counts_once():
    x = keras.Input((2, 2, 1))
    twice = layers.Dense(4, activation="tanh", name="twice")
    model = filled(x, layers.Dense(2, name="top")(twice(twice(layers.Flatten()(x)))))
    found = cascade_randomisation(model, draw(1, 2, 2, 1), lambda *given: given[1])
    assert found.layers == ("top", "twice#2")


@pytest.mark.parametrize("at", [["input"], [], "top", ["top", "adapted"]])
def test_layers_without_weights(at):
    with pytest.raises(UnknownLayerError, match=r"names of layers with weights, of \['top', 'hidden', .*Received:"):
        cascade_randomisation(network(), draw(1, 5, 5, 2), lambda *given: given[1], at=at)


class Unclonable(layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def get_config(self):
        return {}

    def call(self, x):
        return x * self.size


class Subclassed(keras.Model):
    def __init__(self, size):
        super().__init__(name="subclassed")
        self.flat, self.dense = layers.Flatten(), layers.Dense(size)

    def call(self, x):
        return self.dense(self.flat(x))


def test_a_subclassed_model_cannot_be_cloned():
    model = Subclassed(3)
    model(draw(1, 2, 2, 1))
    with pytest.raises(ModelError, match=r"'subclassed' cannot be cloned.*built functionally instead"):
        cascade_randomisation(model, draw(1, 2, 2, 1), lambda *given: given[1])


def test_a_model_that_cannot_be_cloned():
    x = keras.Input((2, 2, 1))
    model = keras.Model(x, layers.Dense(2, name="top")(layers.Flatten()(Unclonable(2)(x))), name="own")
    with pytest.raises(ModelError, match=r"'own' cannot be cloned.*get_config"):
        cascade_randomisation(model, draw(1, 2, 2, 1), lambda *given: given[1])


def test_an_operation_without_weights_is_passed_over():
    x = keras.Input((2, 2, 1))
    model = filled(x, layers.Dense(2, name="top")(layers.Flatten()(ops.tanh(x * 2))))
    assert cascade_randomisation(model, draw(1, 2, 2, 1), lambda *given: given[1]).layers == ("top",)
