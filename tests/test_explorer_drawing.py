"""How the explorer draws: places of a layer, PNGs of maps and pictures, numbers beyond any float."""

import io

import numpy as np
import pytest
from PIL import Image

from pane_keras.explorer.colours import map_png, number, picture_png
from pane_keras.explorer.grid import Grid
from pane_keras.explorer.picture import ClickablePicture, fitted
from pane_keras.explorer.samples import Sample
from pane_keras.explorer.words import bar, part_caption, status, trail

ZERO = (247, 247, 247)
SHAPES = [((4,), -1), ((5, 3), -1), ((3, 5), 0), ((4, 6, 3), -1), ((3, 4, 6), 0), ((2, 4, 6, 3), -1), ((1, 1, 1), -1)]


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_units_and_places_are_one_to_one(shape, axis):
    grid = Grid.of(shape, axis)
    values = np.arange(np.prod(shape)).reshape(shape)
    seen = set()
    for row in range(grid.rows):
        for column in range(grid.columns):
            for channel in range(grid.channels):
                unit = grid.unit(row, column, channel)
                assert grid.place(unit) == (row, column, channel)
                assert grid.at(values, row, column)[channel] == values[unit]
                chosen = None if grid.channel_axis is None else channel
                assert grid.plane(values, chosen)[row, column] == values[unit]
                seen.add(unit)
    assert len(seen) == values.size


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_planes_and_totals_keep_the_sum(shape, axis):
    grid, values = Grid.of(shape, axis), np.random.default_rng(3).normal(size=shape)
    assert grid.plane(values).sum() == pytest.approx(values.sum())
    assert grid.totals(values).sum() == pytest.approx(values.sum())
    assert len(grid.totals(values)) == (shape[0] if len(shape) == 1 else shape[axis])


def test_one_number_has_one_place():
    grid = Grid.of(())
    assert (grid.rows, grid.columns, grid.unit(0, 0), grid.place(())) == (1, 1, (), (0, 0, 0))


def test_a_grayscale_input_is_a_picture_and_a_series_is_not():
    assert Grid.of((7, 6), -1, np.zeros((7, 6, 3))).space == (7, 6)
    assert Grid.of((7, 6), -1).space == (7,)
    assert Grid.of((7, 6), -1, np.zeros((6, 7))).space == (7,)


def test_colours_are_centred_at_zero_and_saturate():
    drawn = pixels(map_png(np.array([[0.0, 2.0, 1.0], [-1.0, -2.0, -9.0]]), 2.0))
    assert tuple(drawn[0, 0]) == ZERO
    assert drawn[0, 1, 0] > drawn[0, 1, 2] + 50  # red
    assert drawn[1, 1, 2] > drawn[1, 1, 0] + 50  # blue
    assert tuple(drawn[1, 2]) == tuple(drawn[1, 1])
    lightness = drawn.astype(int).sum(axis=-1)
    assert lightness[0, 1] < lightness[0, 2] < lightness[0, 0]


def test_bars_go_up_and_down_from_zero():
    drawn = pixels(map_png(np.array([[1.0, -0.5, 0.0]]), 1.0, as_bars=True))
    filled = (drawn != 224).any(axis=-1)
    half = len(drawn) // 2
    assert filled[:half, 0].all()
    assert not filled[half:, 0].any()
    assert not filled[:half, 1].any()
    assert filled[half:, 1].mean() == pytest.approx(0.5, abs=0.05)
    assert not filled[:, 2].any()


@pytest.mark.parametrize("top", [255, 1.0])
def test_pictures_keep_their_colours(top):
    picture = np.random.default_rng(5).integers(0, 256, (6, 5, 3))
    picture[0, 0] = 255
    shown = pixels(picture_png(picture * top / 255))
    assert np.abs(shown.astype(int) - picture).max() <= 1


def test_other_values_are_stretched_to_grey():
    shown = pixels(picture_png(np.array([[-1.0, 0.0], [1.0, 3.0]])))
    np.testing.assert_array_equal(shown[..., 0], [[0, 64], [128, 255]])
    assert picture_png(np.zeros((2, 2)))


def test_an_input_is_looked_at_as_a_picture_or_a_row(residual_trace):
    looks = Sample("a", None, lambda: residual_trace, 1).looks()
    np.testing.assert_allclose(looks, np.asarray(residual_trace._record.slots[0].value)[1].sum(axis=-1), rtol=1e-6)


@pytest.mark.parametrize(("value", "scale"), [(1.0, 2000), (0.75, -3000), (3.0, 5)])
def test_numbers_beyond_any_float(value, scale):
    digits, exponent = number(value, scale).split("e")
    assert np.log2(float(digits)) + int(exponent) * np.log2(10) == pytest.approx(np.log2(value) + scale, abs=0.01)
    assert number(-value, scale) == "-" + number(value, scale)


def test_numbers_that_a_float_holds():
    assert (number(0.0, 900), number(1.5), number(-0.000123456)) == ("0", "1.5", "-0.000123")


def test_rounding_up_to_ten_moves_the_exponent():
    assert number(0.9999, 10) == "1.02e+03"
    assert number(999.9 / 1024, 10) == "1e+03"


def test_sizes_on_the_screen():
    assert fitted((7, 7), 200) == (200, 200)
    assert fitted((50, 100), 200) == (200, 100)
    assert fitted((1, 1280), 200) == (200, 100)
    assert fitted((1, 1), 200) == (200, 100)
    assert fitted((900, 4), 200) == (100, 200)


def test_values_reach_the_front_end_in_order():
    picture = ClickablePicture(100)
    values = np.array([[1.0, 1e300], [-2.0, 0.5]])
    picture.show(b"png", values.shape, values)
    np.testing.assert_array_equal(np.frombuffer(picture.values, "<f8"), values.ravel())
    assert (picture.rows, picture.columns, picture.width, picture.height) == (2, 2, 100, 100)
    picture.show(b"png", (3, 1))
    assert picture.values == b""


def test_words_are_escaped_and_stay_on_one_line():
    assert "&lt;b&gt; two" in status("<b>\n two", "error")
    assert trail(["a", "<i>"]).endswith("a &#8592; <b>&lt;i&gt;</b>")


def test_captions_say_where_colours_end():
    assert "-2<img" in part_caption(2.0, 5.0, 0)
    assert 'total <span class="pane-total">5</span>' in part_caption(2.0, 5.0, 0)
    assert "zero everywhere" in part_caption(0, 0.0, 0)
    assert "left:25.0%;width:25.0%" in bar(-0.5, ["1"])
    assert "left:50.0%;width:50.0%" in bar(1, ["1"])
