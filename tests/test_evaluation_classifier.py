"""What a `Classifier` takes, and what it sees in the numbers of a model."""

import keras
import numpy as np
import pytest
from agreement import draw
from keras import layers, ops
from test_evaluation_heads import SHAPE, SOFTMAX, model_with, own_softmax

from pane_keras.errors import InputError, ModelError
from pane_keras.evaluation import Classifier
from pane_keras.pictures import channels_first


@pytest.mark.parametrize("head", [own_softmax, lambda x: ops.log(own_softmax(x))])
def test_probabilities_that_are_not_seen_in_the_graph_are_seen_in_the_numbers(head):
    model = model_with(lambda h: head(layers.Dense(4)(h)))
    with pytest.raises(ModelError, match=r"Expected logits\. Received: .*probabilities, or their logarithms"):
        Classifier(model).logits(draw(3, *SHAPE))


@pytest.mark.parametrize("logits", [[0, -20], [-20, 0], [0, 0], [1, 0], [0, 1e-9], [0.5, 0.6], [-0.5, -0.6], [2, -1]])
def test_logits_that_are_no_probabilities(logits):
    """Two logits of which one is always 0 are common, and close to logarithms where the other is far below."""
    x = keras.Input((1, 1, 1))
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(x)))
    model.set_weights([np.array([logits]), np.zeros(2)])
    np.testing.assert_allclose(Classifier(model).logits(np.ones((1, 1, 1, 1))), [logits], rtol=1e-6)


def test_channels_first_are_refused_with_a_way_that_works():
    x = keras.Input((3, 32, 30))
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(ModelError, match=r"channels last\. Received: .*\(None, 3, 32, 30\).*Permute\(\(3, 1, 2\)\)"):
        Classifier(model)
    pictures = draw(2, 32, 30, 3)
    last = keras.Sequential([keras.Input((32, 30, 3)), layers.Permute((3, 1, 2)), model])
    expected = np.asarray(model(np.moveaxis(pictures, -1, 1)))
    np.testing.assert_allclose(Classifier(last).logits(pictures), expected, rtol=1e-5, atol=1e-5)


def test_what_looks_like_channels_first():
    for first in ((3, 32, 30), (1, None, None), (4, 224, 224)):
        assert channels_first(first)
    for last in ((32, 30, 3), (None, None, 3), (3, 3, 3), (4, 100, 2), (1, 9, 1), (8, 8, 12)):
        assert not channels_first(last)


def test_a_classifier_needs_pictures():
    x = keras.Input((5,))
    with pytest.raises(ModelError, match=r"\(batch, height, width, channels\)\. Received: .*\(None, 5\)"):
        Classifier(keras.Model(x, layers.Dense(3)(x)))


def test_a_classifier_needs_two_classes():
    with pytest.raises(ModelError, match=r"at least two classes.* with 1\. One logit z is two classes"):
        Classifier(model_with(lambda h: layers.Dense(1, activation="sigmoid")(h)))


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "all"])
def test_a_batch_has_images(size):
    with pytest.raises(InputError, match="batch_size to be an int of at least 1"):
        Classifier(model_with(SOFTMAX["fused"]), batch_size=size)


def test_batches_change_nothing():
    model, images = model_with(SOFTMAX["fused"]), draw(7, *SHAPE)
    whole = Classifier(model, batch_size=7).logits(images)
    np.testing.assert_allclose(Classifier(model, batch_size=3).logits(images), whole, atol=1e-6)
    np.testing.assert_array_equal(Classifier(model).predicted(images), whole.argmax(axis=1))
