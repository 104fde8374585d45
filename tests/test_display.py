"""What objects show of themselves, as text and as HTML: names, shapes, and numbers that equal what queries give."""

import pickle
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras import check, excitation
from pane_keras.check import Report
from pane_keras.diagnosis import Diagnosis
from pane_keras.display import traces
from pane_keras.display.pairs import Rows
from pane_keras.display.tables import Share, Table, note, number
from pane_keras.testing import true_values

ODD = 'a<b>&"'


@pytest.fixture
def pane(residual):
    return pane_keras.wrap(residual)


@pytest.fixture
def trace(pane):
    return pane.trace(draw(2, 6, 6, 2))


def parsed(shown):
    """The HTML of an object as a tree: well-formed, and without script, style sheet or another file."""
    tree = ElementTree.fromstring(shown if isinstance(shown, str) else shown._repr_html_())
    assert not {"script", "style", "link", "img", "iframe"} & {element.tag for element in tree.iter()}
    return tree


def cells(tree):
    """The rows of all tables, head included, as lists of text."""
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


def said(tree):
    return "".join(tree.itertext())


def shares(trace, name):
    """The share of E+ in a layer's o', from its dense views in float64: independent of the S and D of an operand."""
    _, positive, negative = trace[name]
    views = zip(positive, negative) if isinstance(positive, list) else [(positive, negative)]
    sums = np.zeros(2)
    for pair in views:
        x = np.abs(np.asarray(pair[0].excitation.signal, "float64"))
        for k, view in enumerate(pair):
            dense = np.abs(np.asarray(view, "float64")).reshape(len(x), -1, x[0].size)
            sums[k] += np.einsum("boi,bi->", dense, x.reshape(len(x), -1))
    return sums[0] / sums.sum()


# --- tables -------------------------------------------------------------------------------------------------------


def test_a_table_as_text_folds_its_middle():
    table = Table(("word", "n"), tuple((f"row{k}", str(k)) for k in range(7)), numeric=(1,))
    assert table.text(3).splitlines() == ["word  n", "row0  0", "... 4 more ...", "row5  5", "row6  6"]
    assert len(table.text().splitlines()) == len(table.text(7).splitlines()) == 8
    assert Table(("a",), ()).text() == "a"


def test_numbers_stand_flush_right():
    assert Table(("n",), (("1",), ("222",)), numeric=(0,)).text().splitlines() == ["  n", "  1", "222"]
    styles = [cell.get("style") for cell in parsed(Table(("n", "w"), (("1", "x"),), (0,)).html()).iter("td")]
    assert ["right" in styles[0], "left" in styles[1]] == [True, True]


def test_cells_are_escaped():
    tree = parsed(Table((ODD,), ((ODD,),)).html())
    assert cells(tree) == [[ODD], [ODD]]
    assert said(parsed(note(f"ask `{ODD}` of {ODD}"))) == f"ask {ODD} of {ODD}"


def test_a_share_is_a_percentage_and_a_bar():
    assert [Share.of(value) for value in (0.634, 1.0, 0, None, np.nan)] == ["63%", "100%", "0%", "", ""]
    spans = [span.get("style") for span in parsed(Table(("",), ((Share.of(0.634),),)).html()).iter("span")]
    assert "width:63.4%" in spans[1]


def test_long_counts_are_rounded():
    assert [number(value) for value in (0, 12345, 123456789)] == ["0", "12,345", "1.23e+08"]


# --- the model ----------------------------------------------------------------------------------------------------


def test_a_pane_shows_its_layers(pane):
    text, tree = repr(pane).splitlines(), parsed(pane)
    assert text[0] == "PaneModel('residual': 10 layers, 'picture' (None, 6, 6, 2) -> 'scores' (None, 5))"
    assert text[0].removeprefix("PaneModel(").removesuffix(")") in said(tree)
    assert text[2].split() == ["stem", "Conv2D", "(None,", "6,", "6,", "4)", "excited"]
    treated = pane_keras.report(pane.model)
    expected = [[t.name, t.layer, str(t.shape), t.group, t.note] for t in treated.layers]
    assert cells(tree)[1:] == cells(parsed(treated))[1:] == expected
    assert len(text) == 2 + len(expected)
    assert said(parsed(treated)).startswith("Report residual: 10 layers, all supported")
    assert repr(treated) == str(treated)


def test_a_pane_shows_what_is_held_as_its_report_does():
    x = keras.Input((4,))
    h = layers.Dropout(0.5, name="drop")(layers.Dense(4, name=ODD)(x))
    pane = pane_keras.wrap(keras.Model(x, h * keras.ops.cast(h > 0, "float32")))
    groups = [row[:4:3] for row in cells(parsed(pane))[1:]]
    assert [group for _, group in groups] == ["excited", "transparent", "held", "held", "excited"]
    assert groups[0][0] == ODD
    assert cells(parsed(pane)) == cells(parsed(pane_keras.report(pane.model)))


def test_several_inputs_and_outputs_are_named(two_inputs, two_outputs):
    assert "'left' (None, 4), 'right' (None, 3) -> 'scores' (None, 3)" in repr(pane_keras.wrap(two_inputs))
    assert "-> 'kind' (None, 3), 'size' (None, 2)" in repr(pane_keras.wrap(two_outputs))
    trace = pane_keras.wrap(two_inputs).trace([draw(2, 4), draw(2, 3)])
    assert "input 'left' (2, 4), 'right' (2, 3)" in repr(trace)
    maps = trace.saliency()
    assert "over left" in repr(maps)
    assert "over right" in repr(maps)


def test_a_deep_model_is_folded_as_text_and_whole_as_html():
    deep = keras.Sequential([keras.Input((3,)), *(layers.Dense(3, name=f"d{k}") for k in range(60))])
    pane = pane_keras.wrap(deep)
    trace = pane.trace(draw(1, 3))
    for shown in (pane, trace):
        lines = repr(shown).splitlines()
        assert len(lines) == 23
        assert "... 40 more ..." in lines
        assert (lines[2].split()[0], lines[-1].split()[0]) == ("d0", "d59")
        assert [row[0] for row in cells(parsed(shown))[1:]] == [f"d{k}" for k in range(60)]


# --- the trace ----------------------------------------------------------------------------------------------------


def test_a_trace_shows_layers_with_shapes(trace):
    lines, tree = repr(trace).splitlines(), parsed(trace)
    assert lines[0] == "Trace(10 layers, input (2, 6, 6, 2))"
    assert lines[1].split() == ["layer", "kind", "output", "shape"]
    assert cells(tree)[0] == ["layer", "kind", "output shape", "E+ share", "residual"]
    for name, line, row in zip(trace, lines[2:], cells(tree)[1:], strict=True):
        assert row[0] == line.split()[0] == name
        assert row[2] == str(tuple(trace[name].output.shape))
        assert row[2] in line
    assert cells(tree)[1][1] == "convolution"


def test_a_small_trace_shows_what_check_finds(trace):
    before = cells(parsed(trace))
    report = trace.check()
    assert cells(parsed(trace)) == before
    for name, _, _, share, residual in before[1:]:
        assert residual == f"{report.layers[name]:.1e}"
        assert share == f"{report.shares[name]:.0%}"
        assert report.shares[name] == pytest.approx(shares(trace, name), abs=1e-5), name
    assert repr(trace).splitlines()[2].split()[-2:] == before[1][3:]
    assert 0.5 < report.shares["stem"] < 1
    assert report.shares["stem_relu"] == 1


def test_a_fused_activation_does_not_hide_what_inhibits():
    x, reports = keras.Input((6, 6, 2)), []
    for fused in (True, False):
        y = layers.Conv2D(3, 3, activation="relu" if fused else None, name="conv")(x)
        y = y if fused else layers.ReLU()(y)
        model = filled(x, layers.Dense(2)(layers.Flatten()(y)))
        reports.append(pane_keras.wrap(model).trace(draw(2, 6, 6, 2)).check())
    assert reports[0].shares["conv"] == reports[1].shares["conv"] < 1


def test_a_large_trace_is_measured_only_by_check(trace, monkeypatch):
    monkeypatch.setattr(traces, "CHEAP_WORK", 0)
    assert [row[3:] for row in cells(parsed(trace))[1:]] == [["", ""]] * 10
    assert "trace.check()" in said(parsed(trace))
    monkeypatch.setattr(traces, "CHEAP_WORK", 1e9)
    monkeypatch.setattr(traces, "CHEAP_STAGES", 9)
    assert cells(parsed(trace))[1][3] == ""
    report = trace.check()
    assert cells(parsed(trace))[1][3:] == [f"{report.shares['stem']:.0%}", f"{report.layers['stem']:.1e}"]
    assert "trace.check()" not in said(parsed(trace))


def test_a_layer_too_large_is_not_measured(trace, monkeypatch):
    monkeypatch.setattr(traces, "CHEAP_LAYER", 0)
    monkeypatch.setattr(traces, "local_facts", None)
    assert "E+ makes up" not in said(parsed(trace["stem"]))


def test_a_released_trace_still_shows_its_layers(trace):
    trace.check()
    pair, emission, whole = trace.between("stem", "scores"), trace["add"], cells(parsed(trace))
    words, text = repr(emission), repr(trace)
    trace.release()
    trace.release()
    assert cells(parsed(trace)) == whole
    assert said(parsed(trace)).startswith("Trace 10 layers, input (2, 6, 6, 2), released")
    assert (repr(trace), repr(emission)) == (text, words)
    assert "(2, 6, 6, 4, 6, 6, 4)" in said(parsed(emission))
    assert "(2, 6, 6, 4, 6, 6, 4)" in said(parsed(emission.positive[0]))
    assert "released" in said(parsed(pair))


def test_a_trace_without_check_is_released_without_facts(trace):
    trace.release()
    assert [row[3:] for row in cells(parsed(trace))[1:]] == [["", ""]] * 10


def test_fused_activations_several_outputs_and_held_layers():
    x = keras.Input((5, 3))
    y, state = layers.GRU(2, return_state=True, return_sequences=True, name="gru")(x)
    y = layers.Dense(2, activation="tanh", name="fused")(layers.Flatten()(y))
    model = filled(x, y * keras.ops.cast(state > 0, "float32"))
    trace = pane_keras.wrap(model).trace(draw(2, 5, 3))
    rows = {row[0]: row[1:] for row in cells(parsed(trace))[1:]}
    assert rows["gru[0]"][1:2] + rows["gru[1]"][1:2] == ["(2, 5, 2)", "(2, 2)"]
    assert rows["fused"][0] == "dense, tanh"
    assert rows["gru[0]"][0].endswith(", ...")
    held = [name for name, row in rows.items() if row[0] == "held"]
    assert [rows[name][2:] for name in held] == [["", ""]] * 2
    assert "gru" in repr(trace["gru[1]"])


def test_one_dimension_and_zero_signals():
    x = keras.Input((8, 2))
    y = layers.Conv1D(3, 3, activation="relu", name="conv")(x)
    trace = pane_keras.wrap(filled(x, layers.Dense(2, name="end")(layers.Flatten()(y)))).trace(np.zeros((1, 8, 2)))
    rows = {row[0]: row[1:] for row in cells(parsed(trace))[1:]}
    assert rows["conv"][1] == "(1, 6, 3)"
    assert rows["conv"][2:] == ["", "0.0e+00"]  # nothing adds up to an o' of zero
    assert numbers(trace.saliency())[0] == ["0", "POS", "0", "0", "", ""]


def test_a_trace_inside_a_graph_shows_what_is_known(pane):
    tf = pytest.importorskip("tensorflow")
    texts = []

    @tf.function(input_signature=[tf.TensorSpec((None, 6, 6, 2))])
    def run(x):
        trace = pane.trace(x)
        maps, pair = trace.saliency(1), trace.between("stem", "side")
        channels = pair.channels()
        texts.extend(map(repr, (trace, maps, pair, channels, trace["stem"])))
        texts.extend(map(str, (maps, channels)))
        for shown in (trace, maps, pair, channels, trace["stem"], trace["add"].negative[1], pair.expression()):
            parsed(shown)
        return maps.sum

    run.get_concrete_function()
    assert "Trace(10 layers, input (None, 6, 6, 2))" in texts[0]
    assert "values are not known" in texts[5]
    assert "class 1" in texts[1]


# --- a layer, its views, a pair -----------------------------------------------------------------------------------


def test_a_layer_shows_shapes_and_its_share(trace):
    report = trace.check()
    expected = "Emission('stem': output (2, 6, 6, 4), positive and negative (2, 6, 6, 4, 6, 6, 2))"
    assert repr(trace["stem"]) == expected
    tree = parsed(trace["stem"])
    assert [row[:2] for row in cells(tree)[1:]] == [
        ["output", "(2, 6, 6, 4)"], ["E+", "(2, 6, 6, 4, 6, 6, 2)"], ["E-", "(2, 6, 6, 4, 6, 6, 2)"]
    ]  # fmt: skip
    assert cells(tree)[2][2] == f"{2 * 144 * 72:,}"
    assert f"E+ makes up {report.shares['stem']:.0%} of" in said(tree)
    assert f"residual {report.layers['stem']:.1e}" in said(tree)
    assert [row[0] for row in cells(parsed(trace["add"]))[2:]] == [
        "E+ from input 0", "E- from input 0", "E+ from input 1", "E- from input 1"
    ]  # fmt: skip


def test_views_and_pairs_show_without_computing(trace, monkeypatch):
    for name in ("map", "effect", "dense", "channels", "pull", "push"):
        monkeypatch.setattr(excitation.Excitation, name, None)
    monkeypatch.setattr(check, "local_facts", None)
    _, positive, negative = trace["stem"]
    assert "E+ of 'stem' over its input 0: shape (2, 6, 6, 4, 6, 6, 2), 20,736 coefficients" in said(parsed(positive))
    assert said(parsed(negative)).startswith("E- of 'stem'")
    tree = parsed(trace.between("stem", "scores"))
    assert cells(tree)[1:] == [["source", "'stem'", "(6, 6, 4)"], ["target", "'scores'", "(5,)"]]
    assert "9 layers on 7 chains" in said(tree)
    assert f"{3 * 2 * 5 * 144 * 4 / 1024:.3g} KiB" in said(tree)


# --- maps ---------------------------------------------------------------------------------------------------------


def numbers(maps):
    """The rows of the table of a map as text: index, part, smallest, largest, share, units."""
    return cells(parsed(maps))[1:]


def test_maps_show_range_and_share(trace):
    maps = trace.saliency()
    assert repr(maps) == "ExcitationMap(of top class, over picture, shape=(2, 6, 6, 2))"
    rows = numbers(maps)
    assert [row[:2] for row in rows] == [[str(k), part] for k in range(2) for part in ("POS", "NEG", "POS+NEG")]
    for k, (row, other, total) in enumerate(zip(rows[::3], rows[1::3], rows[2::3])):
        for cell, part in ((row, maps.positive), (other, maps.negative), (total, maps.sum)):
            assert cell[2:4] == [f"{np.min(part[k]):.3g}", f"{np.max(part[k]):.3g}"]
        p, n = (np.abs(np.asarray(part[k], "float64")).sum() for part in (maps.positive, maps.negative))
        assert row[4:] == [f"{p / (p + n):.0%}", ""]
        assert other[4] == f"{n / (p + n):.0%}"
        assert total[4:] == ["", ""]
    lines = str(maps).splitlines()
    assert lines[0] == repr(maps)
    assert [line.split()[:4] for line in lines[2:]] == [row[:4] for row in rows]
    assert "(sample, height, width, channel)" in said(parsed(maps))
    assert said(parsed(maps)).startswith("ExcitationMap coefficients of top class, over picture")
    assert said(parsed(maps.contribution())).startswith("ExcitationMap contributions of top class")


def test_many_maps_are_counted(trace):
    maps = trace.between("stem", "scores").map([0, 1, 2])
    rows = numbers(maps)
    assert [row[0] for row in rows[::3]] == ["0, 0", "0, 1", "0, 2", "1, 0"]
    assert "... 2 more maps ..." in said(parsed(maps))
    assert "... 2 more maps ..." in str(maps)
    dense = trace.between("stem", "scores").dense()
    assert said(parsed(dense)).startswith("DenseExcitation coefficients of scores, over stem")
    assert "... 6 more maps ..." in str(dense)


def test_huge_exponents_are_shown_as_units():
    part = np.array([[[1.0, -2.0]], [[0.0, 0.0]]], "float32")
    maps = pane_keras.ExcitationMap(part, -part, part, np.array([300, 300]), np.array([0, -200]), None, "x", ODD)
    rows = numbers(maps)
    assert [row[5] for row in rows] == ["2^300", "2^300", "", "", "", ""]
    assert rows[0][2:5] == ["-2", "1", "50%"]
    assert rows[3][2:5] == ["0", "0", ""]
    assert ODD in said(parsed(maps))
    assert "log2_scale=[300, 300]" in repr(maps)


def test_maps_of_nothing_and_copies_show():
    empty = np.zeros((0, 3), "float32")
    maps = pane_keras.ExcitationMap(empty, empty, empty, np.zeros(0, "int32"), np.zeros(0, "int32"))
    assert "No samples." in said(parsed(maps))
    assert str(maps) == repr(maps)
    assert str(pickle.loads(pickle.dumps(maps))) == str(maps)
    none = np.zeros((1, 0), "float32")
    maps = pane_keras.ExcitationMap(none, none, none, np.zeros(1, "int32"), np.zeros(1, "int32"))
    assert numbers(maps)[0] == ["0", "POS", "", "", "", ""]


def test_channels_show_the_strongest_pairs(trace):
    found = trace.between("stem", "side").channels()
    rows = cells(parsed(found))
    assert rows[0] == ["target", "source", "positive", "negative", "sum"]
    parts = [true_values(getattr(found, name), found.log2_scale)[0] for name in ("positive", "negative")]
    total = true_values(found.sum, found.sum_log2_scale)[0]
    assert len(rows) == 7
    assert sorted((float(row[4]) for row in rows[1:]), key=abs, reverse=True) == [float(row[4]) for row in rows[1:]]
    for t, s, p, n, both in rows[1:]:
        at = int(t), int(s)
        assert [p, n, both] == [f"{value:.3g}" for value in (parts[0][at], parts[1][at], total[at])]
    assert float(rows[1][4]) == pytest.approx(total.flat[np.abs(total).argmax()], rel=1e-2)
    assert str(found).splitlines()[0] == repr(found)
    assert [line.split() for line in str(found).splitlines()[1:]] == rows


def test_top_shows_as_a_table_without_pandas(trace, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    found = trace.between("stem", "side").channels().top(2)
    assert isinstance(found, list)
    assert repr(found).splitlines()[0].split() == ["target", "source", "positive", "negative", "sum"]
    assert [line.split() for line in repr(found).splitlines()] == cells(parsed(found))
    assert [int(row[1]) for row in cells(parsed(found))[1:]] == [row["source"] for row in found]
    assert repr(Rows()) == "[]"
    assert cells(parsed(Rows())) == [[]]


# --- verdicts -----------------------------------------------------------------------------------------------------


def test_a_report_shows_what_it_prints(trace):
    report = trace.check()
    tree = parsed(report)
    assert repr(report) == str(report)
    assert [row[0] for row in cells(tree)[1:]] == [*trace, "end to end"]
    assert [row[2] for row in cells(tree)[1:-1]] == [f"{value:.1e}" for value in report.layers.values()]
    assert cells(tree)[-1][1:] == ["", f"{report.end_to_end:.1e}"]
    assert str(report).splitlines()[-1] in said(tree)


def test_a_report_marks_what_is_too_large():
    report = Report({ODD: 0.5, "fine": 1e-9, "lost": float("nan")}, 1e-8, 1e-4)
    rows = {row[0]: row[1:] for row in cells(parsed(report))[1:]}
    assert rows[ODD] == ["", "5.0e-01  TOO LARGE"]
    assert rows["lost"] == ["", "nan  TOO LARGE"]
    assert rows["fine"] == ["", "1.0e-09"]
    assert "NOT complete" in said(parsed(report))


def test_a_diagnosis_shows_its_sentence_and_numbers(trace):
    found = trace.saliency().diagnose()
    tree = parsed(found)
    assert repr(found) == str(found)
    assert str(found) in said(tree)
    for k, row in enumerate(cells(tree)[1:]):
        assert row[:2] == [str(k), ", ".join(map(str, found.classes[k]))]
        assert row[2] == ", ".join(f"{value:.2f}" for value in found.positive[k])
        assert row[4:] == [f"{found.agreement[k]:.2f}", f"2^{found.range_bits[k]:.0f}"]


def test_a_diagnosis_of_one_class_or_of_many_samples():
    nan = np.full(10, np.nan)
    found = Diagnosis(np.zeros((10, 0), int), np.zeros((10, 0)), np.zeros((10, 0)), nan, nan)
    assert cells(parsed(found))[1] == ["0", "", "", "", "", ""]
    assert "... 2 more samples" in said(parsed(found))


def test_names_are_escaped_everywhere():
    x = keras.Input((6, 6, 2), name="x<y")
    y = layers.Add(name="i<j>&")([layers.Conv2D(3, 1, name=ODD)(x), layers.Conv2D(3, 1)(x)])
    trace = pane_keras.wrap(filled(x, layers.Dense(2)(layers.Flatten()(y)))).trace(draw(1, 6, 6, 2))
    pair = trace.between(ODD, "i<j>&")
    for shown in (trace, trace[ODD], trace[ODD].positive, pair, pair.channels(), pair.map((0, 0, 0)), trace.check()):
        assert "&lt;" in shown._repr_html_()
        assert ODD in said(parsed(shown))


def test_one_of_a_kind_is_not_several():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])
    page = pane_keras.wrap(model).trace(np.ones((1, 3), "float32")).between("input", "logits")._repr_html_()
    assert "1 layer on 1 chain between junctions" in page
