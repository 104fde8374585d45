"""The explorer without a browser: every answer is that of `pair.map`, and every way on leads where it says."""

import keras
import numpy as np
import pytest
from keras import layers

import pane_keras
from pane_keras.errors import InputError, NoPathError, ReleasedError, TargetError, UnknownLayerError
from pane_keras.explorer.samples import samples_of
from pane_keras.explorer.state import State
from pane_keras.explorer.upstream import source_before, sources, targets

NAMES = ["ant", "bee", "cat", "dog", "elk"]


@pytest.fixture
def state(residual_trace):
    return State(samples_of(residual_trace), NAMES)


def the_maps(state, trace, **selection):
    return trace.between(state.choice.source, state.choice.target).map(**selection)


def same(answer, maps, sample):
    for name in ("positive", "negative", "sum"):
        np.testing.assert_array_equal(getattr(answer, name), np.asarray(getattr(maps, name))[sample])
    assert answer.log2_scale == int(maps.log2_scale[sample])
    assert answer.sum_log2_scale == int(maps.sum_log2_scale[sample])


def test_starts_with_the_top_class_over_the_nearest_layer_with_places(state, residual_trace):
    top = int(np.argmax(residual_trace.logits()[0]))
    assert (state.choice.target, state.choice.unit, state.choice.source) == ("logits", (top,), "concat")
    same(state.answer, the_maps(state, residual_trace, target=(top,)), 0)
    assert state.value == float(residual_trace.logits()[0, top])
    assert state.words(state.choice) == f"class {top} ({NAMES[top]}) of logits"


def test_another_class(state, residual_trace):
    state.choose_unit((3,))
    same(state.answer, the_maps(state, residual_trace, target=(3,)), 0)


def test_another_sample_shows_its_own_top_class_unless_another_was_chosen(state, residual_trace):
    tops = [int(k) for k in np.argmax(residual_trace.logits(), axis=1)]
    state.choose_sample(1)
    assert state.choice.unit == (tops[1],)
    same(state.answer, the_maps(state, residual_trace, target=(tops[1],)), 1)
    other = next(k for k in range(5) if k not in tops)
    state.choose_unit((other,))
    state.choose_sample(0)
    assert state.choice.unit == (other,)
    same(state.answer, the_maps(state, residual_trace, target=(other,)), 0)


def test_going_on_explains_the_strongest_channel_at_the_place(state, residual_trace):
    before = state.choice
    channel = int(np.argmax(np.abs(state.answer.sum[2, 4])))
    state.go_on(2, 4)
    assert (state.choice.target, state.choice.unit, state.choice.whole) == ("concat", (2, 4, channel), False)
    # Between the two lies a layer with a kernel, `side`; the Add before it is what that kernel reads, after its ReLU.
    assert state.choice.source == source_before(residual_trace, "concat") == "add_relu"
    same(state.answer, the_maps(state, residual_trace, target=(2, 4, channel)), 0)
    assert state.history == [before]


def test_going_on_takes_the_channel_that_is_drawn(state):
    state.choose_source_channel(1)
    state.go_on(0, 5)
    assert (state.choice.unit, state.choice.channel) == ((0, 5, 1), None)


def test_going_on_with_a_whole_channel(state, residual_trace):
    state.go_on_channel(2)
    assert state.choice.whole
    assert state.choice.unit[2] == 2
    same(state.answer, the_maps(state, residual_trace, channel=2), 0)
    total = float(np.asarray(residual_trace["concat"].output)[0, :, :, 2].sum(dtype="float64"))
    assert state.value == pytest.approx(total, rel=1e-6)
    assert state.words(state.choice) == "channel 2 of concat"


def test_going_on_from_a_vector_takes_its_unit(state, residual_trace):
    state.choose_source("pool")
    state.go_on_channel(3)
    assert (state.choice.target, state.choice.unit, state.choice.whole) == ("pool", (3,), False)
    same(state.answer, the_maps(state, residual_trace, target=(3,)), 0)


def test_back_restores_choice_and_answer(state):
    choices, sums = [], []
    for place in ((2, 4), (2, 4), (2, 4)):
        choices.append(state.choice)
        sums.append(state.answer.sum)
        state.go_on(*place)
    for choice, total in zip(reversed(choices), reversed(sums)):
        state.back()
        assert state.choice == choice
        np.testing.assert_array_equal(state.answer.sum, total)
    state.back()
    assert state.choice == choices[0]


def test_another_target_starts_anew_at_its_strongest_unit(state, residual_trace):
    state.go_on(2, 4)
    state.choose_target("branch")
    output = np.asarray(residual_trace["branch"].output)[0]
    assert state.choice.unit == tuple(np.unravel_index(np.argmax(np.abs(output)), output.shape))
    assert state.history == []
    assert state.choice.source in [layer.name for layer in state.sources]


def test_a_place_and_a_channel_of_the_target(state, residual_trace):
    state.choose_target("add")
    state.choose_channel(3)
    state.choose_place(5, 0)
    assert state.choice.unit == (5, 0, 3)
    same(state.answer, the_maps(state, residual_trace, target=(5, 0, 3)), 0)
    state.choose_channel(1, whole=True)
    same(state.answer, the_maps(state, residual_trace, channel=1), 0)
    state.choose_place(1, 2)
    assert (state.choice.unit, state.choice.whole) == ((1, 2, 1), False)


def test_contributions(state, residual_trace):
    state.choose_quantity(True)
    same(state.answer, the_maps(state, residual_trace, target=state.choice.unit).contribution(), 0)


def test_maps_are_asked_for_once_where_only_the_drawing_changes(state, monkeypatch):
    asked = []
    monkeypatch.setattr(pane_keras.Excitation, "map", lambda *a, **k: asked.append(k))
    for change in (lambda: state.choose_source_channel(2), lambda: state.choose_quantity(True)):
        change()
    assert asked == []
    assert state.choice.channel == 2


def test_the_strongest_channels_add_up_the_map(state):
    above, below = state.answer.strongest(2)
    totals = state.answer.sum.astype("float64").sum(axis=(0, 1))
    order = np.argsort(totals)
    assert [row.channel for row in above] == [k for k in order[::-1][:2] if totals[k] > 0]
    assert [row.channel for row in below] == [k for k in order[:2] if totals[k] < 0]
    for row in (*above, *below):
        assert row.sum == pytest.approx(totals[row.channel], rel=1e-12)
        assert row.positive == pytest.approx(state.answer.positive[..., row.channel].sum(dtype="float64"), rel=1e-12)


def test_the_layers_to_choose_from(residual_trace):
    assert [layer.name for layer in targets(residual_trace)][:3] == ["logits", "scores", "pool"]
    names = [layer.name for layer in sources(residual_trace, "branch")]
    assert names == ["stem_relu", "stem_norm", "stem", "input"]
    assert str(sources(residual_trace, "branch")[0]) == "stem_relu  (6 x 6 x 4)"
    assert source_before(residual_trace, "stem") == "input"


def test_every_source_that_is_offered_answers(residual_trace):
    for target in targets(residual_trace):
        for source in sources(residual_trace, target.name):
            assert residual_trace.between(source.name, target.name).source_shape == source.shape


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda s: s.choose_source("nothing"), UnknownLayerError, "The model has no layer 'nothing'"),
        (lambda s: s.choose_unit((9,)), TargetError, r"Unit \(9,\) lies outside 'logits', whose shape is \(5,\)"),
        (lambda s: s.choose_unit((0, 0)), TargetError, r"Unit \(0, 0\) lies outside 'logits'"),
        (lambda s: s.choose_sample(2), InputError, "There are the samples 0 to 1. Received: 2."),
        (lambda s: s.choose_source_channel(99), TargetError, "Layer 'concat' has the channels 0 to 6. Received: 99."),
        (lambda s: s.go_on_channel(-1), TargetError, "Layer 'concat' has the channels 0 to 6. Received: -1."),
        (lambda s: s.choose_channel(1), TargetError, "Layer 'logits' has the channels 0 to 0. Received: 1."),
        (lambda s: s.go_on(6, 0), TargetError, "The map has 6 rows and 6 columns. Received: row 6, column 0."),
    ],
)
def test_what_cannot_be_answered_leaves_the_choice_as_it_was(state, act, error, message):
    choice, answer, history = state.choice, state.answer, state.history
    with pytest.raises(error, match=message):
        act(state)
    assert (state.choice, state.answer, state.history) == (choice, answer, history)


def test_a_pair_without_a_path_leaves_the_choice_as_it_was(state):
    state.choose_target("branch")
    choice = state.choice
    with pytest.raises(NoPathError, match=r"No path leads from 'side' to 'branch'"):
        state.choose_source("side")
    assert state.choice == choice


def test_nothing_comes_before_the_input(state):
    state.choose_source("input")
    with pytest.raises(TargetError, match=r"This is the model's input: nothing comes before it. To go on, choose a"):
        state.go_on(0, 0)


def test_a_place_without_excitation_is_no_way_on(state):
    state.go_on(2, 4)  # one unit of a concatenation hears one place of a 1x1 convolution, or of nothing but itself
    assert not state.answer.sum[5, 5].any()
    with pytest.raises(TargetError, match=r"Nothing at this place excites or inhibits the unit. Click a place where"):
        state.go_on(5, 5)


def test_a_released_trace(cnn, inputs_for):
    trace = pane_keras.wrap(cnn).trace(inputs_for(cnn))
    state = State(samples_of(trace))
    trace.release()
    with pytest.raises(ReleasedError, match=r"The trace was released"):
        state.choose_unit((1,))
    with pytest.raises(ReleasedError, match=r"The trace was released"):
        samples_of(trace)


def test_what_is_no_trace(residual_trace):
    with pytest.raises(InputError, match=r"explore.. takes a trace, as pane.trace.inputs. returns it.*Received: str"):
        samples_of("picture.png")
    with pytest.raises(InputError, match=r"Received: int"):
        samples_of([residual_trace, 3])
    with pytest.raises(InputError, match=r"Received: an empty list"):
        samples_of([])
    with pytest.raises(InputError, match=r"Expected pictures for each of the 2 samples. Received: 1 pictures"):
        samples_of(residual_trace, pictures=np.zeros((1, 6, 6)))
    with pytest.raises(
        InputError, match=r"A picture has the shape .height, width. or .*Received: float64 of shape .6,."
    ):
        samples_of(residual_trace, pictures=np.zeros((2, 6)))
    with pytest.raises(InputError, match=r"Expected names for each of the 2 samples. Received: 3 names"):
        samples_of(residual_trace, names="abc")
    with pytest.raises(InputError, match=r"Expected a name for each of the 5 classes. Received: 2"):
        State(samples_of(residual_trace), ["a", "b"])
    with pytest.raises(InputError, match=r"The explorer needs at least one sample. Received: none"):
        State([])


def test_nothing_excites_an_embedding(randomize):
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(9, 3, name="words"), layers.Conv1D(2, 2, name="conv"),
         layers.Flatten(), layers.Dense(2, name="scores")]
    )  # fmt: skip
    state = State(samples_of(pane_keras.wrap(randomize(model)).trace(np.array([[1, 2, 3, 4]]))))
    assert state.choice.source == "conv"
    state.go_on(0, 1)
    assert state.choice.source == "words"
    with pytest.raises(NoPathError, match=r"Nothing excites 'words': it is where excitations start"):
        state.go_on(0, 1)
    with pytest.raises(NoPathError, match=r"Nothing excites 'words'.*Choose another target"):
        state.choose_target("words")


def test_several_traces_of_different_models(residual_trace, cnn, inputs_for):
    state = State(samples_of([residual_trace, pane_keras.wrap(cnn).trace(inputs_for(cnn, 1))]))
    state.go_on(2, 4)
    state.choose_sample(2)
    assert (state.choice.target, state.choice.source, state.history) == ("logits", "relu2", [])
    assert state.answer.grid.shape == (3, 3, 5)


def test_several_inputs_and_outputs(two_inputs, two_outputs, inputs_for):
    state = State(samples_of(pane_keras.wrap(two_inputs).trace(inputs_for(two_inputs))))
    assert [layer.name for layer in state.sources][-2:] == ["left", "right"]
    state.choose_source("right")
    assert state.answer.grid.shape == (3,)
    state = State(samples_of(pane_keras.wrap(two_outputs).trace(inputs_for(two_outputs))), ["a", "b", "c"])
    found = {}
    for target in ("kind", "size"):
        state.choose_target(target)
        found[target] = state.names
    assert found == {"kind": ["a", "b", "c"], "size": None}
