"""Logits of every kind of head: exactly what the softmax or sigmoid is given, and no trace on the model."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers, ops
from scipy import special

import pane_keras
from pane_keras.errors import ModelError, UnsupportedLayerError
from pane_keras.evaluation import Classifier, logits_of, probabilities_of

SHAPE = (6, 6, 2)


def body(x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, activation="tanh")(x))


def einsum_head(h):
    return layers.EinsumDense("bi,ij->bj", output_shape=4, bias_axes="j", activation="softmax")(h)


def convolution_head(h):
    h = layers.Reshape((1, 1, 5))(h)
    return layers.Flatten()(layers.Conv2D(4, 1, activation="softmax")(h))


def reshaped_head(h):
    """As in MobileNet: what follows the softmax, or stands before it, only changes the shape."""
    h = layers.Softmax()(layers.Reshape((1, 1, 4))(layers.Dense(4)(h)))
    return layers.Dropout(0.5)(layers.Reshape((4,))(h))


SOFTMAX = {
    "fused": lambda h: layers.Dense(4, activation="softmax")(h),
    "fused without bias": lambda h: layers.Dense(4, use_bias=False, activation="softmax")(h),
    "einsum": einsum_head,
    "convolution": convolution_head,
    "activation": lambda h: layers.Activation("softmax")(layers.Dense(4)(h)),
    "layer": lambda h: layers.Softmax()(layers.Dense(4)(h)),
    "operation": lambda h: ops.softmax(layers.Dense(4)(h)),
    "reshaped": reshaped_head,
    "linear activation behind": lambda h: layers.Activation("linear")(layers.Dense(4, activation="softmax")(h)),
    "fused operation": lambda h: layers.Dense(4, activation=ops.softmax)(h),
    "fused layer": lambda h: layers.Dense(4, activation=layers.Softmax())(h),
    "named axis": lambda h: layers.Softmax(axis=1)(layers.Dense(4)(h)),
}
SIGMOID = {
    "fused": lambda h: layers.Dense(4, activation="sigmoid")(h),
    "activation": lambda h: layers.Activation("sigmoid")(layers.Dense(4)(h)),
    "operation": lambda h: ops.sigmoid(layers.Dense(4)(h)),
}


def model_with(head):
    x = keras.Input(SHAPE, name="picture")
    return filled(x, head(body(x)))


def dense_twin(model, images):
    """The logits from the features in front of the last weights, in NumPy."""
    layer = [one for one in model.layers if one.weights][-1]
    pooled = next(one for one in model.layers if isinstance(one, layers.GlobalAveragePooling2D))
    features = np.asarray(keras.Model(model.inputs[0], pooled.output)(images), "float64")
    kernel, *bias = (np.asarray(w, "float64") for w in layer.weights)
    return features @ kernel.reshape(kernel.shape[-2:]) + (bias[0] if bias else 0)


@pytest.mark.parametrize("name", SOFTMAX)
def test_logits_in_front_of_a_softmax(name):
    model, images = model_with(SOFTMAX[name]), draw(3, *SHAPE)
    logits, expected = np.asarray(logits_of(model)(images)), dense_twin(model, images)
    np.testing.assert_allclose(logits, expected, atol=2e-6)
    np.testing.assert_allclose(probabilities_of(model)(images), special.softmax(expected, axis=-1), atol=1e-6)
    np.testing.assert_allclose(probabilities_of(model)(images), model(images), atol=1e-6)


@pytest.mark.parametrize("name", SIGMOID)
def test_logits_in_front_of_a_sigmoid(name):
    model, images = model_with(SIGMOID[name]), draw(3, *SHAPE)
    np.testing.assert_allclose(logits_of(model)(images), dense_twin(model, images), atol=2e-6)
    np.testing.assert_allclose(probabilities_of(model)(images), model(images), atol=1e-6)
    log_p = Classifier(model).log_probabilities(images)
    np.testing.assert_allclose(log_p, special.log_expit(dense_twin(model, images)), atol=2e-6)


@pytest.mark.parametrize("head", ["log_softmax", "log_sigmoid"])
def test_logarithms_of_probabilities_are_no_logits(head):
    model, images = model_with(lambda h: layers.Dense(4, activation=head)(h)), draw(3, *SHAPE)
    np.testing.assert_allclose(logits_of(model)(images), dense_twin(model, images), atol=2e-6)
    np.testing.assert_allclose(np.log(probabilities_of(model)(images)), model(images), atol=2e-6)


def test_a_model_that_ends_with_logits_is_as_it_is():
    model, images = model_with(lambda h: layers.Dense(4)(h)), draw(3, *SHAPE)
    np.testing.assert_array_equal(logits_of(model)(images), model(images))
    np.testing.assert_allclose(probabilities_of(model)(images), special.softmax(model(images), axis=-1), atol=1e-6)


def test_logits_survive_where_probabilities_are_zero():
    """A logarithm of the probabilities would be minus infinity."""
    x = keras.Input((1, 1, 1))
    model = keras.Model(x, layers.Dense(2, activation="softmax")(layers.Flatten()(x)))
    model.set_weights([np.array([[300.0, -300.0]]), np.array([1.0, 2.0])])
    images = np.ones((1, 1, 1, 1), "float32")
    assert float(model(images)[0, 1]) == 0
    np.testing.assert_array_equal(logits_of(model)(images), [[301, -298]])
    np.testing.assert_allclose(Classifier(model).log_probabilities(images), [[0, -599]])


def nested():
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(5, 3, activation="relu"), layers.Flatten()])
    deeper = keras.Sequential([keras.Input((80,)), layers.Dense(4, activation="softmax")])
    x = keras.Input(SHAPE)
    return filled(x, deeper(inner(x * 2) + 1))


def shared():
    """The layer that ends the model is called twice; only its last softmax is a head."""
    x = keras.Input(SHAPE)
    dense = layers.Dense(5, activation="softmax")
    return filled(x, dense(dense(body(x))))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.dense = layers.Flatten(), layers.Dense(3, activation="softmax")

    def call(self, x):
        return self.dense(self.flat(x) * 2)


def subclassed():
    model = Subclassed()
    model(draw(1, *SHAPE))
    return model


@pytest.mark.parametrize("build", [nested, shared, subclassed])
def test_logits_of_models_of_other_kinds(build):
    model, images = build(), draw(3, *SHAPE)
    logits = np.asarray(logits_of(model)(images), "float64")
    assert logits.min() < 0 or logits.max() > 1, "the softmax is still there"
    np.testing.assert_allclose(special.softmax(logits, axis=-1), model(images), atol=1e-6)
    np.testing.assert_allclose(logits, pane_keras.wrap(model).trace(images).logits(), atol=2e-6)


def test_a_wrapped_model_is_taken_as_the_model():
    model, images = model_with(SOFTMAX["fused"]), draw(2, *SHAPE)
    np.testing.assert_array_equal(logits_of(pane_keras.wrap(model))(images), logits_of(model)(images))


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16"])
def test_logits_have_the_dtype_of_the_layer(dtype):
    policy = keras.dtype_policies.DTypePolicy(dtype)
    x = keras.Input(SHAPE, dtype="float64" if dtype == "float64" else "float32")
    y = layers.Flatten(dtype=policy)(x)
    model = filled(x, layers.Dense(4, activation="softmax", dtype=policy)(y))
    images = draw(2, *SHAPE)
    logits = logits_of(model)(images)
    assert keras.backend.standardize_dtype(logits.dtype) == policy.compute_dtype
    assert Classifier(model).logits(images).dtype == "float64"
    np.testing.assert_allclose(ops.softmax(logits), model(images), atol=1e-3 if "16" in dtype else 1e-15)


def nodes_of(model):
    parts = [*model._flatten_layers(), *getattr(model, "operations", ())]
    return [(len(part._inbound_nodes), len(part._outbound_nodes)) for part in parts]


def assert_left_as_it_was(model):
    before, weights = nodes_of(model), [w.numpy() for w in model.weights]
    keras.backend.clear_session()
    logits_of(model)
    assert nodes_of(model) == before
    assert [*map(np.array_equal, weights, model.weights)] == [True] * len(weights)
    assert layers.Dense(1).name == "dense"


@pytest.mark.parametrize("name", SOFTMAX)
def test_a_model_with_any_head_is_left_as_it_was(name):
    model = model_with(SOFTMAX[name])
    model.compile(loss=lambda y, z: 0.0)
    assert_left_as_it_was(model)


@pytest.mark.parametrize("build", [nested, shared, subclassed])
def test_a_model_of_any_kind_is_left_as_it_was(build):
    assert_left_as_it_was(build())


def test_the_weights_are_shared():
    model, images = model_with(SOFTMAX["fused"]), draw(2, *SHAPE)
    logits, classifier = logits_of(model), Classifier(model)
    before = classifier.logits(images)
    kernel = model.layers[-1].kernel
    kernel.assign(2 * kernel)
    model.layers[-1].bias.assign(2 * model.layers[-1].bias)
    np.testing.assert_allclose(logits(images), 2 * before, rtol=1e-6)
    np.testing.assert_allclose(classifier.logits(images), 2 * before, rtol=1e-6)


@pytest.mark.parametrize("name", SOFTMAX)
def test_the_model_of_logits_can_be_cloned(name):
    """Libraries that clone what they explain, as tf-keras-vis does, find layers with outputs of their own."""
    logits, images = logits_of(model_with(SOFTMAX[name])), draw(2, *SHAPE)
    clone = keras.models.clone_model(logits)
    clone.set_weights(logits.get_weights())
    np.testing.assert_allclose(clone(images), logits(images), atol=1e-6)
    inner = keras.Model(clone.inputs[0], clone.layers[1].output)(images)
    np.testing.assert_allclose(inner, logits.layers[1](images), atol=1e-6)


class OwnDense(layers.Dense):
    """It may compute anything."""


def test_a_fused_head_of_another_class_says_what_to_do():
    model = model_with(lambda h: OwnDense(4, activation="softmax", name="own")(h))
    with pytest.raises(ModelError, match=r"layer 'own' of class OwnDense.*fused softmax.*activation=None and add"):
        logits_of(model)


@pytest.mark.parametrize("name", ["hard_sigmoid", "sparse_sigmoid", "sparsemax"])
def test_probabilities_without_logits_are_refused(name):
    with pytest.raises(ModelError, match=rf"ends with the activation {name} .*no logits are known"):
        logits_of(model_with(lambda h: layers.Dense(4, activation=name)(h)))


def own_softmax(x):
    return ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True)


def test_an_activation_that_is_not_known_is_refused():
    with pytest.raises(ModelError, match=r"the activation own_softmax \(layer 'top'\)"):
        logits_of(model_with(lambda h: layers.Dense(4, activation=own_softmax, name="top")(h)))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_other_activations_belong_to_the_logits(activation):
    model, images = model_with(lambda h: layers.Dense(4, activation=activation)(h)), draw(3, *SHAPE)
    np.testing.assert_array_equal(logits_of(model)(images), model(images))


@pytest.mark.parametrize("softmax", [layers.Softmax(axis=1), lambda x: ops.softmax(x, axis=1)])
def test_a_softmax_over_another_axis_is_refused(softmax):
    x = keras.Input((4, 4, 1))
    model = keras.Model(x, layers.Flatten()(softmax(layers.Dense(2)(x))))
    with pytest.raises(ModelError, match=r"softmax over axis 1 of \(None, 4, 4, 2\)\. Expected one over the classes"):
        logits_of(model)


def test_a_softmax_at_each_place_is_refused():
    x = keras.Input((4, 4, 1))
    model = keras.Model(x, layers.Flatten()(layers.Dense(2, activation="softmax")(x)))
    with pytest.raises(ModelError, match=r"softmax over axis -1 of \(None, 4, 4, 2\)"):
        logits_of(model)


def test_several_outputs_are_refused(two_outputs):
    with pytest.raises(ModelError, match=r"one input and one output.*\['kind', 'size'\].*keras\.Model\("):
        logits_of(two_outputs)


def test_several_inputs_are_refused(two_inputs):
    with pytest.raises(
        ModelError, match=r"one input and one output.*\['left', 'right'\].*of the picture alone, whose call"
    ):
        logits_of(two_inputs)


def test_an_output_with_places_is_refused():
    x = keras.Input(SHAPE)
    with pytest.raises(ModelError, match=r"output \(batch, classes\).*\(None, 6, 6, 3\)"):
        logits_of(keras.Model(x, layers.Dense(3)(x)))


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelError, match=r"Expected a built keras\.Model"):
        logits_of(lambda x: x)


class Branching(keras.Model):
    def call(self, x):
        return x if float(ops.sum(x)) > 0 else -x


def test_a_model_without_a_graph_is_refused():
    model = Branching()
    model(draw(1, *SHAPE))
    with pytest.raises(UnsupportedLayerError, match="cannot be read as a graph"):
        logits_of(model)
