"""Every error of the library by its message, and what users may register."""

import importlib

import keras
import numpy as np
import pytest
from keras import layers, ops

import pane_keras
import pane_keras.backend
from pane_keras import ExcitationLayer, PaneError, errors, pieces, registry, wrap
from pane_keras.errors import (
    DenseSizeError,
    InputError,
    ModelError,
    NonFiniteError,
    NoPathError,
    ReadOnlyError,
    ReleasedError,
    SaveError,
    TargetError,
    UnknownLayerError,
    UnsupportedLayerError,
)


def model_of(*stack, shape=(4,)):
    return keras.Sequential([keras.Input(shape), *stack], name="model")


@pytest.fixture
def trace(residual_trace):
    return residual_trace


@pytest.fixture
def scores(trace):
    return trace.between("stem", "scores")


@pytest.fixture
def side(trace):
    return trace.between("stem", "side")


# The family


def test_one_family():
    family = [c for c in vars(errors).values() if isinstance(c, type)]
    assert len(family) >= 11
    for cls in family:
        assert issubclass(cls, PaneError)
        assert cls.__doc__
        if cls is not PaneError:
            assert issubclass(
                cls,
                {DenseSizeError: MemoryError, ReadOnlyError: AttributeError, ReleasedError: RuntimeError}.get(
                    cls, ValueError
                ),
            )
    assert not issubclass(PaneError, ValueError)


def one_line(caught):
    return "\n" not in str(caught.value)


# Models


def test_not_a_model():
    for thing, name in ((layers.Dense(3), "Dense"), ("model.keras", "str"), (None, "NoneType"), (keras.Model, "type")):
        with pytest.raises(ModelError, match=rf"Expected a built keras\.Model\. Received: {name}\. Load") as caught:
            wrap(thing)
        assert one_line(caught)


def test_a_functional_model_that_overrides_call(inputs_for):
    class Doubled(keras.Model):
        def call(self, x, training=None, mask=None):
            return 2 * super().call(x)

    x = keras.Input((4,))
    model = Doubled(x, layers.Dense(2)(x))
    data = inputs_for(model)
    expected = model(data)
    np.testing.assert_allclose(wrap(model).trace(data).logits(), expected, rtol=1e-6)


def test_a_subclass_that_only_adds_a_training_step_is_a_model():
    class Trained(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    x = keras.Input((4,))
    model = Trained(x, layers.Dense(2)(x))
    data = np.ones((1, 4), "float32")
    np.testing.assert_allclose(wrap(model).trace(data).logits(), model(data), rtol=1e-6)


def test_an_unbuilt_sequential():
    with pytest.raises(
        ModelError, match=r"'empty', whose input shape is not known yet\. Add a keras\.Input as its first"
    ):
        wrap(keras.Sequential([layers.Dense(3)], name="empty"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layer", ["stem", "stem_norm"])
def test_weights_that_are_not_finite(residual, value, layer):
    weight = residual.get_layer(layer).weights[-1]
    broken = weight.numpy().copy()
    broken.flat[1] = value
    weight.assign(broken)
    with pytest.raises(NonFiniteError, match=f"Weight '{weight.path}' of model 'residual' holds a NaN or an infinity"):
        wrap(residual)


def test_weights_that_stop_being_finite_after_wrapping(residual, inputs_for):
    """The weights are shared, so training that diverges reaches a model that was wrapped before."""
    pane, x = wrap(residual), inputs_for(residual)
    kernel = residual.get_layer("scores").kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(NonFiniteError, match=kernel.path):
        pane.trace(x).saliency(0)


# Layers


class Unknown(layers.Layer):
    def call(self, x):
        return x * x


class Doubled(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


class Renamed(layers.Dense):
    """Nothing of what it computes is changed."""

    def get_config(self):
        return {**super().get_config(), "note": 1}


def test_an_unregistered_layer():
    with pytest.raises(UnsupportedLayerError) as caught:
        wrap(model_of(Unknown(name="odd")))
    for word in ("'odd'", "class Unknown", "no excitation rule", "@pane_keras.register(Unknown)", "pane_keras.pieces"):
        assert word in str(caught.value)
    assert one_line(caught)


def test_an_unregistered_layer_inside_a_nested_model():
    inner = keras.Sequential([keras.Input((4,)), Unknown(name="odd")], name="inner")
    with pytest.raises(UnsupportedLayerError, match="'inner/odd'"):
        wrap(model_of(inner, layers.Dense(2)))


def test_a_single_layer_without_a_rule():
    with pytest.raises(UnsupportedLayerError, match="'odd' of class Unknown has no excitation rule"):
        ExcitationLayer(Unknown(name="odd"))


def test_a_subclass_that_overrides_call():
    with pytest.raises(
        UnsupportedLayerError,
        match=r"'twice' of class Doubled redefines call of Dense, whose rule may not .*register\(Doubled\)",
    ):
        wrap(model_of(Doubled(3, name="twice")))


def test_an_instance_that_overrides_call():
    layer = layers.Dense(3, name="patched")
    model = model_of(layer)
    layer.call = lambda x: 2 * ops.matmul(x, layer.kernel)
    with pytest.raises(UnsupportedLayerError, match="'patched'"):
        wrap(model)


def test_a_harmless_subclass_keeps_the_rule(inputs_for):
    model = model_of(Renamed(3, name="d"))
    x = inputs_for(model)
    np.testing.assert_allclose(wrap(model).trace(x).logits(), model(x), rtol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda f: layers.Dense(3, activation=f, name="odd"), lambda f: layers.Activation(f, name="odd")]
)
def test_an_unregistered_activation(make, inputs_for):
    def cube(x):
        return x**3

    model = model_of(make(cube))
    with pytest.raises(
        UnsupportedLayerError, match=r"'odd' has the activation 'cube', .*@pane_keras\.register_activation\(function\)"
    ):
        wrap(model).trace(inputs_for(model))


def test_an_unregistered_layer_as_activation(inputs_for):
    model = model_of(layers.Dense(3, activation=Unknown(name="odd"), name="d"))
    with pytest.raises(UnsupportedLayerError, match="class Unknown has no excitation rule"):
        wrap(model).trace(inputs_for(model))


def test_a_quantized_layer(inputs_for):
    model = model_of(layers.Dense(8, name="small"))
    model.quantize("int8")
    with pytest.raises(UnsupportedLayerError, match=r"'small' is quantized \(int8\), .* Wrap the model before it"):
        wrap(model).trace(inputs_for(model))


@pytest.mark.parametrize(
    "make", [lambda: layers.Dropout(0.5, name="noisy"), lambda: layers.BatchNormalization(name="noisy")]
)
def test_training_inside_the_model(make):
    x = keras.Input((4,))
    with pytest.raises(
        UnsupportedLayerError, match=r"'noisy' is called with training=True .* Rebuild the model without"
    ):
        wrap(keras.Model(x, make()(x, training=True)))


def test_training_of_a_nested_model():
    inner = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, name="noisy")], name="inner")
    x = keras.Input((4,))
    with pytest.raises(UnsupportedLayerError, match="training=True"):
        wrap(keras.Model(x, layers.Dense(2)(inner(x, training=True))))


# Names and paths


def test_unknown_layers(trace):
    for ask in (lambda n: trace[n], lambda n: trace.between(n, "scores"), lambda n: trace.between("stem", n)):
        with pytest.raises(
            UnknownLayerError, match=r"no layer 'branh'\. Did you mean 'branch'\? Its 10 layers are listed"
        ):
            ask("branh")
        with pytest.raises(UnknownLayerError, match=r"no layer 'qqq'\. Its 10 layers are listed by `list\(trace\)`"):
            ask("qqq")
        with pytest.raises(UnknownLayerError, match="no layer 3"):
            ask(3)


def test_a_layer_of_a_nested_model_is_suggested(nested, inputs_for):
    trace = wrap(nested).trace(inputs_for(nested))
    with pytest.raises(UnknownLayerError, match="Did you mean 'backbone/conv1'"):
        trace["backbone/conv"]


def test_no_path(trace):
    with pytest.raises(
        NoPathError, match=r"No path leads from 'add' to 'stem': .*'add' emits excites 'stem'\. Swap the two"
    ):
        trace.between("add", "stem")


def test_no_path_between_branches(two_inputs, inputs_for):
    trace = wrap(two_inputs).trace(inputs_for(two_inputs))
    with pytest.raises(NoPathError, match="from 'dense_left' to 'dense_right'"):
        trace.between("dense_left", "dense_right")
    with pytest.raises(NoPathError, match="from 'left' to 'dense_right'"):
        trace.between("left", "dense_right")


def test_which_of_several_inputs(two_inputs, inputs_for):
    trace = wrap(two_inputs).trace(inputs_for(two_inputs))
    with pytest.raises(UnknownLayerError, match=r"has several inputs: say which one of \['left', 'right'\]"):
        trace.between("input", "scores")


def test_which_of_several_outputs(two_outputs, inputs_for):
    trace = wrap(two_outputs).trace(inputs_for(two_outputs))
    with pytest.raises(TargetError, match=r"has several outputs: pass output=, one of \['kind', 'size'\]"):
        trace.saliency()
    with pytest.raises(TargetError, match=r"no output 'colour'\. Its outputs are \['kind', 'size'\]"):
        trace.saliency(output="colour")
    with pytest.raises(TargetError, match=r"no output 2\. Its outputs are \['kind', 'size'\], or 0 to 1"):
        trace.saliency(output=2)


# Units, classes and weights

OUTSIDE = [(6, 0, 0), (0, 0, 3), (-7, 0, 0), (0, 0), (0, 0, 0, 0), ()]
NO_UNITS = [1.0, "abc", (0, 0, 1.5), ((0, 0, 0), (1, 1, 1)), {}, [[0, 0, 0]], np.array([0, 0, 0]), [(0, 0, 0), None]]


@pytest.mark.parametrize("unit", OUTSIDE, ids=str)
def test_units_that_lie_outside(side, unit):
    with pytest.raises(
        TargetError, match=r"lies outside layer 'side', whose shape is \(6, 6, 3\): expected one index for"
    ):
        side.map(unit)
    with pytest.raises(TargetError, match=r"lies outside layer 'side'"):
        side.map([(0, 0, 0), unit])


@pytest.mark.parametrize("unit", NO_UNITS, ids=str)
def test_what_is_no_unit(side, unit):
    with pytest.raises(
        TargetError, match=r"A unit of layer 'side' is a tuple of 3 ints, and several units are a list of"
    ):
        side.map(unit)


def test_an_int_in_a_layer_of_three_axes(side):
    with pytest.raises(TargetError, match=r"Unit \(2,\) lies outside layer 'side'"):
        side.map(2)


def test_an_empty_list_of_units(side):
    with pytest.raises(TargetError, match=r"at least one unit of layer 'side'. Received: an empty list"):
        side.map([])


def test_the_source_of_an_effect(side):
    with pytest.raises(TargetError, match=r"lies outside layer 'stem', whose shape is \(6, 6, 4\)"):
        side.effect((0, 0, 4))
    with pytest.raises(TargetError, match=r"Expected either source=, weights=, or channel= and region=, .* of 'stem'"):
        side.effect()


def test_neither_or_both(scores):
    for arguments in ({}, {"target": 1, "weights": np.ones(5)}):
        with pytest.raises(
            TargetError,
            match=r"Expected either target=, weights=, or channel= and region=, to say which units of 'scores'",
        ):
            scores.map(**arguments)


@pytest.mark.parametrize("target", [5, -6, [0, 5], [0, -6], 10**12])
def test_classes_that_lie_outside(trace, target):
    with pytest.raises(TargetError, match="lies outside 'logits', which has 5 classes: 0 to 4") as caught:
        trace.saliency(target)
    assert str(target) in str(caught.value)


@pytest.mark.parametrize("target", [[1], [0, 1, 2], (3,)])
def test_a_wrong_number_of_classes(trace, target):
    with pytest.raises(TargetError, match=f"one class for each of the 2 samples. Received: {len(target)} classes"):
        trace.saliency(target)


@pytest.mark.parametrize(
    "target", [1.0, "cat", [0.5, 1.5], np.array([1.0, 2.0]), True, [], [[0], [1]], [None, 1]], ids=str
)
def test_what_is_no_class(trace, target):
    with pytest.raises(TargetError, match="A class is an int, or one int for each sample"):
        trace.saliency(target)


def test_a_ragged_list_of_classes(trace):
    with pytest.raises(TargetError, match="A class is an int, or one int for each sample"):
        trace.saliency([[1], [1, 2]])


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 4), (5, 2), (2, 1, 5), (), (1,)])
def test_weights_of_a_wrong_shape(scores, shape):
    with pytest.raises(
        TargetError, match=r"Weights on layer 'scores' expect the shape \(5,\) or \(2, 5\)\. Received: "
    ) as caught:
        scores.map(weights=np.ones(shape))
    assert str(caught.value).endswith(f"{shape}.")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(scores, value):
    with pytest.raises(TargetError, match="Weights on layer 'scores' expect finite numbers"):
        scores.map(weights=[1, 2, value, 4, 5])
    with pytest.raises(TargetError, match="Weights on layer 'stem' expect finite numbers"):
        scores.effect(weights=np.full((6, 6, 4), value))


WEIGHTS = {
    "strings": ["a"] * 5,
    "a string": "abc",
    "ragged": [[1], [1, 2]],
    "complex": np.ones(5, complex),
    "an object": object(),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_no_real_array(scores, weights):
    with pytest.raises(TargetError, match="Weights on layer 'scores' expect"):
        scores.map(weights=weights)


def test_a_dense_pair_over_the_limit(scores):
    with pytest.raises(
        DenseSizeError,
        match=r"'stem' -> 'scores' .* Ask for map\(target=\.\.\.\), effect\(source=\.\.\.\) or channels\(\)",
    ):
        scores.dense(max_bytes=1000)


def test_saving(residual, tmp_path):
    with pytest.raises(SaveError, match=r"save the model itself, `pane\.model\.save\(path\)`, and wrap it again"):
        wrap(residual).save(tmp_path / "pane.keras")


# Inputs


@pytest.fixture
def pane(residual_pane):
    return residual_pane


WRONG_SHAPES = [(2, 6, 6, 3), (2, 5, 6, 2), (2, 6, 6), (2, 3, 6, 6, 2), (0, 6, 6, 2), ()]


@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=str)
def test_a_wrong_shape(pane, shape):
    with pytest.raises(
        InputError, match=r"Input 'picture' of model 'residual' expects the shape \(None, 6, 6, 2\)"
    ) as caught:
        pane.trace(np.ones(shape, "float32"))
    assert f"Received: {shape}" in str(caught.value)


def test_a_missing_batch_axis(pane):
    with pytest.raises(InputError, match=r"Received: \(6, 6, 2\)\. Add the batch axis: x\[None\]\."):
        pane.trace(np.ones((6, 6, 2)))


def test_no_hint_where_the_batch_axis_is_there(pane):
    with pytest.raises(InputError) as caught:
        pane.trace(np.ones((2, 5, 6, 2)))
    assert "batch axis" not in str(caught.value)


def test_a_fixed_batch_size(inputs_for):
    x = keras.Input(batch_shape=(3, 4), name="fixed")
    pane = wrap(keras.Model(x, layers.Dense(2)(x)))
    assert tuple(pane.trace(np.ones((3, 4))).saliency().sum.shape) == (3, 4)
    with pytest.raises(InputError, match=r"expects the shape \(3, 4\) .* Received: \(2, 4\)"):
        pane.trace(np.ones((2, 4)))


@pytest.mark.parametrize(
    "value", [np.full((1, 6, 6, 2), "a"), np.ones((1, 6, 6, 2), complex)], ids=["strings", "complex"]
)
def test_a_wrong_dtype(pane, value):
    with pytest.raises(InputError, match=r"Input 'picture' of model 'residual' expects real numbers. Received: dtype"):
        pane.trace(value)


@pytest.mark.parametrize("value", [None, object(), [[1, 2], [3]], {1, 2}], ids=["None", "object", "ragged", "set"])
def test_what_is_no_array(pane, value):
    with pytest.raises(
        InputError, match=r"Input 'picture' of model 'residual' expects numbers of shape .* that is no array"
    ):
        pane.trace(value)


def test_wrong_numbers_of_inputs(two_inputs):
    pane = wrap(two_inputs)
    left, right = np.ones((2, 4)), np.ones((2, 3))
    for inputs, count in (([left], 1), ([left, right, right], 3), (left, 1), ([], 0)):
        with pytest.raises(InputError, match=rf"'two_inputs' expects 2 input\(s\): left, right\. Received: {count}\."):
            pane.trace(inputs)
    with pytest.raises(InputError, match=r"Input 'left' .* expects the shape \(None, 4\)"):
        pane.trace([right, left])


def test_wrong_keys(two_inputs, residual):
    left, right = np.ones((2, 4)), np.ones((2, 3))
    for keys in ({"left": left}, {"left": left, "rigth": right}, {"left": left, "right": right, "more": right}, {}):
        with pytest.raises(
            InputError, match=r"'two_inputs' expects the inputs \['left', 'right'\]\. Received a dict with"
        ):
            wrap(two_inputs).trace(keys)
    with pytest.raises(
        InputError, match=r"expects the inputs \['picture'\]\. Received a dict with the keys \['image'\]"
    ):
        wrap(residual).trace({"image": np.ones((1, 6, 6, 2))})


def test_wrong_keys_of_a_model_of_dicts():
    a, b = keras.Input((4,), name="z"), keras.Input((3,), name="y")
    pane = wrap(keras.Model({"first": a, "second": b}, layers.Concatenate()([a, b]), name="dicts"))
    with pytest.raises(
        InputError, match=r"'dicts' expects a dict with the keys \['first', 'second'\]\. Received: \['first'\]"
    ):
        pane.trace({"first": np.ones((1, 4))})
    with pytest.raises(InputError, match=r"expects a dict with the keys \['first', 'second'\]\. Received: list"):
        pane.trace([np.ones((1, 4)), np.ones((1, 3))])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite(two_inputs, value):
    right = np.ones((2, 3))
    right[1, 2] = value
    with pytest.raises(NonFiniteError, match="Input 'right' of model 'two_inputs' holds a NaN or an infinity"):
        wrap(two_inputs).trace([np.ones((2, 4)), right])


def test_an_input_beyond_the_dtype_of_the_model(pane):
    with pytest.raises(NonFiniteError, match=r"Input 'picture'"):
        pane.trace(np.full((1, 6, 6, 2), 1e300))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_not_finite_for_whole_numbers(value):
    """Cast to the dtype of the input it would be some number."""
    x = keras.Input((3,), dtype="int32", name="ids")
    pane = wrap(keras.Model(x, layers.Flatten()(layers.Embedding(5, 2)(x)), name="model"))
    with pytest.raises(NonFiniteError, match="Input 'ids' of model 'model' holds a NaN or an infinity"):
        pane.trace([[0.0, value, 2.0]])
    np.testing.assert_array_equal(pane.trace([[0.0, 1.0, 2.0]]).logits(), pane.model(np.array([[0, 1, 2]])))


EMBEDDINGS = [layers.Embedding, *registry.exported("ReversibleEmbedding")]


@pytest.mark.parametrize("cls", EMBEDDINGS)
@pytest.mark.parametrize(
    ("ids", "worst"), [([[0, 9, 2]], 9), ([[0, 1, -6]], -6), ([[7, -8, 5]], 7), ([[0, 2**32, 1]], 2**32)]
)
def test_an_index_that_an_embedding_lacks(cls, ids, worst):
    x = keras.Input((3,), dtype="int64", name="ids")
    pane = wrap(keras.Model(x, layers.Flatten()(cls(5, 2, name="table")(x))))
    with pytest.raises(
        InputError, match=rf"'table' has 5 vectors and expects indices from 0 to 4\. Received: {worst}\."
    ) as caught:
        pane.trace(ids)
    assert one_line(caught)


def test_an_index_that_an_embedding_lacks_inside_a_graph():
    """The kernel refuses it without naming the layer; the eager pass that follows does name it."""
    ids, signal = keras.Input((3,), dtype="int64"), keras.Input((2,))
    y = layers.Concatenate()([layers.Flatten()(layers.Embedding(5, 2, name="table")(ids)), signal])
    pane = wrap(keras.Model([ids, signal], layers.Dense(3)(y)))
    pane.explain([np.array([[0, 1, 2]]), np.ones((1, 2))])
    with pytest.raises(InputError, match=r"'table' has 5 vectors and expects indices from 0 to 4\. Received: 9\."):
        pane.explain([np.array([[0, 9, 2]]), np.ones((1, 2))])


@pytest.mark.parametrize("cls", EMBEDDINGS)
def test_an_index_that_an_embedding_counts_from_the_end(cls):
    """As Keras does."""
    x = keras.Input((3,), dtype="int32", name="ids")
    pane = wrap(keras.Model(x, layers.Flatten()(cls(5, 2)(x))))
    np.testing.assert_array_equal(pane.trace([[-1, 4, -5]]).logits(), pane.model(np.array([[-1, 4, -5]])))


# Registering


class Scaled(layers.Layer):
    """A custom layer with weights: a matrix, and a bias."""

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 3), initializer="normal", name="matrix")
        self.offset = self.add_weight(shape=(3,), initializer="normal", name="offset")

    def call(self, x):
        return ops.einsum("bti,io->bto", x, self.matrix)[:, ::2] + self.offset


@pytest.fixture
def custom(own_registry, randomize):
    @pane_keras.register(Scaled)
    def excite(layer, inputs):
        def forward(x, kernel):
            return ops.einsum("bti,io->bto", x, kernel)[:, ::2]

        return pieces.linear(forward, layer.matrix, layer.offset)

    x = keras.Input((5, 4))
    h = layers.Flatten()(Scaled(name="mine")(x))
    return randomize(keras.Model(x, layers.Dense(2, name="out")(h)))


def test_a_registered_layer_with_only_its_forward_map(custom, inputs_for):
    x = inputs_for(custom)
    trace = wrap(custom).trace(x)
    np.testing.assert_allclose(trace.logits(), custom(x), rtol=1e-5, atol=1e-6)
    assert trace.check().ok
    assert trace.check().layers["mine"] < 1e-6
    matrix = np.asarray(custom.get_layer("mine").matrix)
    pair = trace.between("input", "mine")
    assert (pair.source_shape, pair.target_shape) == ((5, 4), (3, 3))
    o = np.asarray(trace["mine"].output) - np.asarray(custom.get_layer("mine").offset)
    expected = np.zeros((2, 5, 4))
    expected[:, 2] = matrix[:, 1] * (x[:, 2] != 0)
    maps = pair.map((1, 1))
    np.testing.assert_allclose(maps.sum, expected, rtol=1e-5, atol=1e-7)
    agrees = expected * x * o[:, 1, 1].reshape(2, 1, 1) > 0
    assert agrees.any()
    assert (~agrees).any()
    np.testing.assert_allclose(maps.positive, np.where(agrees, expected, 0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(maps.negative, np.where(agrees, 0, expected), rtol=1e-5, atol=1e-7)
    weights = np.random.default_rng(0).normal(size=(2, 3, 3))
    pulled, pushed = pair.map(weights=weights).positive, pair.effect(weights=x).positive
    np.testing.assert_allclose(np.sum(pulled * x, (1, 2)), np.sum(pushed * weights, (1, 2)), rtol=1e-4)


def test_a_registered_layer_keeps_the_weights_of_its_trace(custom, inputs_for):
    """The rule above hands over the variable itself, as the docstring of `register` shows."""
    trace = wrap(custom).trace(inputs_for(custom))
    before = np.array(trace.saliency(1).sum)
    custom.get_layer("mine").matrix.assign(np.zeros((4, 3)))
    np.testing.assert_array_equal(trace.saliency(1).sum, before)


@pytest.mark.parametrize("make", [lambda f: layers.Dense(3, activation=f), lambda f: layers.Activation(f)])
def test_a_registered_activation(own_registry, randomize, inputs_for, make):
    def cube(x):
        return x**3

    @pane_keras.register_activation(cube)
    def excite(activation):
        return pieces.elementwise(activation, lambda x, y: x * x)

    model = randomize(model_of(make(cube), layers.Dense(2, name="out")))
    x = inputs_for(model)
    trace = wrap(model).trace(x)
    np.testing.assert_allclose(trace.logits(), model(x), rtol=1e-5, atol=1e-6)
    assert trace.check().ok
    first = model.layers[0]
    before = x @ np.asarray(first.kernel) + np.asarray(first.bias) if first.weights else x
    row = np.asarray(model.get_layer("out").kernel)[:, 1] * before**2
    expected = (row @ np.asarray(first.kernel).T if first.weights else row) * (x != 0)
    np.testing.assert_allclose(trace.saliency(1).sum, expected, rtol=1e-4, atol=1e-6)


def test_a_registered_subclass_has_its_own_rule(own_registry, inputs_for):
    @pane_keras.register(Doubled)
    def excite(layer, inputs):
        kernel = ops.convert_to_tensor(layer.kernel)
        return pieces.linear(lambda x, k: 2 * (x @ k), kernel, 2 * layer.bias)

    model = model_of(Doubled(3, name="twice"))
    x = inputs_for(model)
    trace = wrap(model).trace(x)
    np.testing.assert_allclose(trace.logits(), model(x), rtol=1e-5)
    expected = 2 * np.asarray(model.layers[0].kernel)[:, 1] * (x != 0)
    np.testing.assert_allclose(trace.saliency(1).sum, expected, rtol=1e-5)


def test_register_returns_the_rule(own_registry):
    def excite(layer, inputs):
        return pieces.identity

    assert pane_keras.register(Unknown, Scaled)(excite) is excite
    assert pane_keras.register_activation(len)(excite) is excite
    assert registry.rule_for(Unknown(), "a").function is registry.rule_for(Scaled(), "b").function is excite


@pytest.mark.parametrize(
    "what", [layers.ReLU(), "Dense", None, 3, lambda layer, inputs: None], ids=lambda w: type(w).__name__
)
def test_registering_what_is_no_class(what):
    with pytest.raises(TypeError, match=r"Expected layer classes, as in @register\(MyLayer\)\. Received: "):
        pane_keras.register(what)
    with pytest.raises(TypeError, match="Expected layer classes"):
        pane_keras.register(Unknown, what)


def test_registering_nothing():
    """`@register()` would leave the layer unregistered in silence."""
    with pytest.raises(TypeError, match="Expected layer classes"):
        pane_keras.register()


@pytest.mark.parametrize("what", ["relu", None, 3])
def test_registering_what_is_no_activation(own_registry, what):
    with pytest.raises(TypeError, match="Expected activation functions"):
        pane_keras.register_activation(what)


@pytest.mark.parametrize("result", [None, 3, "tensor"], ids=str)
def test_a_rule_that_returns_no_piece(own_registry, inputs_for, result):
    @pane_keras.register(Unknown)
    def excite(layer, inputs):
        return inputs * inputs if result == "tensor" else result

    model = model_of(Unknown(name="odd"))
    with pytest.raises(PaneError, match=r"'odd'.*piece"):
        wrap(model).trace(inputs_for(model))


def test_a_layer_that_is_not_built():
    with pytest.raises(PaneError, match=r"'fresh'.*[Bb]uil"):
        ExcitationLayer(layers.Dense(3, name="fresh")).excite(np.ones((2, 4), "float32"))


class Halves(layers.Layer):
    def call(self, x):
        return x[:, :2], x[:, 2:]


def halved():
    x = keras.Input((4,))
    return keras.Model(x, layers.Subtract(name="minus")(list(Halves(name="halves")(x))))


def test_a_rule_with_fewer_outputs_than_its_layer(own_registry, inputs_for):
    """Refused by name, never dropped in silence."""

    @pane_keras.register(Halves)
    def excite(layer, inputs):
        return pieces.nonnegative(lambda x: x[:, :2])

    model = halved()
    with pytest.raises(UnsupportedLayerError, match="'halves'"):
        wrap(model).trace(inputs_for(model))


def test_a_rule_with_several_outputs(own_registry, inputs_for):
    """A piece may return a list of slots."""

    @pane_keras.register(Halves)
    def excite(layer, inputs):
        parts = [pieces.nonnegative(lambda x: x[:, :2]), pieces.nonnegative(lambda x: x[:, 2:])]
        return lambda record, slot: [part(record, slot) for part in parts]

    model = halved()
    x = inputs_for(model)
    trace = wrap(model).trace(x)
    assert list(trace) == ["halves[0]", "halves[1]", "minus"]
    assert trace.check().ok
    np.testing.assert_array_equal(trace.logits(), model(x))
    np.testing.assert_array_equal(trace.between("halves[1]", "minus").map(1).sum, [[0, -1]] * 2 * (x[:, 2:] != 0))


def test_another_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ImportError, match=r"TensorFlow backend.*'jax'.*KERAS_BACKEND=tensorflow"):
        importlib.reload(pane_keras.backend)


def test_a_name_that_the_package_lacks():
    with pytest.raises(AttributeError, match="'pane_keras' has no attribute 'saliency'"):
        pane_keras.saliency  # noqa: B018
