"""Which pixels are chosen: against a slow twin that sorts a list, and by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pane_keras.errors import InputError
from pane_keras.evaluation import Ranking
from pane_keras.evaluation.ranking import BY, COUNT, WHERE, region_size

PROFILE = settings(deadline=None, max_examples=60, derandomize=True, database=None)
MAPS = np.array([[[[3.0, -4.0], [0.5, 0.0]], [[-2.0, -1.0], [1.0, 1.0]]]])
IMAGES = np.array([[[[-1.0, -1.0], [2.0, 9.0]], [[-1.0, 3.0], [0.0, 1.0]]]])
# By pixel, rows before columns, and by element, channels last.
SCORES = {
    ("value", "pixels"): [-1, 0.5, -3, 2],
    ("absolute", "pixels"): [7, 0.5, 3, 2],
    ("contribution", "pixels"): [1, 1, -1, 1],
    ("value", "elements"): [3, -4, 0.5, 0, -2, -1, 1, 1],
    ("absolute", "elements"): [3, 4, 0.5, 0, 2, 1, 1, 1],
    ("contribution", "elements"): [-3, 4, 1, 0, 2, -3, 0, 1],
}


def chosen(maps, images, where, percent, **how):
    """Flat positions of one sample that a region has."""
    maps, images, ranking = np.asarray(maps), np.asarray(images), Ranking(**how)
    (mask,) = ranking.regions(maps, images, where, [region_size(percent, ranking.size(images))])
    return np.flatnonzero(mask[0]).tolist()


def twin(maps, images, where, count, ranking):
    """Flat positions, by a sort of Python's with the position as the second key."""
    scores = []
    for row in range(maps.shape[0]):
        for column in range(maps.shape[1]):
            entries = []
            for c, x in zip(maps[row, column], images[row, column]):
                by = {"value": c, "absolute": abs(c), "contribution": c * x}
                entries.append(float(by[ranking.by]))
            scores += [sum(entries)] if ranking.count == "pixels" else entries
    key = {"top": lambda s: -s, "bottom": lambda s: s, "nearest_zero": abs}[where]
    places = sorted(range(len(scores)), key=lambda place: (key(scores[place]), place))
    return sorted(places[:count])


@pytest.mark.parametrize(("by", "count"), SCORES)
def test_scores_by_hand(by, count):
    scores = Ranking(by=by, count=count).scores(MAPS, IMAGES)
    # The map is divided by 8, the power of two above its largest entry.
    np.testing.assert_array_equal(scores.ravel() * 8, SCORES[by, count])


@pytest.mark.parametrize(
    ("by", "where", "percent", "expected"),
    [
        ("value", "top", 25, [3]),
        ("value", "top", 50, [1, 3]),
        ("value", "bottom", 25, [2]),
        ("value", "nearest_zero", 25, [1]),
        ("value", "nearest_zero", 50, [0, 1]),
        ("absolute", "top", 50, [0, 2]),
        ("absolute", "bottom", 25, [1]),
        ("contribution", "top", 25, [0]),
        ("contribution", "top", 50, [0, 1]),
        ("contribution", "bottom", 25, [2]),
        ("contribution", "nearest_zero", 75, [0, 1, 2]),
    ],
)
def test_pixels_by_hand(by, where, percent, expected):
    assert chosen(MAPS, IMAGES, where, percent, by=by) == expected


def test_elements_by_hand():
    assert chosen(MAPS, IMAGES, "top", 12.5, count="elements") == [0]
    assert chosen(MAPS, IMAGES, "top", 37.5, count="elements") == [0, 6, 7]
    assert chosen(MAPS, IMAGES, "bottom", 25, count="elements") == [1, 4]
    assert chosen(MAPS, IMAGES, "nearest_zero", 12.5, count="elements") == [3]
    assert chosen(MAPS, IMAGES, "top", 12.5, count="elements", by="contribution") == [1]


@PROFILE
@given(st.data())
def test_regions_of_any_map(data):
    """Small integers make ties; every number is exact, so the order is too."""
    shape = data.draw(st.tuples(*[st.integers(1, 4)] * 3), label="shape")
    numbers = st.lists(st.integers(-3, 3), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    maps, images = (np.reshape(data.draw(numbers), (1, *shape)).astype("float64") for _ in range(2))
    ranking = Ranking(by=data.draw(st.sampled_from(BY)), count=data.draw(st.sampled_from(COUNT)))
    where = data.draw(st.sampled_from(WHERE))
    size = int(np.prod(shape[: 2 if ranking.count == "pixels" else 3]))
    assert ranking.size(images) == size
    count = data.draw(st.integers(1, size), label="count")
    (mask,) = ranking.regions(maps, images, where, [count])
    expected = twin(maps[0], images[0], where, count, ranking)
    assert np.flatnonzero(mask[0]).tolist() == expected
    assert np.broadcast_shapes(mask.shape, images.shape) == images.shape


@PROFILE
@given(st.integers(1, 60_000), st.floats(0.001, 100))
def test_a_region_has_the_nearest_whole_number_of_positions(size, percent):
    count = region_size(percent, size)
    assert 1 <= count <= size
    assert abs(count - percent / 100 * size) <= 0.5 or count == 1


def test_region_sizes_by_hand():
    assert [region_size(p, 224 * 224) for p in (0.01, 0.1, 1, 10, 100)] == [5, 50, 502, 5018, 50176]
    assert [region_size(p, 4) for p in (0.001, 1, 37.5, 62.5, 100)] == [1, 1, 2, 3, 4]


def test_regions_grow():
    maps = np.random.default_rng(1).normal(size=(3, 9, 9, 2))
    masks = list(Ranking().regions(maps, maps, "top", [1, 4, 24, 81]))
    assert [mask[0].sum() for mask in masks] == [1, 4, 24, 81]
    assert all((small <= large).all() for small, large in itertools.pairwise(masks))
    assert masks[-1].all()


def test_samples_do_not_see_each_other():
    maps, images = np.random.default_rng(2).normal(size=(2, 3, 6, 6, 2))
    (whole,) = Ranking(by="contribution").regions(maps, images, "top", [7])
    for k in range(3):
        (alone,) = Ranking(by="contribution").regions(maps[k : k + 1], images[k : k + 1], "top", [7])
        np.testing.assert_array_equal(alone[0], whole[k])


@pytest.mark.parametrize("exponent", [-1060, -400, 400, 1000])
@pytest.mark.parametrize("how", [{}, {"by": "absolute"}, {"by": "contribution", "count": "elements"}])
def test_a_scale_does_not_matter(exponent, how):
    """Sums and products of such numbers would overflow, or lose all their bits."""
    maps, images = np.random.default_rng(3).integers(-9, 10, size=(2, 2, 5, 5, 3)).astype("float64")
    scales = np.array([0, exponent]).reshape(2, 1, 1, 1)
    scaled = np.ldexp(maps, scales)
    assert np.isfinite(scaled).all()
    images = np.ldexp(images, 500) if exponent > 0 else images
    for where in WHERE:
        (expected,), (found,) = (Ranking(**how).regions(m, images, where, [7]) for m in (maps, scaled))
        np.testing.assert_array_equal(found, expected)


def test_mantissas_of_float32_at_both_ends():
    maps = np.array([2.0**126, -(2.0**126), 2.0**-149, 0, -(2.0**-149), 2.0**127], "float32").reshape(1, 2, 3, 1)
    assert chosen(maps, maps, "top", 50) == [0, 2, 5]
    assert chosen(maps, maps, "bottom", 100 / 3) == [1, 4]
    assert chosen(maps, maps, "nearest_zero", 1) == [3]


def test_ties_go_by_position_at_both_ends():
    maps = np.zeros((1, 3, 3, 1))
    for where in WHERE:
        assert chosen(maps, maps, where, 30) == [0, 1, 2]
    assert chosen(-maps, maps, "top", 30) == [0, 1, 2]


def test_ties_by_seed():
    maps, images = np.zeros((2, 8, 8, 1)), np.ones((2, 8, 8, 1))
    maps[:, 4, 4] = 1
    positions = np.random.default_rng(5).permutation(64).tolist()
    positions.remove(36)
    assert chosen(maps, images, "top", 100 * 4 / 64, ties=5) == sorted([36, *positions[:3]])
    (mask,) = Ranking(ties=5).regions(maps, images, "top", [16])
    np.testing.assert_array_equal(mask[0], mask[1])
    assert chosen(maps, images, "nearest_zero", 25, ties=5) != chosen(maps, images, "nearest_zero", 25, ties=6)


def test_without_ties_the_seed_does_not_matter():
    maps = np.random.default_rng(4).normal(size=(2, 6, 6, 1))
    for where in WHERE:
        (plain,), (seeded,) = (Ranking(ties=t).regions(maps, maps, where, [11]) for t in (None, 9))
        np.testing.assert_array_equal(plain, seeded)


def test_one_pixel():
    assert chosen([[[[5.0]]]], [[[[0.0]]]], "bottom", 0.001, by="contribution", count="elements") == [0]


def test_maps_without_channels():
    """One number a pixel chooses whole pixels of images with several channels."""
    maps = np.array([[[[1.0], [3.0]], [[2.0], [-9.0]]]])
    assert chosen(maps, IMAGES, "top", 50) == [1, 2]
    assert chosen(maps, IMAGES, "top", 25, by="absolute") == [3]
    with pytest.raises(InputError, match=r"by='contribution' needs maps with the channels of the images"):
        chosen(maps, IMAGES, "top", 50, by="contribution")
    with pytest.raises(InputError, match=r"count='elements' needs maps.*by='value', count='pixels'"):
        chosen(maps, IMAGES, "top", 50, count="elements")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"by": "size"}, "by to be one of 'value', 'absolute', 'contribution'. Received: 'size'"),
        ({"count": "rows"}, "count to be one of 'pixels', 'elements'. Received: 'rows'"),
        ({"ties": -1}, "ties to be None or an int of at least 0. Received: -1"),
        ({"ties": "random"}, "ties to be None or an int of at least 0. Received: 'random'"),
    ],
)
def test_words_that_are_not_known(how, message):
    with pytest.raises(InputError, match=message):
        Ranking(**how)


def test_an_end_that_is_not_known():
    with pytest.raises(InputError, match=r"where to be one of 'top', 'bottom', 'nearest_zero'\. Received: 'middle'"):
        chosen(MAPS, IMAGES, "middle", 10)
