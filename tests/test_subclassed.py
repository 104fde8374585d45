"""Subclassed models and composite layers, read as the graph of what their `call` computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, traced
from architectures import randomize
from keras import layers, ops, tree
from paths import assert_like_dense, same

from pane_keras import wrap
from pane_keras.errors import ModelError, UnsupportedLayerError


def built(model, x, seed=0):
    """Returns the model, called once and with random weights."""
    model(x)
    randomize(model, np.random.default_rng(seed))
    return model


def rows(*shape, seed=0):
    return draw(2, *shape, seed=seed)


class Plain(keras.Model):
    """A residual with Dropout, which is told whether it is training."""

    def __init__(self):
        super().__init__(name="plain")
        self.first = layers.Dense(4, activation="relu", name="first")
        self.norm = layers.BatchNormalization(name="norm")
        self.drop = layers.Dropout(0.5, name="drop")
        self.out = layers.Dense(3, name="out")

    def call(self, x, training=None):
        h = self.drop(self.norm(self.first(x), training=training), training=training)
        return self.out(h + x)


class Weighted(keras.Model):
    """Weights of its own, on either side of a tensor."""

    def __init__(self):
        super().__init__(name="weighted")
        self.dense = layers.Dense(3, name="dense")

    def build(self, shape):
        self.w = self.add_weight(shape=(4,), name="w")
        self.v = self.add_weight(shape=(4,), name="v")
        self.matrix = self.add_weight(shape=(4, 4), name="matrix")
        self.dense.build((None, 4))

    def call(self, x):
        h = self.w * x + x * self.v - self.v
        h = h + self.w - ops.matmul(x, self.matrix) + x @ self.matrix * 2.0
        return self.dense(h / 2 + (self.v - x))


class Calculating(keras.Model):
    """Computes with its weights before any tensor comes in."""

    def __init__(self):
        super().__init__(name="calculating")

    def build(self, shape):
        self.log_scale = self.add_weight(shape=(4,), name="log_scale")
        self.kernel = self.add_weight(shape=(4, 5), name="kernel")

    def call(self, x):
        return ops.matmul(ops.exp(self.log_scale) * x, self.kernel[:, :3]) + ops.sum(self.kernel)


class Tables(keras.Model):
    """Sublayers in lists and dicts, called in loops."""

    def __init__(self):
        super().__init__(name="tables")
        self.stack = [layers.Dense(4, name=f"stack{k}") for k in range(3)]
        self.heads = {name: layers.Dense(2, name=name) for name in ("kind", "size")}

    def call(self, x):
        for layer in self.stack:
            x = ops.relu(layer(x)) + x
        return {name: head(x) for name, head in self.heads.items()}


class Outer(keras.Model):
    """A subclassed model and a functional one inside a subclassed model, the first one called twice."""

    def __init__(self):
        super().__init__(name="outer")
        self.inner = Plain()
        x = keras.Input((3,))
        self.tail = keras.Model(x, layers.Dense(4, name="tail_fc")(x), name="tail")

    def call(self, x, training=None):
        h = self.tail(self.inner(x, training=training))
        return self.inner(h, training=training)


class Two(keras.Model):
    """A dict of two inputs."""

    def __init__(self):
        super().__init__(name="two")
        self.left, self.right = layers.Dense(3, name="left_fc"), layers.Dense(3, name="right_fc")

    def call(self, inputs):
        return ops.tanh(self.left(inputs["left"])) * self.right(inputs["right"])


class Arithmetic(keras.Model):
    """keras.ops and Python operators, nothing else."""

    def __init__(self):
        super().__init__(name="arithmetic")

    def call(self, x):
        low, high = ops.split(x, 2, axis=1)
        h = ops.concatenate([-low, ops.maximum(low, high) * 3.0, 1.0 - high], axis=-1)
        return ops.mean(ops.reshape(h, (-1, 3, 2)), axis=1)


MODELS = {
    "plain": (Plain, lambda: rows(4)),
    "weighted": (Weighted, lambda: rows(4)),
    "calculating": (Calculating, lambda: rows(4)),
    "tables": (Tables, lambda: rows(4)),
    "outer": (Outer, lambda: rows(4)),
    "two": (Two, lambda: {"left": rows(4), "right": rows(5)}),
    "arithmetic": (Arithmetic, lambda: rows(4)),
}


@pytest.fixture(params=MODELS)
def case(request):
    """(model, inputs)"""
    make, inputs = MODELS[request.param]
    x = inputs()
    return built(make(), x), x


# Models


def test_a_subclassed_model_is_read_as_a_graph(case):
    model, x = case
    trace = traced(model, x)
    for source in trace.input_names:
        assert_like_dense(trace, source, list(trace)[-1])


def test_it_gives_the_models_own_results(case):
    model, x = case
    pane = wrap(model)
    assert same(pane(x), model(x))
    assert same(pane(x, training=False), model(x, training=False))
    assert same(pane.predict(x, verbose=0), model.predict(x, verbose=0))


def test_weights_changed_after_wrapping_are_seen(case):
    model, x = case
    pane = wrap(model)
    before = pane.trace(x)
    for weight in model.weights:
        weight.assign(weight * 1.5 + 0.25)
    trace = pane.trace(x)
    for k, value in enumerate(tree.flatten(model(x))):
        np.testing.assert_allclose(trace.logits(k), value, rtol=1e-4, atol=1e-5)
        assert not model.weights or not np.allclose(before.logits(k), value)
    assert trace.check().ok


@pytest.mark.parametrize("make", [Weighted, Calculating])
def test_coefficients_follow_changed_weights(make):
    """Also where `call` computes something from its weights before it meets a tensor."""
    x = rows(4)
    model = built(make(), x)
    pane = wrap(model)
    pane.trace(x)
    for weight in model.weights:
        weight.assign(weight * 1.5 + 0.25)
    np.testing.assert_allclose(pane.trace(x).saliency(1).sum, wrap(model).trace(x).saliency(1).sum, rtol=1e-5)
    np.testing.assert_allclose(pane.trace(x).logits(), model(x), rtol=1e-4, atol=1e-5)


def test_a_weight_multiplies_from_either_side():
    x = rows(4)
    model = built(Weighted(), x)
    w, v, matrix = (np.asarray(t) for t in (model.w, model.v, model.matrix))
    jacobian = (np.diag((w + v) / 2 - 1) - matrix / 2 + matrix) @ np.asarray(model.dense.kernel)
    expected = jacobian[:, 1] * (x != 0)
    np.testing.assert_allclose(wrap(model).trace(x).saliency(1).sum, expected, rtol=1e-4, atol=1e-6)


def test_names_of_its_layers():
    """A subclassed model inside is one layer; a functional one shows its own."""
    trace = wrap(built(Outer(), rows(4))).trace(rows(4))
    assert list(trace) == ["plain", "tail/tail_fc", "plain#2"]
    assert_like_dense(trace, "tail/tail_fc", "plain#2")


def test_dropout_inside_is_that_of_inference():
    model = built(Plain(), rows(4))
    pane, x = wrap(model), rows(4)
    np.testing.assert_allclose(pane.trace(x).logits(), model(x, training=False), rtol=1e-5, atol=1e-6)
    assert not same(pane(x, training=True), pane(x, training=False))


def test_inputs_by_name():
    x = {"left": rows(4), "right": rows(5)}
    model = built(Two(), x)
    maps = traced(model, x).saliency(1)
    assert {name: tuple(m.sum.shape) for name, m in maps.items()} == {"left": (2, 4), "right": (2, 5)}


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch_size(batch):
    model = built(Arithmetic(), rows(4))
    x = draw(batch, 4)
    np.testing.assert_allclose(wrap(model).trace(x).logits(), model(x), rtol=1e-6)


# Models that cannot be read


class WithRawTensorFlow(keras.Model):
    def call(self, x):
        return tf.nn.relu(x)


class WithBranch(keras.Model):
    def call(self, x):
        return x if ops.sum(x) > 0 else -x


class WithBranchAndLayer(keras.Model):
    def __init__(self, name):
        super().__init__(name=name)
        self.dense = layers.Dense(4)

    def call(self, x):
        h = self.dense(x)
        return h if ops.sum(h) > 0 else -h


class WithNumpy(keras.Model):
    def call(self, x):
        return ops.convert_to_tensor(np.asarray(x) * 2)


@pytest.mark.parametrize("cls", [WithRawTensorFlow, WithBranch, WithBranchAndLayer, WithNumpy])
def test_a_model_that_is_no_graph(cls):
    model = cls(name="odd")
    model(rows(4))
    message = r"'odd' cannot be read as a graph of layers: on symbolic .* keras\.ops only, without branches on values"
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        wrap(model)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_built():
    with pytest.raises(ModelError, match=r"'plain' of class Plain, .* Call it once on a sample, or model\.build\("):
        wrap(Plain())


@pytest.mark.parametrize("build", [lambda m: m.build((None, 4)), lambda m: m(rows(4)), lambda m: m.predict(rows(4))])
def test_the_remedy_for_a_model_that_is_not_built(build):
    model = Plain()
    build(model)
    x = rows(4)
    np.testing.assert_allclose(wrap(model).trace(x).logits(), model(x), rtol=1e-5, atol=1e-6)


def test_an_unknown_layer_inside_a_subclassed_model():
    class Outside(keras.Model):
        def __init__(self):
            super().__init__(name="outside")
            self.odd = Odd(name="odd")

        def call(self, x):
            return self.odd(x)

    model = Outside()
    model(rows(4))
    with pytest.raises(UnsupportedLayerError, match=r"'odd' of class Odd .*register\(Odd\)\(pane_keras\.pieces\.graph"):
        wrap(model)


class Odd(layers.Layer):
    def call(self, x):
        return x * x


class Scaled(keras.Model):
    factor = 2.0

    def call(self, x):
        return x * self.factor


def test_an_attribute_that_changes_after_wrap():
    """A number of the model is taken when it is traced, and its operations keep their names."""
    model = Scaled(name="scaled")
    model(rows(4))
    pane = wrap(model)
    names = list(pane.trace(rows(4)))
    model.factor = 3.0
    keras.Input((4,)) * 1.0  # moves the counter behind the automatic names
    trace = pane.trace(rows(4))
    np.testing.assert_array_equal(trace.logits(), model(rows(4)))
    assert list(trace) == names


class Switched(keras.Model):
    deep = False

    def call(self, x):
        return ops.relu(x) if self.deep else x * 2.0


def test_other_layers_than_when_it_was_wrapped():
    model = Switched(name="switched")
    model(rows(4))
    pane = wrap(model)
    model.deep = True
    with pytest.raises(ModelError, match=r"'switched' runs other layers than when it was wrapped\. Wrap it again"):
        pane.trace(rows(4))
