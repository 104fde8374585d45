"""Figures: what their pixels show, not only that they are there."""

import io

import keras
import numpy as np
import pytest
from agreement import draw, filled
from drawn import array_of, colour, excitation, one_map, outside, overlapping, panels, redness, rendered, texts, words
from keras import layers
from PIL import Image

import pane_keras
from pane_keras.errors import InputError, PaneError, SaveError
from pane_keras.extras import MissingExtraError
from pane_keras.maps import ExcitationMap
from pane_keras.plotting import CAPTION, plot, save_png


@pytest.fixture
def halves():
    """POS is positive in its left half, NEG negative in its top half, over (1, 8, 8, 2)."""
    positive, negative = np.zeros((2, 1, 8, 8, 2))
    positive[:, :, :4], negative[:, :4] = 1, -1
    return excitation(positive, negative)


def test_positive_is_red_negative_is_blue_and_zero_is_white(halves):
    figure = plot(halves)
    pixels, axes = rendered(figure), panels(figure)
    red, blue = colour(pixels, axes["POS"], 1, 6), colour(pixels, axes["NEG"], 6, 1)
    assert red[0] > red[1] + 60
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 60
    for name, x, y in (("POS", 6, 6), ("NEG", 6, 6), ("POS + NEG", 6, 6), ("POS + NEG", 1, 1)):
        assert colour(pixels, axes[name], x, y).min() >= 245, (name, x, y)
    np.testing.assert_array_equal(colour(pixels, axes["POS + NEG"], 1, 6), red)
    np.testing.assert_array_equal(colour(pixels, axes["POS + NEG"], 6, 1), blue)


def test_colour_bars_are_centred_at_zero_and_shared_by_pos_and_neg():
    figure = plot(excitation(np.full((1, 4, 4, 1), 3.0), np.full((1, 4, 4, 1), -1.0)))
    axes = panels(figure)
    limits = {name: ax.images[0].get_clim() for name, ax in axes.items()}
    assert limits == {"POS": (-3, 3), "NEG": (-3, 3), "POS + NEG": (-2, 2)}
    bars = [ax for ax in figure.subfigs[0].axes if not ax.get_title()]
    assert len(bars) == 2
    pixels = rendered(figure)
    low, high = colour(pixels, bars[0], -2.9, 0.5), colour(pixels, bars[0], 2.9, 0.5)
    assert low[2] > low[0] + 40
    assert high[0] > high[2] + 40


def test_channels_are_summed_and_one_extreme_pixel_does_not_bleach_the_rest():
    positive = np.ones((1, 40, 40, 3))
    positive[0, 0, 0] = 1e6
    image = panels(plot(excitation(positive, np.zeros_like(positive))))["POS"].images[0]
    assert image.get_clim() == (-3, 3)
    np.testing.assert_array_equal(np.unique(image.get_array()), 3)


def test_a_sparse_map_keeps_its_colours():
    positive = np.zeros((1, 40, 40, 1))
    positive[0, 3, 4] = 5
    assert panels(plot(excitation(positive, np.zeros_like(positive))))["POS"].images[0].get_clim() == (-5, 5)


def test_a_map_of_zeros_is_white():
    figure = plot(excitation(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1))))
    assert colour(rendered(figure), panels(figure)["POS"], 1, 1).min() >= 245


def test_the_caption_says_what_positive_means_and_the_titles_what_is_explained(halves):
    found = texts(plot(halves, note="A word more."))
    assert f"{CAPTION} A word more." in found
    assert "positive: towards the sign of the explained unit" in CAPTION
    assert "class 2, over pixels" in found
    assert "espresso, 9.1" in texts(plot(halves, titles=["espresso, 9.1"]))


@pytest.mark.parametrize(
    ("scales", "labels"),
    [((0, 0), ["coefficient"] * 2), ((57, 3), ["coefficient, in units of 2^57", "coefficient, in units of 2^3"])],
)
def test_a_scale_that_is_not_zero_is_shown(scales, labels):
    figure = plot(excitation(np.ones((1, 4, 4, 1)), -np.ones((1, 4, 4, 1)), *scales))
    assert [text for text in texts(figure) if text.startswith("coefficient")] == labels


def test_a_row_for_each_sample_with_its_picture(halves):
    pair = ExcitationMap(*[np.repeat(t, 2, axis=0) for t in (halves.positive, halves.negative, halves.sum)],
                         np.zeros(2, int), np.zeros(2, int), None, "pixels", "class 2")  # fmt: skip
    pictures = np.zeros((2, 8, 8, 3), "uint8")
    pictures[1] = (255, 128, 0)
    figure = plot(pair, pictures)
    pixels = rendered(figure)
    first, second = (part.axes[0] for part in figure.subfigs)
    assert first.get_title() == second.get_title() == "picture"
    np.testing.assert_array_equal(colour(pixels, first, 4, 4), (0, 0, 0))
    np.testing.assert_allclose(colour(pixels, second, 4, 4), (255, 128, 0), atol=1)


def test_the_signal_stands_beside_the_map_where_no_picture_is_given():
    signal = np.zeros((1, 4, 4, 5))
    signal[:, :2] = 7
    figure = plot(excitation(np.ones((1, 4, 4, 5)), np.zeros((1, 4, 4, 5)), signal=signal))
    pixels, ax = rendered(figure), panels(figure)["pixels"]
    assert colour(pixels, ax, 1, 0).tolist() == [255] * 3
    assert colour(pixels, ax, 1, 3).tolist() == [0] * 3


def test_maps_over_features_are_bars():
    values = np.array([[3.0, 0.0, -2.0, 1.0]])
    figure = plot(excitation(np.maximum(values, 0), np.minimum(values, 0)))
    pixels, ax = rendered(figure), panels(figure)["POS + NEG"]
    red, blue = colour(pixels, ax, 0, 1.5), colour(pixels, ax, 2, -1)
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 60
    assert colour(pixels, ax, 1, 1).std() < 1


def test_bars_of_one_scale_have_the_same_heights():
    axes = panels(plot(excitation(np.array([[3.0, 0.1]]), np.array([[-1.0, -0.1]]))))
    assert axes["POS"].get_ylim() == axes["NEG"].get_ylim()
    assert axes["POS"].get_ylim()[1] >= 3
    assert axes["POS + NEG"].get_ylim()[1] < 3


def test_a_layer_of_four_channels_is_no_picture_with_transparency():
    signal = np.zeros((1, 4, 4, 4))
    signal[:, :2, :, :3] = 7
    figure = plot(excitation(np.ones((1, 4, 4, 4)), np.zeros((1, 4, 4, 4)), signal=signal))
    pixels, ax = rendered(figure), panels(figure)["pixels"]
    assert ax.images[0].get_array().shape == (4, 4)
    assert colour(pixels, ax, 1, 0).tolist() == [255] * 3
    assert colour(pixels, ax, 1, 3).tolist() == [0] * 3


def test_maps_for_several_units_get_a_row_each():
    parts = [np.ones((2, 3, 4, 4, 1), "float32")] * 3
    scales = [np.zeros((2, 3), int)] * 2
    maps = ExcitationMap(*parts, *scales, None, "pixels", "conv")
    assert len(plot(maps, np.zeros((2, 4, 4, 3), "uint8")).subfigs) == 6


def test_channels_first():
    positive = np.zeros((1, 2, 4, 6))
    positive[0, :, 1, 5] = 1
    image = panels(plot(excitation(positive, np.zeros_like(positive)), channel_axis=0))["POS"].images[0]
    assert image.get_array().shape == (4, 6)
    assert image.get_array()[1, 5] == 2


def test_huge_values_are_drawn():
    top = np.full((1, 4, 4, 3), 3e38)
    figure = plot(excitation(top, np.zeros_like(top)))
    red = colour(rendered(figure), panels(figure)["POS"], 1, 1)
    assert red[0] > red[2] + 60


def test_png_is_whole_and_leaves_nothing_else(halves, tmp_path):
    from PIL import Image

    save_png(plot(halves), tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
    with Image.open(tmp_path / "figure.png") as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300


def test_a_failed_write_leaves_the_old_file(halves, tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(SaveError, match=r"Cannot write .*figure.png': No space left on device"):
        save_png(plot(halves), path)
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"old"


def test_no_folder_to_write_to(halves, tmp_path):
    with pytest.raises(SaveError, match=r"Cannot write .*No such file or directory"):
        save_png(plot(halves), tmp_path / "missing" / "figure.png")


def test_pyplot_is_left_alone(halves):
    import sys

    plot(halves)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_without_matplotlib(halves, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r'needs matplotlib.*pip install "pane-keras\[plot\]"') as caught:
        plot(halves)
    assert isinstance(caught.value, PaneError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titles": ["a", "b"]}, "a title for each of the 1 maps. Received: 2 titles"),
        ({"pictures": np.zeros((3, 8, 8, 3))}, "a picture for each sample, 1 in all. Received: 3 pictures"),
        ({"pictures": np.zeros(8)}, r"Pictures have the shape .* Received: \(8,\)"),
    ],
)
def test_what_does_not_fit_together(halves, change, message):
    with pytest.raises(InputError, match=message):
        plot(halves, **change)


def test_too_many_axes():
    with pytest.raises(InputError, match=r"over 1, 2 or 3 axes.*Received: a map of shape \(2, 2, 2, 2\)"):
        plot(excitation(np.ones((1, 2, 2, 2, 2)), np.ones((1, 2, 2, 2, 2))))


@pytest.mark.parametrize("shape", [(1, 8, 8, 2), (1, 5), (3, 1, 1, 1), (1, 9, 90, 1), (1, 64, 1), (2, 100, 6)])
def test_no_words_are_cut_or_lie_over_each_other(shape):
    maps = excitation(np.ones(shape), -np.ones(shape), 40, -200, signal=np.ones(shape))
    titles = ["a_layer_with_a_name_of_more_than_a_line/" * 6] * shape[0]
    figure = plot(maps, titles=titles, note="POS barely depends on the class here, as measured. " * 8)
    assert outside(figure) == []
    assert overlapping(figure) == []
    assert words(figure).count("as measured.") == 8


def test_a_contribution_says_so_by_itself():
    signal = np.full((1, 4, 4, 1), -2.0, "float32")
    maps = excitation(np.ones((1, 4, 4, 1)), np.zeros((1, 4, 4, 1)), 40, signal=signal)
    for figure in (maps.plot(contribution=True), plot(maps.contribution())):
        np.testing.assert_array_equal(array_of(panels(figure)["POS"]), np.full((4, 4), -2.0))
        assert "contribution, in units of 2^40" in texts(figure)
        assert "Red raises its value, blue lowers it. A contribution is the coefficient times the signal" in words(
            figure
        )
        assert "carries the sign" not in words(figure)
    assert "coefficient, in units of 2^40" in texts(maps.plot())


def test_no_contribution_of_a_contribution(halves):
    signal = np.ones((1, 8, 8, 2), "float32")
    with pytest.raises(InputError, match=r"times its signal. Received: maps that are contributions already"):
        excitation(halves.positive, halves.negative, signal=signal).contribution().plot(contribution=True)
    with pytest.raises(InputError, match=r"coefficient times its signal. Received: maps that have no signal"):
        plot(halves, contribution=True)


def test_a_series_of_one_channel_is_drawn_as_bars():
    values = np.array([3.0, 0, -2, 1]).reshape(1, 4, 1)
    figure = plot(excitation(np.maximum(values, 0), np.minimum(values, 0), signal=values))
    pixels, axes = rendered(figure), panels(figure)
    assert redness(pixels, axes["POS + NEG"], 0, 1.5) > 60
    assert redness(pixels, axes["POS + NEG"], 2, -1) < -60
    assert len(axes["pixels"].collections[0].get_segments()) == 4


def test_a_trace_plots_each_samples_class_with_the_verdict(residual_trace):
    logits, names = np.asarray(residual_trace.logits()), [f"kind {k}" for k in range(5)]
    figure = residual_trace.plot(names=names)
    maps, said = residual_trace.saliency(), words(figure)
    for part, row, sample in zip(figure.subfigs, logits, range(2)):
        top = int(np.argmax(row))
        assert part.get_suptitle() == f"kind {top} (class {top}): logit {row[top]:.3g}"
        shown = array_of(panels(part)["POS + NEG"])
        limit = panels(part)["POS + NEG"].images[0].get_clim()[1]
        exact = np.asarray(maps.sum, "float64")[sample].sum(axis=-1)
        np.testing.assert_array_equal(shown, np.clip(exact, -limit, limit))
    assert str(maps.diagnose()) in said
    assert str(maps.diagnose()) not in words(residual_trace.plot(verdict=False))


def test_a_trace_plots_a_chosen_class_and_says_where_parts_are_told_apart(residual_trace):
    figure = residual_trace.plot([3, 1], split_below="branch", verdict=False, note="Seen twice.")
    logits = np.asarray(residual_trace.logits())
    assert [part.get_suptitle() for part in figure.subfigs] == [
        f"class 3: logit {logits[0, 3]:.3g}", f"class 1: logit {logits[1, 1]:.3g}"
    ]  # fmt: skip
    assert "Positive is told from negative at and below 'branch' only" in words(figure)
    assert "Seen twice." in words(figure)
    maps = residual_trace.saliency([3, 1], split_below="branch")
    shown = panels(figure.subfigs[0])["POS"]
    exact = np.asarray(maps.positive, "float64")[0].sum(axis=-1)
    np.testing.assert_array_equal(array_of(shown), np.clip(exact, *shown.images[0].get_clim()))


def test_names_for_too_few_classes(residual_trace):
    with pytest.raises(InputError, match=r"a name for each of the 5 classes. Received: 2 names"):
        residual_trace.plot(names=["one", "two"], verdict=False)


def test_several_inputs_are_a_figure_each(two_inputs, inputs_for):
    trace = pane_keras.wrap(two_inputs).trace(inputs_for(two_inputs, 1))
    figures = trace.plot(1)
    assert list(figures) == ["left", "right"]
    maps = trace.saliency(1)
    for name, figure in figures.items():
        heights = [segment[1][1] for segment in panels(figure)["POS + NEG"].collections[0].get_segments()]
        np.testing.assert_allclose(heights, np.asarray(maps[name].sum)[0], rtol=1e-6)
        assert figure.subfigs[0].get_suptitle().startswith("class 1: logit")


def test_a_view_plots_both_parts_of_a_layer(residual_trace):
    positive = residual_trace["branch"].positive
    figure = positive.plot((2, 3, 1))
    maps = positive.excitation.map((2, 3, 1))
    assert array_of(panels(figure.subfigs[1])["NEG"]).shape == (6, 6)
    limit = panels(figure.subfigs[1])["NEG"].images[0].get_clim()[1]
    exact = np.asarray(maps.negative, "float64")[1].sum(axis=-1)
    np.testing.assert_array_equal(array_of(panels(figure.subfigs[1])["NEG"]), np.clip(exact, -limit, limit))


def test_a_notebook_shows_figures_though_pyplot_knows_nothing_of_them():
    """IPython asks an object for its PNG unless pyplot's formatter is there; both would show the same pixels."""
    figure = plot(one_map(np.eye(4)[None]))
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert shown.format == "PNG"
    assert shown.size == figure.canvas.get_width_height()
    assert (np.asarray(shown.convert("RGB")).astype(int) == rendered(figure)).mean() > 0.99


def picture_and_facts():
    picture, facts = keras.Input((4, 4, 3), name="picture"), keras.Input((5,), name="facts")
    joined = layers.Concatenate()([layers.Flatten()(picture), facts])
    model = filled([picture, facts], layers.Dense(3, name="scores")(joined))
    return pane_keras.wrap(model).trace([draw(1, 4, 4, 3), draw(1, 5)])


def test_pictures_beside_some_of_several_inputs():
    trace, black = picture_and_facts(), np.zeros((1, 4, 4, 3), "uint8")
    figures = trace.plot(1, pictures={"picture": black}, verdict=False)
    assert "picture" in panels(figures["picture"])
    np.testing.assert_array_equal(array_of(panels(figures["picture"])["picture"]), 0)
    assert "facts" in panels(figures["facts"])
    with pytest.raises(InputError, match=r"by the names of the inputs \['picture', 'facts'\]\. Received: \['pic'\]"):
        trace.plot(1, pictures={"pic": black}, verdict=False)
    with pytest.raises(InputError, match=r"by the names of the inputs \['picture', 'facts'\]\. Received: ndarray"):
        trace.plot(1, pictures=black, verdict=False)


def test_a_dict_of_the_picture_of_one_input(residual_trace):
    black = np.zeros((2, 6, 6, 3), "uint8")
    figure = residual_trace.plot(1, pictures={"picture": black}, verdict=False)
    np.testing.assert_array_equal(array_of(panels(figure.subfigs[0])["picture"]), 0)


def test_maps_are_drawn_with_their_verdict(residual_trace):
    maps = residual_trace.saliency(1)
    verdict = str(maps.diagnose())
    for figure in (maps.plot(), plot(maps), maps.plot(contribution=True), residual_trace.plot(1)):
        assert words(figure).count(verdict) == 1
    for figure in (maps.plot(verdict=False), plot(maps.samples(slice(1))), maps.contribution().plot()):
        assert "rank correlation" not in words(figure)


def test_maps_of_a_model_that_has_changed_are_drawn_and_say_so(residual, inputs_for):
    pane = pane_keras.wrap(residual)
    maps = pane.explain(inputs_for(residual), 1)
    kernel = residual.get_layer("scores").kernel
    kernel.assign(-2 * kernel)
    assert "No verdict: The model has changed since these maps were made" in words(maps.plot())
