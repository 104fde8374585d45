"""Tables, figures, sentences and the page, from rows written by hand."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest

from pane_keras.evaluation import experiments as known
from pane_keras.evaluation.experiments import Row
from pane_keras.evaluation.figures import FIGURES, draw
from pane_keras.evaluation.methods import methods
from pane_keras.evaluation.page import page, verdicts
from pane_keras.evaluation.runner import Results
from pane_keras.evaluation.tables import csv_text, series, share, tables

NAN = float("nan")


def region_rows(experiment, quantity, method, values, ranking="value", counting="pixels", samples=9):
    regions = known.EXPERIMENTS[experiment].regions
    values = np.broadcast_to(values, len(regions))
    return [
        Row(experiment, method, ranking, counting, region, quantity, float(v), float(v) - 0.5, float(v) + 0.25, samples)
        for region, v in zip(regions, values)
    ]


def salient(method, value, **how):
    return region_rows("remove-salient", known.CHANGE, method, value, **how)


def whole(experiment, method, value, region="", quantity=known.CORRELATION):
    return Row(experiment, method, "", "", region, quantity, value, value - 0.01, value + 0.01, 9)


def test_csv_has_every_number_as_it_is():
    rows = [*salient("pos", np.linspace(-0.1, 1 / 3, 10)), whole("class-sensitivity", "random", NAN)]
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [float(line["value"]) for line in read[:-1]] == [row.value for row in rows[:-1]]
    assert read[-1]["value"] == read[-1]["low"] == ""
    assert list(read[0]) == [field.name for field in dataclasses.fields(Row)]
    assert read[0]["region"] == "0.1"


def test_series_keep_methods_rankings_and_countings_apart():
    rows = salient("pos", 1) + salient("pos", 2, ranking="absolute") + salient("pos", 3, counting="elements")
    found = series(rows, "remove-salient", known.CHANGE)
    assert [line.label for line in found] == ["POS (pixels)", "POS (absolute, pixels)", "POS (elements)"]
    assert [line.value[0] for line in found] == [1, 2, 3]
    assert [line.label for line in series(rows[:20], "remove-salient", known.CHANGE)] == ["POS", "POS (absolute)"]


def test_a_share_is_whole_only_where_it_is_all_of_them():
    assert [share(v) for v in (1.0, 0.99996, 0.29, 0.995, 0.0, NAN)] == [
        "100.0 %", "99.9 %", "29.0 %", "99.5 %", "0.0 %", "",
    ]  # fmt: skip


def test_tables_in_markdown():
    rows = salient("pos", np.arange(10) / 8) + region_rows("logit-salient", known.SHARE, "pos+neg", 1)
    first, second = (
        table.markdown().splitlines() for table in tables([*rows, whole("parts-agreement", "pos", 0.5)])[:2]
    )
    assert "Table I " in first[0]
    assert first[2].startswith("| method | 0.1 % | 0.2 % |")
    assert first[4] == "| POS | 0 | 0.125 | 0.25 | 0.375 | 0.5 | 0.625 | 0.75 | 0.875 | 1 | 1.12 | 9 |"
    assert "Table III" in second[0]
    assert second[4].startswith("| POS+NEG | 100.0 % |")
    *_, last = tables([whole("parts-agreement", "pos", 0.5), whole("class-sensitivity", "random", NAN)])
    assert last.body == (
        ("parts-agreement", "POS", "", "rank correlation", "0.500", "0.490 to 0.510", "9"),
        ("class-sensitivity", "Random", "", "rank correlation", "constant", "", "9"),
    )


@pytest.mark.parametrize(("value", "word"), [(1.0, "reached"), (0.994, "MISSED")])
def test_the_bound_on_logit_changes(value, word):
    values = [1.0] * 3 + [value] + [1.0] * 6
    (sentence,) = verdicts(region_rows("logit-negative", known.SHARE, "pos+neg", values))
    assert f"raises the logit of at least {share(value)} of 9 samples" in sentence
    assert sentence.endswith(f"The bound of 99.5% at every size is {word}.")
    (other,) = verdicts(region_rows("logit-salient", known.SHARE, "pos", values))
    assert "bound" not in other


def test_the_order_of_methods():
    rows = salient("pos", -0.2) + salient("gradient", -0.7, samples=4) + salient("random", 0.1)
    (sentence,) = verdicts(rows + salient("pos", -0.9, ranking="absolute"))
    assert "Of 3 methods ranked by value" in sentence
    assert "drops the probability most with Gradient (-0.7, 95 % interval -1.2 to -0.45)" in sentence
    assert "POS is number 2 (-0.2), Random is number 3 (0.1)" in sentence
    assert "Not all methods have all 9 samples: Gradient on 4." in sentence
    minor = [
        row for m, v in (("pos", -0.2), ("random", 0.1)) for row in region_rows("remove-minor", known.CHANGE, m, v)
    ]
    assert "least with Random (0.1" in verdicts(minor)[0]


def test_negative_pixels():
    rows = region_rows("remove-negative", known.CHANGE, "pos+neg", [1, 1, 0, 0, 0, 0, 0, 0, -1, -1])
    (sentence,) = verdicts(rows)
    assert "raises at 0.1 %, 0.2 % and lowers at 0.9 %, 1 % the mean probability" in sentence


def test_attack_sensitivity_agreement_and_randomisation():
    attack = [
        r for m, v in (("pos", 0.25), ("grad-cam", 0.5)) for r in region_rows("guided-attack", known.SUCCESS, m, v)
    ]
    assert "3 % of the pixels: class changed with Grad-CAM 50.0 %, POS 25.0 %." in verdicts(attack)[0]
    said = verdicts([
        whole("class-sensitivity", "pos", 0.5), whole("class-sensitivity", "pos", 0.99, quantity=known.SIZE),
        whole("class-sensitivity", "pos+neg", 0.3, quantity=known.SIZE),
        whole("parts-agreement", "pos", 0.999),
        whole("randomisation", "pos", 0.9, "top", known.ABSOLUTE),
        whole("randomisation", "pos", 0.2, "first", known.ABSOLUTE),
    ])  # fmt: skip
    assert said[0].startswith("POS barely depends on the class: size of the rank correlation 0.990")
    assert said[1].startswith("POS+NEG depends on the class: size of the rank correlation 0.300")
    assert said[2] == "POS and -NEG say nearly the same: rank correlation 0.999."
    assert said[3].startswith("POS changes when every layer down to 'first' gets new weights")
    assert len(said) == 4


def test_nothing_is_said_of_nothing():
    assert verdicts([]) == []
    assert tables([]) == []
    assert draw([], FIGURES[0]) is None
    constant = [whole("class-sensitivity", "pos", NAN), whole("randomisation", "pos", NAN, "top", known.ABSOLUTE)]
    assert verdicts(constant) == []


def test_figures_draw_what_the_rows_say():
    rows = [row for name in methods() for row in salient(name, len(name) / 10)] + salient("pos", 2, ranking="absolute")
    figure = draw(rows, FIGURES[0])
    drawn = {line.get_label(): line for ax in figure.axes for line in ax.get_lines() if line.get_label()[0] != "_"}
    assert {method.title for method in methods().values()} <= set(drawn)
    np.testing.assert_array_equal(drawn["Grad-CAM"].get_xdata(), known.EXPERIMENTS["remove-salient"].regions)
    np.testing.assert_allclose(drawn["Grad-CAM"].get_ydata(), 0.8)
    assert drawn["POS (absolute)"].get_linestyle() == "--"
    for ax in figure.axes:
        looks = [
            (line.get_color(), line.get_marker(), line.get_linestyle())
            for line in ax.get_lines()
            if line.get_label()[0] != "_"
        ]
        assert len(set(looks)) == len(looks)


def test_a_figure_of_one_method():
    for name in ("pos", "random"):
        assert len(draw(salient(name, 1), FIGURES[0]).axes) == 1


def test_the_page_stands_alone():
    rows = tuple(salient("pos", -0.2) + salient("random", 0.1))
    results = Results(rows, (methods()["pos"],), {"grad-cam": "no <layer> & none"}, {})
    text = page(results, {"model": "<mine>"}, {"Fig. 3": b"png"})
    assert "&lt;mine&gt;" in text
    assert "grad-cam: no &lt;layer&gt; &amp; none" in text
    assert "data:image/png;base64,cG5n" in text
    assert verdicts(rows)[0] in text
    assert "what excites the logit" in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)


def test_maps_that_turn_around_between_classes_are_alike():
    """The mean of 1 and -1 would be 0, as if the maps had nothing in common."""
    experiment = known.EXPERIMENTS["class-sensitivity"]
    made = known.rows(experiment, "pos", None, {known.CORRELATION: np.array([[1.0], [-1.0], [0.9], [-0.9]])})
    assert {row.quantity: row.value for row in made} == {known.CORRELATION: 0.0, known.SIZE: pytest.approx(0.95)}
    assert {row.samples for row in made} == {4}
