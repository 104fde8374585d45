"""One unit's map over layer after layer: the arrays are those of single queries."""

import keras
import numpy as np
import pytest
from drawn import all_axes, array_of, outside, overlapping, panels, texts, words
from keras import layers

import pane_keras
from pane_keras.errors import InputError, NoPathError, UnknownLayerError
from pane_keras.plotting import strip
from pane_keras.plotting.choosing import MOST, readable_layers, strongest_unit, unit_words


def columns(figure):
    """{title: [output, POS, NEG, POS+NEG axes]} from left to right."""
    axes = [ax for ax in all_axes(figure) if ax.get_label() != "<colorbar>"]
    count = len(axes) // 6
    assert len(axes) == 6 * count
    rows = [axes[k * count : (k + 1) * count] for k in (0, 1, 2, 4)]
    return {" ".join(column[0].get_title().split()): column for column in zip(*rows)}


def clipped(values, ax):
    limit = ax.images[0].get_clim()[1]
    return np.clip(np.asarray(values, "float64").sum(axis=-1), -limit, limit)


def test_every_column_is_a_query_of_its_own(residual_trace):
    figure = strip(residual_trace, ["add", "stem", "input"], 3, sample=1)
    found = columns(figure)
    assert list(found) == ["add 6 × 6 × 4", "stem 6 × 6 × 4", "input 6 × 6 × 2"]
    for name, (output, *parts) in zip(("add", "stem", "input"), found.values()):
        pair = residual_trace.between(name, "logits")
        maps = pair.map(target=3)
        for ax, values in zip(parts, (maps.positive, maps.negative, maps.sum)):
            np.testing.assert_array_equal(array_of(ax), clipped(values[1], ax))
        seen = np.asarray(pair.signal)[1].mean(axis=-1)
        np.testing.assert_allclose(array_of(output), (seen - seen.min()) / np.ptp(seen), atol=1e-6)
        assert parts[0].images[0].get_clim() == parts[1].images[0].get_clim()
    logit = np.asarray(residual_trace.logits())[1, 3]
    assert f"class 3 (logit {logit:.3g}), layer by layer" in texts(figure)
    assert "Every layer has limits of its own" in words(figure)
    assert "positive: towards the sign of the explained unit" in words(figure)


def test_by_default_the_top_class_from_the_last_layer_with_space_to_the_input(residual_trace):
    figure = strip(residual_trace)
    names = [title.split()[0] for title in columns(figure)]
    assert names[-1] == "input"
    assert names[0] == "concat"
    assert 3 <= len(names) <= MOST
    order = [*residual_trace]
    assert [order.index(name) for name in names[:-1]] == sorted(map(order.index, names[:-1]), reverse=True)
    top = int(np.argmax(np.asarray(residual_trace.logits())[0]))
    assert any(text.startswith(f"class {top} (logit") for text in texts(figure))


def test_an_inner_unit_and_contributions(residual_trace):
    figure = strip(residual_trace, ["stem"], (2, 3, 1), target="branch", contribution=True, sample=-1)
    (column,) = columns(figure).values()
    maps = residual_trace.between("stem", "branch").map((2, 3, 1)).contribution()
    np.testing.assert_array_equal(array_of(column[3]), clipped(maps.sum[1], column[3]))
    value = np.asarray(residual_trace["branch"].output)[1, 2, 3, 1]
    assert f"unit 2, 3, 1 of 'branch' (output {value:.3g}), layer by layer" in texts(figure)
    assert "blue lowers it" in words(figure)


def test_split_below_is_passed_on_and_said(residual_trace):
    figure = strip(residual_trace, ["input"], 0, split_below="stem")
    (column,) = columns(figure).values()
    maps = residual_trace.between("input", "logits").map(0, split_below="stem")
    np.testing.assert_array_equal(array_of(column[1]), clipped(maps.positive[0], column[1]))
    assert "at and below 'stem' only" in words(figure)


def deep(rank=2, count=5, **settings):
    """Convolutions whose coefficients overflow float32, over two space axes or one."""
    convolution = {1: layers.Conv1D, 2: layers.Conv2D}[rank]
    x = keras.Input((*[16] * rank, 1), name="signal_with_a_long_name_" * 3)
    y = layers.Rescaling(1e9, name="louder")(x)
    for k in range(count):
        y = convolution(4, 3, padding="same", activation="relu", name=f"convolution_with_a_long_name_{k}",
                        kernel_initializer=keras.initializers.RandomNormal(0, 3e4), **settings)(y)  # fmt: skip
        y = layers.Rescaling(1e-5, name=f"rescaling_{k}")(y)
    y = layers.Flatten(name="flat")(y)
    return keras.Model(x, layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(0, 1e36))(y))


@pytest.mark.parametrize("rank", [1, 2])
def test_long_names_and_huge_scales(rank, inputs_for):
    model = deep(rank)
    trace = pane_keras.wrap(model).trace(inputs_for(model, 1) * np.float32(1e-12))
    figure = strip(trace)
    assert outside(figure) == []
    assert overlapping(figure) == []
    scale = int(np.asarray(trace.between("input", "logits").map(0).log2_scale)[0])
    shown = [text for text in texts(figure) if text.startswith("× 2^")]
    assert (f"× 2^{scale}" in shown) == (scale != 0)
    assert scale != 0


def test_a_dense_network_is_drawn_as_bars(two_outputs, inputs_for):
    trace = pane_keras.wrap(two_outputs).trace(inputs_for(two_outputs, 2))
    figure = strip(trace, target="kind", sample=1)
    found = columns(figure)
    assert list(found) == ["hidden 7", "input 6"]
    unit = int(np.argmax(np.asarray(trace.between("hidden", "kind").output)[1]))
    exact = np.asarray(trace.between("hidden", "kind").map(unit).sum)[1]
    heights = [segment[1][1] for segment in found["hidden 7"][3].collections[0].get_segments()]
    np.testing.assert_allclose(heights, exact, rtol=1e-6)


class Layers:
    """A trace of layers with these shapes, as far as the choice of layers looks at it."""

    def __init__(self, shapes, inputs=("picture",)):
        self.shapes, self.input_names = shapes, inputs

    def __iter__(self):
        return iter(self.shapes)

    def __getitem__(self, name):
        return type("Emission", (), {"output": np.empty((1, *self.shapes[name]))})


def test_about_one_layer_a_resolution():
    shapes = {}
    for size in (224, 112, 56, 28, 14, 7):
        shapes |= {f"a{size}": (size, size, 8), f"b{size}": (size, size, 8), f"pad{size}": (size + 1, size + 1, 8)}
    shapes |= {"pool": (8,), "scores": (10,)}
    assert readable_layers(Layers(shapes), "logits") == ["b7", "b14", "b28", "b56", "b112", "b224", "input"]
    assert readable_layers(Layers(shapes), "b112") == ["a112", "pad224", "b224", "a224", "input"]
    first = {name: shape[::-1] for name, shape in shapes.items()}
    assert readable_layers(Layers(first), "logits", 0)[:2] == ["b7", "b14"]


def test_many_layers_of_one_size_and_many_inputs():
    tokens = {f"block{k}": (50, 16) for k in range(30)} | {"head": (16,), "scores": (4,)}
    names = readable_layers(Layers(tokens), "logits")
    assert names[0] == "block29"
    assert names[-1] == "input"
    assert 5 <= len(names) <= MOST
    assert readable_layers(Layers(tokens, ("left", "right")), "logits")[-2:] == ["left", "right"]
    many = {f"conv{k}": (2**k, 2**k, 3) for k in range(12, 0, -1)} | {"scores": (4,)}
    assert len(readable_layers(Layers(many), "logits")) == MOST


def test_the_strongest_unit():
    assert strongest_unit(np.array([-9.0, 1, 2]), "logits") == (2,)
    assert strongest_unit(np.array([[1.0, -9], [2, 3]]), "conv") == (0, 1)
    assert unit_words("conv", 1, np.array([1.0, -2.5])) == "unit 1 of 'conv' (output -2.5)"
    with pytest.raises(InputError, match=r"Layer 'loss' of shape \(\) has no unit to choose"):
        strongest_unit(np.array(1.0), "loss")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sample": 2}, InputError, "Expected a sample from 0 to 1. Received: sample=2"),
        ({"layers": []}, InputError, r"at least one layer below 'logits'. Received: layers=\[\]"),
        ({"layers": ["steam"]}, UnknownLayerError, "Did you mean 'stem'"),
        ({"layers": ["scores"], "target": "stem"}, NoPathError, "No path leads from 'scores' to 'stem'"),
    ],
)
def test_what_cannot_be_drawn(residual_trace, change, error, message):
    with pytest.raises(error, match=message):
        strip(residual_trace, **change)


def test_one_layer_may_be_named_alone(residual_trace):
    assert list(columns(strip(residual_trace, "stem"))) == ["stem 6 × 6 × 4"]
    assert "stem 6 × 6 × 4" in [" ".join(title.split()) for title in panels(strip(residual_trace, "stem"))]
