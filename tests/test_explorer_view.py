"""The explorer's widgets without a browser: what a click or a choice changes, and what is said when it cannot."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import pane_keras
from pane_keras.extras import MissingExtraError

NAMES = ("ant", "bee", "cat", "dog", "elk")


@pytest.fixture
def explorer(residual_trace):
    return pane_keras.explore(residual_trace, class_names=NAMES, names=["first", "second"])


def click(picture, row, column):
    """What the front end sends for a click."""
    picture._handle_custom_msg({"row": row, "column": column}, [])


def size(png):
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def test_what_is_shown_first(explorer, residual_trace):
    logits = np.asarray(residual_trace.logits())[0]
    order = np.argsort(-logits)
    assert [unit for _, unit in explorer.target.units.options] == [(k,) for k in order]
    assert explorer.target.units.options[0][0] == f"{order[0]}  {NAMES[order[0]]}  ({logits[order[0]]:.3g})"
    assert explorer.target.units.value == (order[0],)
    assert [text for text, _ in explorer.target.sample.options] == ["first", "second"]
    assert explorer.source.layer.value == "concat"
    assert [size(picture.png) for picture in explorer.source.pictures] == [(6, 6)] * 3
    assert "Ready." in explorer.status.value
    assert explorer.back.disabled


def test_the_maps_that_are_drawn_are_those_of_the_pair(explorer, residual_trace):
    maps = residual_trace.between("concat", "logits").map(target=explorer.state.choice.unit)
    for picture, part in zip(explorer.source.pictures, (maps.positive, maps.negative, maps.sum)):
        plane = np.frombuffer(picture.values, "<f8").reshape(6, 6)
        np.testing.assert_allclose(plane, np.asarray(part[0], "float64").sum(axis=-1), rtol=1e-12)


def test_a_click_in_a_map_goes_on_and_back_returns(explorer):
    before = explorer.source.pictures[2].png
    click(explorer.source.pictures[0], 2, 4)
    assert explorer.state.choice.unit[:2] == (2, 4)
    assert explorer.target.layer.value == "concat"
    assert explorer.source.layer.value == "add_relu"
    assert explorer.target.output.marked == [2, 4]
    assert explorer.source.pictures[2].png != before
    assert "Answered in" in explorer.status.value
    assert not explorer.back.disabled
    explorer.back.click()
    assert explorer.source.pictures[2].png == before


def test_clicks_on_the_picture_and_on_the_output_choose_a_unit(explorer):
    explorer.target.layer.value = "add"
    for picture, place in ((explorer.target.picture, (5, 1)), (explorer.target.output, (0, 3))):
        click(picture, *place)
        assert explorer.state.choice.unit[:2] == place
        assert explorer.target.picture.marked == explorer.target.output.marked == list(place)


def test_choices_from_lists(explorer):
    explorer.target.units.value = (3,)
    assert explorer.state.choice.unit == (3,)
    assert "class 3 (dog) of logits" in explorer.target.value.value
    explorer.source.layer.value = "stem"
    assert explorer.state.choice.source == "stem"
    explorer.source.quantity.value = True
    assert explorer.state.choice.contribution
    assert "what each place adds to the unit" in explorer.source._legend.value
    explorer.target.sample.value = 1
    assert explorer.state.choice.sample == 1


def test_a_class_is_found_by_its_name(explorer):
    explorer.target.find.value = "DO"
    assert [unit for _, unit in explorer.target.units.options] == [(3,)]
    explorer.target.units.value = (3,)
    assert explorer.state.choice.unit == (3,)
    explorer.target.find.value = "no such class"
    assert (explorer.target.units.options, explorer.state.choice.unit) == ((), (3,))
    explorer.target.find.value = ""
    assert explorer.target.units.value == (3,)


def test_channels_of_the_target(explorer):
    explorer.target.layer.value = "stem"
    explorer.target.channel.value = 2
    assert (explorer.state.choice.unit[2], explorer.state.choice.whole) == (2, False)
    explorer.target.whole.value = True
    assert explorer.state.choice.whole
    assert explorer.target.output.marked == []
    assert "channel 2 of stem</b>: sum of its output" in explorer.target.value.value


def test_channels_of_the_source(explorer):
    row = explorer.source.tables[0].rows[0]
    channel = int(row.draw.description)
    before = explorer.source.pictures[2].png
    row.draw.click()
    assert explorer.state.choice.channel == channel
    assert f"Drawn: <b>channel {channel}</b>" in explorer.source._drawn.value
    assert explorer.source.pictures[2].png != before
    explorer.source.all_channels.click()
    assert explorer.source.pictures[2].png == before
    row.explain.click()
    assert explorer.state.choice.whole
    assert explorer.state.choice.unit[2] == channel


def test_the_strongest_channel_gets_the_longest_bar_and_its_numbers(explorer):
    above, below = explorer.state.answer.strongest(5)
    strongest = max((*above, *below), key=lambda row: abs(row.sum))
    table, verb = (explorer.source.tables[0], "raise") if strongest.sum > 0 else (explorer.source.tables[1], "lower")
    assert f"Channels that {verb} it most" in table._title.value
    assert "width:50.0%" in table.rows[0].numbers.value
    for value in (strongest.sum, strongest.positive, strongest.negative):
        assert f">{value:.3g}</span>" in table.rows[0].numbers.value
    shown = [row.layout.visibility for row in explorer.source.tables[0].rows]
    assert shown == ["visible"] * len(above) + ["hidden"] * (5 - len(above))


def test_what_cannot_be_answered_is_said_in_one_line(explorer):
    explorer.source.layer.value = "input"
    click(explorer.source.pictures[0], 0, 0)
    assert "pane-error" in explorer.status.value
    assert "This is the model&#x27;s input: nothing comes before it." in explorer.status.value
    assert "\n" not in explorer.status.value
    assert not explorer.source.pictures[0].busy
    explorer.target.units.value = (1,)
    assert "Answered" in explorer.status.value


def test_a_pair_without_a_path_is_said_in_one_line(explorer):
    explorer.target.layer.value = "branch"
    explorer.act(lambda state: state.choose_source("side"))
    assert "No path leads from &#x27;side&#x27; to &#x27;branch&#x27;" in explorer.status.value
    assert explorer.source.layer.value == explorer.state.choice.source != "side"


def test_a_released_trace_is_said_in_one_line(cnn, inputs_for):
    trace = pane_keras.wrap(cnn).trace(inputs_for(cnn))
    explorer = pane_keras.explore([trace])
    trace.release()
    explorer.target.units.value = explorer.target.units.options[-1][1]
    assert "pane-error" in explorer.status.value
    assert "The trace was released, and its tensors with it." in explorer.status.value


def test_what_nobody_foresaw_is_said_and_logged(explorer, caplog):
    explorer.act(lambda state: 1 / 0)
    assert "pane-error" in explorer.status.value
    assert "ZeroDivisionError: division by zero" in explorer.status.value
    assert "could not answer" in caplog.text


def test_a_zero_map_is_said(explorer):
    explorer.target.layer.value = "stem_relu"
    dead = np.argwhere(explorer.state.output == 0)[0]
    explorer.act(lambda state: state.choose_unit(tuple(int(k) for k in dead)))
    assert "The maps are zero: nothing in the source excites or inhibits this here." in explorer.status.value
    assert all("zero everywhere" in caption.value for caption in explorer.source._captions)
    assert "No channels raise it." in explorer.source.tables[0]._title.value


def test_pictures_are_shown_in_place_of_the_input(residual_trace):
    pictures = np.random.default_rng(3).integers(0, 256, (2, 12, 24, 3), dtype="uint8")
    explorer = pane_keras.explore(residual_trace, pictures)
    assert size(explorer.target.picture.png) == (24, 12)
    assert explorer.target.picture.height == explorer.target.picture.width // 2


def test_huge_coefficients_say_their_power_of_two(explorer):
    answer = replace(explorer.state.answer, log2_scale=1500, sum_log2_scale=3)
    explorer.state.answer = answer
    explorer.source.show(explorer.state)
    assert explorer.source.pictures[0].unit == " x 2^1500"
    assert explorer.source.pictures[2].unit == " x 2^3"
    assert "e+45" in explorer.source._captions[0].value


@pytest.mark.parametrize("package", ["ipywidgets", "anywidget"])
def test_missing_packages_are_named(residual_trace, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'This needs {package}, .* pip install "pane-keras\[explore\]"'):
        pane_keras.explore(residual_trace)
