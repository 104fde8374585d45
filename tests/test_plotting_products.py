"""The four products of Fig. 2, against dense float64 matrices of the two excitations."""

import keras
import numpy as np
import pytest
from drawn import all_axes, array_of, outside, overlapping, panels, redness, rendered, texts, words
from keras import layers

import pane_keras
from pane_keras.errors import InputError, NoPathError
from pane_keras.plotting import parts
from pane_keras.plotting.choosing import strongest_unit
from pane_keras.plotting.products import products
from pane_keras.testing import dense_network, true_values

TOLERANCE = 1e-5


@pytest.fixture
def trace(cnn, inputs_for):
    return pane_keras.wrap(cnn).trace(inputs_for(cnn))


def dense_products(trace, source, middle, target, unit, sample):
    """The same as rows of dense matrices; the first sign is that of the lower excitation."""
    network = dense_network(trace)
    s, m, t = trace._source(source), trace._source(middle), trace._target(target)
    (p1, n1), (p2, n2) = ([part[sample] for part in network.between(*ends)] for ends in ((s, m), (m, t)))
    p2, n2 = p2[unit], n2[unit]
    values = {"++": p2 @ p1, "--": n2 @ n1, "+-": n2 @ p1, "-+": p2 @ n1}
    return values | {"P": values["++"] + values["--"], "N": values["+-"] + values["-+"]}


@pytest.mark.parametrize(
    ("source", "middle", "target", "unit"),
    [
        ("input", "conv1", "conv2", (1, 2, 3)),
        ("pool1", "conv2", "logits", (1,)),
        ("conv1", "relu2", "logits", 2),
        ("input", "flatten", "logits", 0),
    ],
)
def test_products_are_those_of_dense_matrices_and_add_up(trace, source, middle, target, unit):
    for sample in range(2):
        found = products(trace, source, middle, target, unit, sample=sample)
        shape = trace.between(middle, target).target_shape
        flat = int(np.ravel_multi_index(np.atleast_1d(unit), shape))
        exact = dense_products(trace, source, middle, target, flat, sample)
        size = np.abs(exact["P"]).max() + np.abs(exact["N"]).max()
        assert size > 0
        for name, value in exact.items():
            mine = np.ldexp(found.values[name].ravel(), found.log2_scale)
            assert np.abs(mine - value).max() <= TOLERANCE * size, name
        direct = trace.between(source, target).map(unit)
        for name, whole in (("P", direct.positive), ("N", direct.negative)):
            whole = true_values(whole, direct.log2_scale)[sample]
            assert np.abs(np.ldexp(found.values[name], found.log2_scale) - whole).max() <= TOLERANCE * size, name
        assert found.around < 1e-5


def test_the_four_products_differ(trace):
    """Otherwise the test above could not tell them apart."""
    exact = dense_products(trace, "input", "conv1", "logits", 1, 0)
    sizes = [np.abs(exact[name]).max() for name in ("++", "--", "+-", "-+")]
    assert min(sizes) > 1e-3 * max(sizes)
    assert np.abs(exact["+-"] - exact["-+"]).max() > 1e-2 * max(sizes)


def test_a_layer_that_inhibits_nothing_has_two_products(trace):
    found = products(trace, "conv2", "relu2")
    assert not found.values["--"].any()
    assert not found.values["-+"].any()
    np.testing.assert_array_equal(found.values["P"], found.values["++"])


def test_the_figure_shows_the_products_on_one_scale(trace):
    figure = parts(trace, "pool1", "conv2", unit=1, sample=1)
    found, axes = products(trace, "pool1", "conv2", unit=1, sample=1), panels(figure)
    titles = {
        "++": "(++) excites what excites", "--": "(--) inhibits what inhibits", "P": "= P: (++) + (--)",
        "+-": "(+-) excites what inhibits", "-+": "(-+) inhibits what excites", "N": "= N: (+-) + (-+)",
    }  # fmt: skip
    axes = {" ".join(title.split()): ax for title, ax in axes.items()}
    limits = {axes[title].images[0].get_clim() for title in titles.values()}
    ((low, high),) = limits
    assert low == -high
    pixels = rendered(figure)
    for name, title in titles.items():
        exact = np.clip(found.values[name].sum(axis=-1), low, high)
        np.testing.assert_array_equal(array_of(axes[title]), exact)
        row, column = np.unravel_index(np.argmax(np.abs(exact)), exact.shape)
        seen = redness(pixels, axes[title], column, row)
        assert np.sign(seen) == np.sign(exact[row, column]) or abs(exact[row, column]) < 0.1 * high, name
    assert "First sign: from the source to the middle" in words(figure)
    assert {"source: output of pool1", "middle: output of conv2"} <= set(texts(figure))
    value = np.asarray(trace.logits())[1, 1]
    assert f"class 1 (logit {value:.3g}): from 'pool1' through 'conv2'" in texts(figure)


def test_by_default_the_top_class(trace):
    top = int(np.argmax(np.asarray(trace.logits())[0]))
    assert products(trace, "pool1", "conv2").unit == (top,)
    assert "lead around" not in words(parts(trace, "pool1", "conv2"))


def test_paths_around_the_middle_are_said(residual_trace):
    unit = strongest_unit(np.asarray(residual_trace["stem_relu"].output)[0], "stem_relu")
    found = products(residual_trace, "stem", "branch", "add", unit)
    direct = residual_trace.between("stem", "add").map(unit)
    whole = [true_values(t, direct.log2_scale)[0] for t in (direct.positive, direct.negative)]
    mine = [np.ldexp(found.values[name], found.log2_scale) for name in "PN"]
    share = sum(np.abs(a - b).sum() for a, b in zip(mine, whole)) / sum(np.abs(t).sum() for t in whole)
    assert found.around == pytest.approx(share)
    assert share > 0.01
    figure = parts(residual_trace, "stem", "branch", "add", unit, note="Seen twice.")
    assert f"Other paths lead around 'branch': what is shown leaves out {share:.0%}" in words(figure)
    assert "Seen twice." in words(figure)


@pytest.mark.parametrize("format", ["channels_last", "channels_first"])
def test_huge_scales_long_names_and_channels_first(format, inputs_for):
    first = format == "channels_first"
    huge = keras.initializers.RandomNormal(0, 1e25)
    x = keras.Input((2, 5, 6) if first else (5, 6, 2), name="a_long_name_of_the_input_layer_" * 3)
    y = x
    names = [f"a_convolution_with_a_name_that_is_long_{k}" * 2 for k in range(3)]
    for name in names:
        y = layers.Conv2D(3, 1, data_format=format, name=name, kernel_initializer=huge)(y)
        y = layers.Rescaling(1e-22)(y)
    model = keras.Model(
        x, layers.Dense(2, kernel_initializer=keras.initializers.RandomNormal(0, 1e36))(layers.Flatten()(y))
    )
    trace = pane_keras.wrap(model).trace(inputs_for(model, 1) * np.float32(1e-12))
    found = products(trace, "input", names[1])
    assert found.log2_scale != 0
    direct = trace.between("input", "logits").map(found.unit)
    exact = np.ldexp(np.asarray(direct.positive, "float64")[0], int(direct.log2_scale[0]) - found.log2_scale)
    np.testing.assert_allclose(found.values["P"], exact, atol=TOLERANCE * np.abs(exact).max())
    figure = parts(trace, "input", names[1], channel_axis=0 if first else -1)
    assert f"coefficient, in units of 2^{found.log2_scale}" in texts(figure)
    shapes = {array_of(ax).shape for ax in all_axes(figure) if "+" in ax.get_title()}
    assert shapes == {(5, 6)}
    assert outside(figure) == []
    assert overlapping(figure) == []


def test_a_dense_network(two_outputs, inputs_for):
    trace = pane_keras.wrap(two_outputs).trace(inputs_for(two_outputs, 1))
    figure = parts(trace, "input", "hidden", "size", 1)
    found = products(trace, "input", "hidden", "size", 1)
    ax = {" ".join(title.split()): ax for title, ax in panels(figure).items()}["(-+) inhibits what excites"]
    heights = [segment[1][1] for segment in ax.collections[0].get_segments()]
    np.testing.assert_allclose(heights, found.values["-+"])


def test_zeros(cnn):
    trace = pane_keras.wrap(cnn).trace(np.zeros((1, 8, 8, 3), "float32"))
    found = products(trace, "input", "conv1")
    assert found.log2_scale == 0
    assert found.around == 0
    assert not any(value.any() for value in found.values.values())
    assert outside(parts(trace, "input", "conv1")) == []


def test_what_cannot_be_drawn(trace):
    with pytest.raises(InputError, match=r"Expected a sample from 0 to 1. Received: sample=7"):
        parts(trace, "input", "conv1", sample=7)
    with pytest.raises(NoPathError, match="No path leads from 'conv2' to 'conv1'"):
        parts(trace, "conv2", "conv1")
