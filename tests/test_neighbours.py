"""Which units share a sweep: each is swept once, neighbours together, and never at a higher cost than one by one."""

import numpy as np
import pytest
from agreement import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from test_receptive_field import generated, plane

import pane_keras
from pane_keras.composition import Composition
from pane_keras.neighbours import _Group, _Sweeps, in_groups
from pane_keras.testing import channels
from pane_keras.windows import window_of

PARTS = 1e-5


@pytest.fixture(scope="module")
def pair():
    return pane_keras.wrap(plane()).trace(draw(2, 12, 12, 2)).between("input", "last")


def group(sweeps, rows, flat, shape):
    return sweeps.cost(_Group(rows, window_of(flat[rows], shape)))


@given(units=st.lists(st.integers(0, 6 * 6 * 5 - 1), min_size=1, max_size=80))
@settings(max_examples=60, deadline=None)
def test_every_unit_is_in_one_group_and_groups_are_never_dearer_than_single_sweeps(pair, units):
    flat, composition = np.array(units), pair.composition()
    groups = in_groups(flat, pair.target_shape, composition)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(units)))
    sweeps = _Sweeps(composition)
    together = sum(group(sweeps, rows, flat, pair.target_shape) for rows in groups)
    alone = sum(group(sweeps, np.array([k]), flat, pair.target_shape) for k in range(len(flat)))
    assert together <= alone * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_maps_come_in_the_order_of_the_units(seed, monkeypatch):
    """Shuffled and repeated units, and a sweep that costs nothing by itself, so that every place is swept alone."""
    model, rng = generated(seed)
    trace = pane_keras.wrap(model).trace(draw(2, *model.input_shape[1:], seed=seed))
    pair = trace.between("input", list(trace)[-1])
    monkeypatch.setattr("pane_keras.neighbours._PER_KERNEL_ENTRY", 0)
    monkeypatch.setattr("pane_keras.neighbours._PER_STAGE", 0)
    units = [tuple(int(rng.integers(size)) for size in pair.target_shape) for _ in range(9)]
    units = [*units, *units[::-2]]
    found = channels(pair.map(units))
    for k, unit in enumerate(units):
        for mine, alone in zip(found, channels(pair.map(unit))):
            np.testing.assert_allclose(mine[:, k], alone, rtol=0, atol=PARTS * max(np.abs(alone).max(), 1e-30))


def swept(pair, units, monkeypatch):
    """How many rows each sweep of a query carries."""
    counts, plain = [], Composition.pull_within

    def counting(self, rows, *more):
        counts.append(rows.shape[0])
        return plain(self, rows, *more)

    monkeypatch.setattr(Composition, "pull_within", counting)
    pair.map(units)
    return counts


def test_channels_of_one_place_share_a_sweep_wherever_they_stand_in_the_list(pair, monkeypatch):
    monkeypatch.setattr("pane_keras.neighbours._PER_KERNEL_ENTRY", 0)
    monkeypatch.setattr("pane_keras.neighbours._PER_STAGE", 0)
    units = [(place, place, channel) for channel in range(5) for place in (0, 5)]
    assert swept(pair, units, monkeypatch) == [5, 5]


def test_neighbours_share_a_sweep_where_it_costs_much_to_start_one(pair, monkeypatch):
    monkeypatch.setattr("pane_keras.neighbours._PER_STAGE", 2**40)
    assert swept(pair, [(5, 5, 1), (0, 0, 1), (5, 4, 0)], monkeypatch) == [3]


def test_a_sweep_carries_no_more_rows_than_its_window_leaves_room_for(pair, monkeypatch):
    """The widest signal behind a unit in the middle is 6 x 6 x 4, and not the 12 x 12 x 4 of the layer."""
    middle = 2 * 6 * 6 * 4
    monkeypatch.setattr("pane_keras.portions.ENTRIES", 3 * middle)
    assert 3 * middle < 2 * pair.composition().widest
    assert swept(pair, [(3, 3, channel) for channel in range(5)], monkeypatch) == [3, 2]


def test_a_layer_without_space_is_one_group(pair):
    assert [rows.tolist() for rows in in_groups(np.arange(3), (3,), pair.composition())] == [[0, 1, 2]]
