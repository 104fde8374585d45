"""A classifier that remembers what it was asked."""

import keras
import numpy as np
import pytest

from pane_keras.errors import ModelError
from pane_keras.evaluation.answers import RememberingClassifier
from pane_keras.evaluation.classifier import Classifier
from pane_keras.evaluation.logit_change import change_logits


class Counting(keras.layers.Layer):
    """Passes on, and counts the pictures that it was given."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

    def call(self, x):
        self.seen.assign_add(keras.ops.cast(keras.ops.shape(x)[0], "float32"))
        return x


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    counting = Counting(name="counting")
    layers = [counting, keras.layers.Conv2D(3, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(4)]
    return keras.Sequential([keras.Input((6, 6, 2)), *layers])


def seen(model):
    return int(model.get_layer("counting").seen)


def test_pictures_are_asked_for_once_and_answers_are_those_of_the_model(model):
    images = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype("float32")
    asked = np.concatenate([images, images[[3, 3, 0]]])
    classifier = RememberingClassifier(model, batch_size=4)
    start = seen(model)
    found = classifier.logits(asked)
    assert seen(model) - start == 7
    np.testing.assert_array_equal(found[[7, 8, 9]], found[[3, 3, 0]])
    np.testing.assert_allclose(found, Classifier(model).logits(asked), rtol=1e-5, atol=1e-6)
    before = seen(model)
    np.testing.assert_array_equal(classifier.logits(asked[::-1]), found[::-1])
    np.testing.assert_array_equal(classifier.predicted(images), found[:7].argmax(axis=1))
    assert classifier.log_probabilities(images).shape == (7, 4)
    assert seen(model) == before


def test_pictures_that_differ_in_one_bit_are_two(model):
    image = np.ones((1, 6, 6, 2), "float32")
    other = image.copy()
    other[0, 5, 5, 1] = np.nextafter(np.float32(1), np.float32(2))
    classifier, start = RememberingClassifier(model), seen(model)
    classifier.logits(np.concatenate([image, other]))
    assert seen(model) - start == 2


def test_what_was_forgotten_is_asked_for_again(model):
    images = np.zeros((2, 6, 6, 2), "float32") + np.arange(2)[:, None, None, None]
    classifier = RememberingClassifier(model)
    classifier.logits(images)
    classifier.forget()
    start = seen(model)
    classifier.logits(images)
    assert seen(model) - start == 2


def test_metrics_get_the_same_from_both(model):
    draw = np.random.default_rng(1)
    images = draw.normal(size=(9, 6, 6, 2)).astype("float32")
    maps = draw.normal(size=images.shape)
    how = {"step": 0.5, "percents": (1.0, 3.0, 10.0, 20.0)}
    plain = change_logits(Classifier(model, 4), images, maps, **how)
    remembered = change_logits(RememberingClassifier(model, 4), images, maps, **how)
    np.testing.assert_allclose(remembered.change, plain.change, rtol=1e-4, atol=1e-5)


def test_probabilities_are_still_refused():
    keras.utils.set_random_seed(0)

    class Own(keras.layers.Layer):
        def call(self, x):
            return keras.ops.softmax(x)

    layers = [keras.layers.Flatten(), keras.layers.Dense(3), Own()]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
    images = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype("float32")
    with pytest.raises(ModelError, match="probabilities"):
        RememberingClassifier(model).logits(images)
