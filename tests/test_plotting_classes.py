"""Several classes of one picture, a row each."""

import numpy as np
import pytest
import scipy.stats
from drawn import array_of, outside, overlapping, panels, words

import pane_keras
from pane_keras.errors import InputError, UnknownLayerError
from pane_keras.plotting import classes


def rows(figure):
    return [" ".join(part.get_suptitle().split()) for part in figure.subfigs]


def test_the_top_three_with_logits_and_rank_correlations(residual_trace):
    figure = classes(residual_trace, sample=1)
    logits = np.asarray(residual_trace.logits())[1]
    best = np.argsort(-logits)[:3]
    found = [residual_trace.saliency(int(k)) for k in best]
    for part, maps in zip(figure.subfigs, found):
        for name, values in zip(("POS", "NEG", "POS + NEG"), (maps.positive, maps.negative, maps.sum)):
            ax = panels(part)[name]
            limit, values = ax.images[0].get_clim()[1], np.asarray(values, "float64")[1].sum(axis=-1)
            close = pytest.approx(np.clip(values, -limit, limit), abs=1e-5 * np.abs(values).max())
            assert array_of(ax) == close, name
    for number, (row, k, maps) in enumerate(zip(rows(figure), best, found), 1):
        assert row.startswith(f"{number}. class {k}: logit {logits[k]:.3g}")
        alike = [
            scipy.stats.spearmanr(np.ravel(getattr(maps, p)[1]), np.ravel(getattr(found[0], p)[1])).statistic
            for p in ("positive", "negative", "sum")
        ]
        expected = "rank correlation with 1.: POS {:.2f}, NEG {:.2f}, POS + NEG {:.2f}".format(*alike)
        assert row.endswith("the others are compared with it" if number == 1 else expected)
    assert "Rank correlation 1: two classes order the places alike" in words(figure)


def test_chosen_classes_with_names(residual_trace):
    names = ["cat", "dog", "cup", "tree", "a class with a very long name, " * 12]
    figure = classes(residual_trace, [4, -4], names=names, note="Seen twice.", split_below="stem")
    assert rows(figure)[1].startswith("2. dog (class 1): logit")
    assert "(class 4): logit" in rows(figure)[0]
    assert "Seen twice." in words(figure)
    assert "at and below 'stem' only" in words(figure)
    assert outside(figure) == []
    assert overlapping(figure) == []


def test_one_class_is_compared_with_nothing(residual_trace):
    figure = classes(residual_trace, 2, pictures=np.zeros((1, 6, 6, 3), "uint8"))
    assert rows(figure) == [f"1. class 2: logit {np.asarray(residual_trace.logits())[0, 2]:.3g}"]
    assert "rank correlation" not in words(figure).lower()
    assert "picture" in panels(figure)


def test_over_an_inner_layer_and_for_one_of_several_outputs(two_outputs, inputs_for):
    trace = pane_keras.wrap(two_outputs).trace(inputs_for(two_outputs, 1))
    figure = classes(trace, [0, 1], source="hidden", target="size")
    maps = trace.between("hidden", "size").map([(0,), (1,)])
    for k, part in enumerate(figure.subfigs):
        heights = [segment[1][1] for segment in panels(part)["POS + NEG"].collections[0].get_segments()]
        np.testing.assert_allclose(heights, np.asarray(maps.sum)[0, k], rtol=1e-6)


def test_a_constant_map_has_no_rank_correlation(cnn):
    trace = pane_keras.wrap(cnn).trace(np.zeros((1, 8, 8, 3), "float32"))
    figure = classes(trace, [0, 1])
    assert "POS unknown, it is constant" in rows(figure)[1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"classes": [5]}, InputError, r"The classes are 0 to 4. Received: classes=\[5\]"),
        ({"classes": []}, InputError, r"classes as a list of ints. Received: classes=\[\]"),
        ({"classes": ["cat"]}, InputError, r"classes as a list of ints. Received: classes=\['cat'\]"),
        ({"names": ["cat"]}, InputError, "a name for each of the 5 classes. Received: 1 names"),
        ({"sample": 2}, InputError, "Expected a sample from 0 to 1. Received: sample=2"),
        ({"target": "branch"}, InputError, r"compares logits of shape \(batch, classes\)"),
        ({"source": "inputs"}, UnknownLayerError, "no layer 'inputs'"),
    ],
)
def test_what_cannot_be_compared(residual_trace, change, error, message):
    with pytest.raises(error, match=message):
        classes(residual_trace, **change)
