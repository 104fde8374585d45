"""Heat maps of the channel-to-channel excitation, and the strongest pairs in words."""

import numpy as np
import pytest
from drawn import all_axes, array_of, outside, overlapping, panels, redness, rendered, texts, words

from pane_keras.channels import ChannelExcitation
from pane_keras.errors import InputError
from pane_keras.plotting import channels
from pane_keras.plotting.channel_matrix import MOST_CHANNELS, matrix_of


def matrix(positive, negative, scales=0, sum_scales=0, contribution=False, names=("below", "above")):
    """A `ChannelExcitation` of one sample with these entries (target channels, source channels)."""
    positive, negative = (np.asarray(t, "float32")[None] for t in (positive, negative))
    scales, sum_scales = (np.broadcast_to(np.int32(s), positive.shape[:2]) for s in (scales, sum_scales))
    return ChannelExcitation(positive, negative, positive + negative, scales, sum_scales, *names, contribution)


@pytest.fixture
def small():
    """Channel 2 raises channel 0 by 5, channel 0 lowers channel 1 by 4, channel 1 raises channel 1 by 1."""
    return matrix([[0, 0, 6], [0, 1, 0]], [[0, 0, -1], [-4, 0, 0]])


def test_panels_hold_the_entries_and_their_colours(small):
    figure = small.plot()
    axes, pixels = panels(figure), rendered(figure)
    for name, values in (("POS", small.positive), ("NEG", small.negative), ("POS + NEG", small.sum)):
        limit = axes[name].images[0].get_clim()
        assert limit[0] == -limit[1]
        np.testing.assert_array_equal(array_of(axes[name]), np.clip(values[0].astype(float), *limit))
    assert axes["POS"].images[0].get_clim() == axes["NEG"].images[0].get_clim()
    assert redness(pixels, axes["POS + NEG"], 2, 0.2) > 60
    assert redness(pixels, axes["POS + NEG"], 0, 1.2) < -60
    assert abs(redness(pixels, axes["POS + NEG"], 0, 0.2)) <= 2
    assert {"source channel of below", "target channel of above", "channels of 'below' in channels of 'above'"} <= set(
        texts(figure)
    )


def test_the_strongest_pairs_are_marked_and_named(small):
    figure = channels(small, k=2)
    (said,) = [text for text in texts(figure) if "strongest" in text]
    assert said.endswith("1. 2 raises 0 (+5) 2. 0 lowers 1 (-4)")
    for name in ("POS", "NEG", "POS + NEG"):
        marks = [tuple(np.add(p.get_xy(), 0.5)) for p in panels(figure)[name].patches]
        assert marks == [(2, 0), (0, 1)]
    three = channels(small, k=9)
    assert "3. 1 raises 1 (+1)" in words(three)
    assert "4." not in words(three)
    assert len(panels(channels(small, k=0))["POS"].patches) == 0


def test_it_says_what_positive_means_and_how_entries_come_about(small):
    said = words(small.plot(note="Seen twice."))
    assert "positive: towards the sign of each unit of the target channel (its value without its bias)" in said
    assert "Every entry is added up over all units of the two channels." in said
    assert "Seen twice." in said
    assert "Drawn are" not in said
    assert "contribution" in texts(matrix([[1]], [[0]], contribution=True).plot())


def test_a_large_matrix_is_cut_to_the_strongest_and_says_so():
    rng = np.random.default_rng(5)
    entries = rng.normal(size=(512, 300)) * 0.01
    entries[500, 290], entries[7, 3] = 9, -8
    excitation = matrix(np.maximum(entries, 0), np.minimum(entries, 0))
    found = matrix_of(excitation)
    assert found.values["sum"].shape == (MOST_CHANNELS, MOST_CHANNELS)
    assert {7, 500} <= set(found.rows)
    assert {3, 290} <= set(found.columns)
    assert (np.diff(found.rows) > 0).all()
    assert (np.diff(found.columns) > 0).all()
    exact = np.asarray(excitation.sum)[0][np.ix_(found.rows, found.columns)]
    np.testing.assert_array_equal(found.values["sum"], exact)
    kept, left = (np.abs(entries).max(axis=1)[rows] for rows in (found.rows, np.setdiff1d(range(512), found.rows)))
    assert kept.min() >= left.max()
    figure = excitation.plot()
    said = words(figure)
    assert f"the {MOST_CHANNELS} of 512 target channels and the {MOST_CHANNELS} of 300 source channels" in said
    assert "1. 290 raises 500 (+9) 2. 3 lowers 7 (-8)" in said
    ticks = [int(label.get_text()) for label in panels(figure)["POS"].get_yticklabels()]
    assert set(ticks) <= set(found.rows)
    at = [int(tick) for tick in panels(figure)["POS"].get_yticks()]
    assert [found.rows[k] for k in at] == ticks


def test_rows_of_different_scales_are_drawn_in_one_unit():
    excitation = matrix([[1, 0], [3, 1]], [[0, 0], [0, 0]], scales=[0, 140], sum_scales=[130, 132])
    found = matrix_of(excitation)
    assert found.scales == {"positive": 140, "negative": 140, "sum": 132}
    np.testing.assert_array_equal(found.values["positive"], [[2.0**-140, 0], [3, 1]])
    np.testing.assert_array_equal(found.values["sum"], [[0.25, 0], [3, 1]])
    figure = channels(excitation)
    assert {"coefficient, in units of 2^140", "coefficient, in units of 2^132"} <= set(texts(figure))
    assert "1. 0 raises 1 (+3 × 2^132)" in words(figure)


def test_the_channels_of_a_pair(residual_trace):
    excitation = residual_trace.between("stem", "branch").channels(contribution=True)
    found = matrix_of(excitation, sample=1)
    np.testing.assert_array_equal(found.values["sum"], np.asarray(excitation.sum, "float64")[1])
    best = excitation.top(1, sample=1).iloc[0]
    rows = [(found.columns[c], found.rows[r]) for r, c in found.strongest]
    pick = np.unravel_index(np.argmax(np.abs(found.values["sum"])), (4, 4))
    assert rows[0] == (pick[1], pick[0])
    assert best.target == pick[0]
    figure = excitation.plot(3, sample=1)
    assert len(panels(figure)["POS"].patches) == 3
    assert "contribution" in texts(figure)


@pytest.mark.parametrize("shape", [(1, 1), (3, 64), (200, 2), (64, 64)])
def test_no_words_are_cut_or_lie_over_each_other(shape):
    names = ("block7a_project_batch_normalization/" * 3, "head_convolution_with_a_long_name/" * 3)
    figure = matrix(np.ones(shape), np.zeros(shape), 40, -200, names=names).plot(note="Seen as it is. " * 20)
    assert outside(figure) == []
    marks = {str(number) for number in range(1, 9)}
    assert [pair for pair in overlapping(figure) if not set(pair) & marks] == []
    assert len(all_axes(figure)) == 6


def test_a_matrix_of_zeros():
    figure = matrix(np.zeros((2, 3)), np.zeros((2, 3))).plot()
    assert "All pairs are zero." in words(figure)
    assert abs(redness(rendered(figure), panels(figure)["POS"], 1, 0.2)) <= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample": 1}, "Expected a sample from 0 to 0. Received: sample=1"),
        ({"k": -1}, "Expected k as an int from 0 up. Received: k=-1"),
        ({"k": 1.5}, "Expected k as an int from 0 up. Received: k=1.5"),
        ({"most": 0}, "Expected most as an int from 1 up. Received: most=0"),
    ],
)
def test_what_cannot_be_drawn(small, change, message):
    with pytest.raises(InputError, match=message):
        channels(small, **change)
