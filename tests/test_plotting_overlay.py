"""Maps laid over their picture: where it is coloured, where the picture is seen."""

import numpy as np
import pytest
from drawn import all_axes, array_of, excitation, one_map, outside, overlapping, redness, rendered, texts, words

from pane_keras.errors import InputError
from pane_keras.plotting import overlay
from pane_keras.plotting.laid_over import fading, in_cells


@pytest.fixture
def corners():
    """Over (1, 4, 4, 1): 2 at the top left, -2 at the bottom right, 1 at the top right."""
    values = np.zeros((1, 4, 4, 1))
    values[0, 0, 0], values[0, 3, 3], values[0, 0, 3] = 2, -2, 1
    return one_map(values)


def frame(figure):
    """The axes of the first picture."""
    return next(ax for ax in all_axes(figure) if ax.images)


def test_large_entries_hide_a_grey_picture_and_zero_shows_it(corners):
    picture = np.zeros((1, 4, 4, 3), "uint8")
    picture[..., 0] = 255  # what is red in the picture must not look like the map
    figure = overlay(corners, picture)
    pixels, ax = rendered(figure), frame(figure)
    red, blue, pale, clear = (redness(pixels, ax, *at) for at in ((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.5, 0.5)))
    assert red > 100
    assert blue < -90
    assert 30 < pale < red - 30
    assert clear == 0


def test_the_colours_are_symmetric_and_clear_at_zero_only():
    alpha = fading()(np.linspace(0, 1, 257))[:, 3]
    np.testing.assert_allclose(alpha, alpha[::-1])
    assert alpha[128] == 0
    assert (np.diff(alpha[128:]) > 0).all()
    assert frame_limits(overlay(one_map(np.eye(4)[None, ..., None]), np.ones((1, 4, 4)))) == (-1, 1)


def frame_limits(figure):
    return frame(figure).images[1].get_clim()


@pytest.mark.parametrize("part", ["positive", "negative", "sum"])
def test_each_part_with_its_own_scale(part):
    maps = excitation(np.full((1, 3, 3, 2), 3.0), np.full((1, 3, 3, 2), -1.0), 40, 7)
    figure = overlay(maps, np.ones((1, 3, 3)), part)
    expected = {"positive": (6, 40, "POS"), "negative": (-2, 40, "NEG"), "sum": (4, 7, "POS + NEG")}[part]
    np.testing.assert_array_equal(array_of(frame(figure)), np.full((3, 3), expected[0]))
    assert f"coefficient, in units of 2^{expected[1]}" in texts(figure)
    assert f"{expected[2]} of class 2, over pixels" in texts(figure)
    assert frame_limits(figure) == (-abs(expected[0]), abs(expected[0]))


def test_the_map_of_an_inner_layer_fills_a_picture_of_another_size():
    values = np.zeros((1, 2, 2, 1))
    values[0, 1, 0] = 1
    figure = overlay(one_map(values), np.full((1, 50, 30), 0.5))
    pixels, ax = rendered(figure), frame(figure)
    assert redness(pixels, ax, 0.02, 0.98) > 100
    assert redness(pixels, ax, 0.48, 0.52) > 100
    assert redness(pixels, ax, 0.52, 0.52) == redness(pixels, ax, 0.48, 0.48) == 0
    box = ax.get_window_extent()
    assert box.height / box.width == pytest.approx(50 / 30, rel=0.02)


def test_cells_add_up():
    values = np.arange(15.0).reshape(3, 5)
    np.testing.assert_array_equal(in_cells(values, 2), [[0 + 1 + 5 + 6, 2 + 3 + 7 + 8, 4 + 9], [21, 25, 14]])
    np.testing.assert_array_equal(in_cells(values, 1), values)
    assert in_cells(values, 100).tolist() == [[105]]


def test_cells_stand_where_their_pixels_are():
    values = np.zeros((1, 5, 5, 1))
    values[0, 4, 4] = 1
    figure = overlay(one_map(values), np.ones((1, 5, 5)), cell=2)
    pixels, ax = rendered(figure), frame(figure)
    assert ax.get_xlim() == (0, 1)
    assert redness(pixels, ax, 0.83, 0.83) > 60
    assert redness(pixels, ax, 0.77, 0.77) == 0
    assert "Channels, and squares of 2 × 2 places are summed." in words(figure)


def test_contributions(corners):
    signal = np.full((1, 4, 4, 1), -3.0, "float32")
    figure = overlay(one_map(corners.positive, signal), contribution=True)
    assert array_of(frame(figure))[0, 0] == -6
    assert "contribution" in texts(figure)
    assert "blue lowers it" in words(figure)


def test_one_pixel_and_zeros_and_huge_values():
    for value in (0.0, 3e38, 1e-38):
        figure = overlay(one_map(np.full((1, 1, 1, 1), value)), np.zeros((1, 1, 1)))
        assert (redness(rendered(figure), frame(figure), 0.5, 0.5) > 100) == (value > 0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_panel_for_each_sample_and_no_words_cut(count):
    maps = one_map(np.ones((count, 3, 3, 1)) * np.arange(1, count + 1)[:, None, None, None])
    titles = ["block7a_project_bn_with_a_long_name/" * 4] * count
    figure = overlay(maps, np.ones((count, 9, 9, 3)), titles=titles, note="Seen as it is. " * 9)
    seen = [array_of(ax)[0, 0] for ax in all_axes(figure) if len(ax.images) == 2]
    assert seen == list(range(1, count + 1))
    assert outside(figure) == []
    assert overlapping(figure) == []


def test_channels_first():
    values = np.zeros((1, 2, 3, 4))
    values[0, :, 2, 1] = 1
    figure = overlay(one_map(values, signal=values), channel_axis=0)
    assert array_of(frame(figure))[2, 1] == 2
    assert array_of(frame(figure)).shape == (3, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "POS"}, "Expected part='positive', 'negative' or 'sum'. Received: part='POS'"),
        ({"cell": 0}, "Expected cell as an int from 1 up. Received: cell=0"),
        ({"cell": 1.5}, "Expected cell as an int from 1 up. Received: cell=1.5"),
        ({"pictures": None}, "nothing to lay these maps over: they have no signal. Pass pictures="),
        ({"titles": []}, "a title for each of the 1 maps"),
    ],
)
def test_what_cannot_be_laid_over(corners, change, message):
    with pytest.raises(InputError, match=message):
        overlay(**{"maps": corners, "pictures": np.ones((1, 4, 4)), **change})


def test_a_vector_has_no_picture():
    with pytest.raises(InputError, match=r"laid over a picture of height and width. Received: a map of shape \(5,\)"):
        overlay(one_map(np.ones((1, 5)), signal=np.ones((1, 5))))
