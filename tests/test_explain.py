"""`pane.explain`: the maps of `trace(x).saliency()` from one compiled function."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from architectures import randomize as random_weights
from keras import layers, ops

import pane_keras
from pane_keras import backend
from pane_keras.compiled import _Explanation
from pane_keras.errors import NonFiniteError, PaneError, TargetError
from pane_keras.maps import ExcitationMap
from pane_keras.testing import channels
from pane_keras.wrapping import PaneModel

# Compiled, the same kernels may add up in another order: relative to the largest entry of D, the sum of |terms|.
TOLERANCE = 1e-5


def sequences():
    x = keras.Input((3, 4), name="steps")
    y = layers.LSTM(3, return_sequences=True, name="lstm")(x)
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 2, name="attend")(y, y))
    return filled(x, layers.Dense(3, activation="softmax", name="scores")(layers.GlobalAveragePooling1D()(y)))


def perceptron():
    x = keras.Input((6,))
    y = layers.PReLU()(layers.Dense(8, activation="gelu", name="hidden")(x))
    return filled(x, layers.Dense(4, name="scores")(y))


def beyond_float32():
    model = keras.Sequential([keras.Input((6,)), *(layers.Dense(6, use_bias=False) for _ in range(5))])
    model.set_weights([np.random.default_rng(k).integers(-3, 4, (6, 6)) * 2.0**40 for k in range(5)])
    return model


@pytest.fixture
def made(request):
    """Function name -> model: one of those above, or a fixture of conftest.py."""
    own = {"sequences": sequences, "perceptron": perceptron, "beyond float32": beyond_float32}
    return lambda name: own[name]() if name in own else request.getfixturevalue(name)


@pytest.fixture(scope="module")
def warm():
    """A perceptron that has explained a class."""
    pane = pane_keras.wrap(perceptron())
    pane.explain(draw(2, 6), 0)
    return pane


@pytest.fixture
def runs(monkeypatch):
    """The list of batch sizes for which the forward pass has run, or was traced into a graph."""
    seen, plain = [], PaneModel._run
    monkeypatch.setattr(
        PaneModel, "_run", lambda self, tensors: seen.append(tensors[0].shape[0]) or plain(self, tensors)
    )
    return seen


def assert_same(compiled, eager):
    """Maps, or dicts of them, agree in S and D; what they say of themselves is equal."""
    if isinstance(eager, dict):
        assert list(compiled) == list(eager)
        for name in eager:
            assert_same(compiled[name], eager[name])
        return
    assert type(compiled) is ExcitationMap
    assert (compiled.over, compiled.of, compiled.axes) == (eager.over, eager.of, eager.axes)
    np.testing.assert_array_equal(compiled.signal, eager.signal)
    found, expected = channels(compiled), channels(eager)
    for mine, twin in zip(found, expected):
        assert mine.shape == twin.shape
        assert np.abs(mine - twin).max() <= TOLERANCE * np.abs(expected[1]).max()


CASES = {
    "cnn": [{}, {"target": 1}, {"target": [3, 0], "split_below": "conv1"}],
    "residual": [{}, {"split_below": "add"}],
    "two_inputs": [{}, {"target": 1, "split_below": "dense_left"}],
    "two_outputs": [{"output": "kind"}, {"output": 1, "target": 0}, {"output": "size", "split_below": "hidden"}],
    "sequences": [{"target": 2, "split_below": "lstm"}],
    "beyond float32": [{}, {"target": 3}],
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_saliency_also_after_the_weights_have_changed(made, inputs_for, name):
    """The compiled function reads the weights anew each time."""
    model = made(name)
    pane, x = pane_keras.wrap(model), inputs_for(model)
    x = x * np.float32(2.0**-100) if name == "beyond float32" else x
    for how in CASES[name]:
        assert_same(pane.explain(x, **how), pane.trace(x).saliency(**how))
    random_weights(model, np.random.default_rng(5))
    x = inputs_for(model)
    for how in CASES[name]:
        assert_same(pane.explain(x, **how), pane.trace(x).saliency(**how))


def test_coefficients_too_small_for_float32_are_swept_with_care():
    # Next to a weight of 1 that says how large rows may be, every layer shrinks the second unit's by 2**-40.
    model = keras.Sequential([keras.Input((2,)), *(layers.Dense(2, use_bias=False) for _ in range(4))])
    model.set_weights([np.diag([1.0, 2.0**-40])] * 4)
    pane, x = pane_keras.wrap(model), np.float32([[1, 2**20], [1, 2**20]])
    compiled, eager = pane.explain(x, [1, 0]), pane.trace(x).saliency([1, 0])
    np.testing.assert_array_equal(compiled.sum, eager.sum)
    np.testing.assert_array_equal(compiled.sum_log2_scale, eager.sum_log2_scale)
    assert np.all(np.asarray(compiled.sum)[[0, 1], [1, 0]] > 0)


def test_a_black_picture_is_not_swept_again(runs):
    pane = pane_keras.wrap(perceptron())
    maps = pane.explain(np.zeros((2, 6), "float32"), 0)
    assert not np.any(maps.sum)
    assert len(runs) == 1


def test_it_is_traced_once_for_each_signature(runs):
    pane = pane_keras.wrap(perceptron())
    x = draw(2, 6)
    for target in (0, 3, -1, [1, 2], np.array([3, 0])):
        pane.explain(x + 1, target)
    pane.explain(x.astype("float64"), 2)
    pane.explain(ops.convert_to_tensor(x), 2)
    assert runs == [2]
    pane.explain(draw(3, 6), 0)
    assert runs == [2, 3]
    pane.explain(x)
    pane.explain(2 * x)
    assert runs == [2, 3, 2]
    pane.explain(x, split_below="hidden")
    pane.explain(x, 1)
    assert runs == [2, 3, 2, 2]


@pytest.mark.parametrize(
    "target",
    [-1, -4, np.int64(3), [0, -1], (1, 2), np.array([3, 0], "int32"), np.array([3, 1], "uint8"), np.int8(-2)],
    ids=repr,
)
@pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
def test_any_way_to_say_a_class(warm, target, first):
    """Also before the number of classes is known."""
    pane, x = pane_keras.wrap(perceptron()) if first else warm, draw(2, 6)
    assert_same(pane.explain(x, target), pane.trace(x).saliency(target))


@pytest.mark.parametrize("classes", [[1, 3], 2])
def test_a_class_as_a_tensor(classes):
    pane, x = pane_keras.wrap(perceptron()), draw(2, 6)
    maps, expected = pane.explain(x, ops.convert_to_tensor(classes)), pane.trace(x).saliency(classes)
    for mine, twin in zip(channels(maps), channels(expected)):
        assert np.abs(mine - twin).max() <= TOLERANCE * np.abs(channels(expected)[1]).max()


WRONG = [
    ("perceptron", {"target": 4}),
    ("perceptron", {"target": -5}),
    ("perceptron", {"target": [0, 1, 2]}),
    ("perceptron", {"target": [[0, 1]]}),
    ("perceptron", {"target": [0, 9]}),
    ("perceptron", {"target": 1.0}),
    ("perceptron", {"target": "cat"}),
    ("perceptron", {"target": [[0], [1, 2]]}),
    ("perceptron", {"output": "size"}),
    ("perceptron", {"output": ["scores"]}),
    ("perceptron", {"split_below": "hiden"}),
    ("perceptron", {"split_below": ["hidden"]}),
    ("two_outputs", {}),
    ("two_outputs", {"output": 2}),
]


@pytest.mark.parametrize(("name", "how"), WRONG, ids=str)
@pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
def test_what_does_not_fit_is_said_as_saliency_says_it(made, warm, name, how, first):
    pane = warm if name == "perceptron" and not first else pane_keras.wrap(made(name))
    x = draw(2, 6)
    with pytest.raises(PaneError) as eager:
        pane.trace(x).saliency(**how)
    with pytest.raises(type(eager.value)) as compiled:
        pane.explain(x, **how)
    assert str(compiled.value) == str(eager.value)


def test_after_an_error_it_explains():
    pane, x = pane_keras.wrap(perceptron()), draw(2, 6)
    for wrong in (4, [0, 7], [1, 2, 3]):
        with pytest.raises(TargetError):
            pane.explain(x, wrong)
    assert_same(pane.explain(x, 3), pane.trace(x).saliency(3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_input_that_is_not_finite(value):
    pane, x = pane_keras.wrap(perceptron()), draw(2, 6)
    x[1, 2] = value
    with pytest.raises(NonFiniteError):
        pane.explain(x)


def test_weights_that_are_not_finite_any_more():
    model = perceptron()
    pane, x = pane_keras.wrap(model), draw(2, 6)
    pane.explain(x)
    model.get_layer("hidden").kernel.assign(np.full((6, 8), np.nan))
    with pytest.raises(NonFiniteError, match="hidden/kernel"):
        pane.explain(x)


def test_logits_with_several_axes():
    x = keras.Input((4, 3))
    pane = pane_keras.wrap(filled(x, layers.Dense(2)(x)))
    with pytest.raises(TargetError, match=r"saliency\(\) explains classes"):
        pane.explain(draw(2, 4, 3), 1)


@pytest.mark.parametrize("how", [{}, {"target": [1, 3]}, {"target": 2, "split_below": "hidden"}], ids=str)
def test_compiled_by_xla(runs, how):
    pane, x = pane_keras.wrap(perceptron()), draw(2, 6)
    compiled = pane.explain(x, xla=True, **how)
    assert_same(compiled, pane.trace(x).saliency(**how))
    pane.explain(x + 1, xla=True, **how)
    assert runs == [2, 2]


def test_dicts_and_lists_of_inputs(two_inputs, inputs_for):
    pane, (left, right) = pane_keras.wrap(two_inputs), inputs_for(two_inputs)
    expected = pane.trace([left, right]).saliency(0)
    for x in ([left, right], (left, right), {"right": right, "left": left}):
        assert_same(pane.explain(x, 0), expected)


def test_maps_of_float64():
    x = keras.Input((6,), dtype="float64")
    y = layers.Dense(8, activation="gelu", dtype="float64")(x)
    pane = pane_keras.wrap(filled(x, layers.Dense(4, dtype="float64")(y)))
    maps = pane.explain(draw(2, 6), 1)
    assert np.asarray(maps.sum).dtype == "float64"
    for mine, twin in zip(channels(maps), channels(pane.trace(draw(2, 6)).saliency(1))):
        np.testing.assert_allclose(mine, twin, rtol=1e-12, atol=1e-14)


def test_parts_beyond_float32_whose_sum_is_within():
    """S cancels from layer to layer, D does not: compiled, only D leaves the range."""
    hidden = [layers.Dense(64, use_bias=False) for _ in range(6)]
    model = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(3)])
    pane = pane_keras.wrap(model)
    for variable in model.weights:
        variable.assign(variable * 2.0**20.5)
    x = draw(2, 64) * np.float32(1e-30)
    maps, eager = pane.explain(x, 1), pane.trace(x).saliency(1)
    assert int(np.asarray(eager.log2_scale).min()) > 126
    for part in ("positive", "negative", "sum"):
        assert np.isfinite(getattr(maps, part)).all()
    assert_same(maps, eager)


@pytest.mark.parametrize("how", [{}, {"axis": (1, 2)}, {"axis": None}, {"invert": True}], ids=str)
def test_it_follows_statistics_that_were_adapted_again(how):
    """Keras makes constants of them, which a compiled function would keep."""
    x, data = keras.Input((3, 2)), draw(2, 3, 2)
    norm = layers.Normalization(**how)
    pane = pane_keras.wrap(filled(x, layers.Dense(3)(layers.Flatten()(norm(x)))))
    for scale in (1.0, 4.0):
        norm.adapt(scale * draw(8, 3, 2) + scale)
        assert_same(pane.explain(data, 0), pane.trace(data).saliency(0))
        np.testing.assert_allclose(pane.trace(data).logits(), pane.model(data), rtol=1e-5, atol=1e-6)


def test_a_trace_takes_the_statistics_that_the_model_computes_with():
    """Weights that were set without `finalize_state` change nothing in Keras."""
    x, norm = keras.Input((3,)), layers.Normalization()
    model = filled(x, layers.Dense(2)(norm(x)))
    norm.adapt(draw(8, 3))
    norm.adapt_mean.assign([5.0, 5.0, 5.0])
    pane = pane_keras.wrap(model)
    np.testing.assert_allclose(pane.trace(draw(2, 3)).logits(), model(draw(2, 3)), rtol=1e-5, atol=1e-6)


def test_what_the_compiler_refuses_is_raised(cnn, monkeypatch):
    """The eager pass names a fault that it finds as well; without one, nothing is hidden by its result."""

    def refuse(*_):
        raise backend.KernelError(None, None, "unsupported operation")

    monkeypatch.setattr(_Explanation, "__call__", refuse)
    with pytest.raises(backend.KernelError, match="unsupported operation"):
        pane_keras.wrap(cnn).explain(np.ones((1, 8, 8, 3)))
