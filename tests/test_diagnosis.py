"""The verdict on a map, against Spearman's correlation from SciPy and against what a sentence has to say."""

import copy
import dataclasses
import gc
import pickle
import weakref

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers
from scipy import stats

import pane_keras
from pane_keras.diagnosis import Diagnosis, _ranks
from pane_keras.errors import ModelError, TargetError
from pane_keras.testing import channels


def classifier(classes=5, depth=1, seed=0):
    x = keras.Input((6, 6, 2))
    y = x
    for _ in range(depth):
        y = layers.Conv2D(8, 3, padding="same", activation="relu")(y)
    return filled(x, layers.Dense(classes, name="scores")(layers.GlobalAveragePooling2D()(y)), seed)


@pytest.fixture(scope="module")
def pane():
    return pane_keras.wrap(classifier())


@pytest.fixture
def x():
    return draw(3, 6, 6, 2)


def spearman(a, b):
    return [stats.spearmanr(np.ravel(p), np.ravel(q)).statistic for p, q in zip(np.asarray(a), np.asarray(b))]


@pytest.mark.parametrize("target", [None, 2, [0, 4, 1], -1])
@pytest.mark.parametrize("way", ["saliency", "explain", "explain, trace gone"])
def test_against_the_maps_of_the_next_classes(pane, x, target, way):
    trace = pane.trace(x)
    maps = trace.saliency(target) if way == "saliency" else pane.explain(x, target)
    logits, found = np.asarray(trace.logits()), maps.diagnose()
    own = np.argmax(logits, 1) if target is None else np.broadcast_to(np.asarray(target) % 5, (3,))
    for k in range(2):
        classes = [[c for c in np.argsort(-row) if c != chosen][k] for row, chosen in zip(logits, own)]
        assert found.classes[:, k].tolist() == classes
        other = trace.saliency(classes)
        for part in ("positive", "sum"):
            expected = spearman(getattr(maps, part), getattr(other, part))
            np.testing.assert_allclose(getattr(found, part)[:, k], expected, atol=1e-3)
    np.testing.assert_allclose(found.agreement, spearman(maps.positive, -np.asarray(maps.negative)), atol=1e-6)
    s, d = (np.abs(t).reshape(3, -1).max(axis=1) for t in channels(maps))
    np.testing.assert_allclose(found.range_bits, np.log2(d / s), atol=1e-4)


def test_a_trace_that_is_gone_or_released_is_made_again(pane, x):
    kept = pane.trace(x)
    expected = kept.saliency(1).diagnose()
    released = pane.trace(x)
    maps = released.saliency(1)
    released.release()
    gone = pane.trace(x).saliency(1)
    gc.collect()
    for found in (maps.diagnose(), gone.diagnose()):
        np.testing.assert_allclose(found.sum, expected.sum, atol=1e-6)
        np.testing.assert_array_equal(found.classes, expected.classes)


def test_maps_do_not_keep_their_trace(pane, x):
    trace = pane.trace(x)
    watched, maps = weakref.ref(trace._record), trace.saliency()
    del trace
    gc.collect()
    assert watched() is None
    assert maps.diagnose().sum.shape == (3, 2)


def test_maps_are_pickled_and_copied_without_their_model(pane, x):
    maps = pane.trace(x).saliency()
    for other in (pickle.loads(pickle.dumps(maps)), copy.deepcopy(maps)):
        np.testing.assert_array_equal(other.sum, maps.sum)
        assert other.over == maps.over
        assert other.asker is None
    assert maps.asker is not None


def test_a_deep_network_is_called_blind_and_a_linear_one_is_not():
    """Behind many layers of random weights POS keeps its order whatever the class, or turns it around with the sign of
    the logit; behind none it has the class's own.
    """
    sentence = str(pane_keras.wrap(classifier(depth=12)).trace(draw(2, 6, 6, 2)).saliency().diagnose())
    assert sentence.startswith("POS barely depends on the class here (rank correlation ")
    assert sentence.endswith(": read POS+NEG, or POS with split_below.")
    x = keras.Input((40,))
    linear = filled(x, layers.Dense(4)(x))
    sentence = str(pane_keras.wrap(linear).trace(draw(2, 40)).saliency().diagnose())
    assert sentence.startswith("POS depends on the class here (rank correlation ")
    assert "read POS+NEG" not in sentence


def test_what_the_sentence_says():
    def said(**parts):
        usual = {"classes": np.zeros((1, 2), int), "positive": np.full((1, 2), 0.5), "sum": np.full((1, 2), 0.25),
                 "agreement": np.array([0.1]), "range_bits": np.array([3.0])}  # fmt: skip
        return str(Diagnosis(**{**usual, **{k: np.asarray(v) for k, v in parts.items()}}))

    plain = "POS depends on the class here (rank correlation 0.50 with the next classes' maps, POS+NEG 0.25)"
    assert said() == f"{plain}."
    assert said(agreement=[0.96]) == f"{plain} and ranks the pixels as -NEG does (0.96)."
    assert said(range_bits=[30.4]) == f"{plain} and is 2^30 times as large as POS+NEG, which float32 could not add up."
    assert said(agreement=[1.0], range_bits=[52.0]) == (
        f"{plain}, ranks the pixels as -NEG does (1.00) and is 2^52 times as large as POS+NEG, which float32 could not "
        "add up."
    )
    assert said(positive=[[-1.0, -1.0]]).startswith("POS barely depends on the class here (rank correlation -1.00")
    assert said(positive=[[-1.0, 1.0]]).startswith("POS barely depends on the class here (rank correlation ±1.00")
    assert said(positive=[[np.nan, 0.5]]) == f"{plain}."
    assert said(sum=[[np.nan, np.nan]]) == f"{plain.replace('POS+NEG 0.25', 'POS+NEG unknown')}."
    constant = "POS cannot be compared with the next classes' maps here (it or they are constant, without an order)"
    assert said(positive=[[np.nan, np.nan]]) == f"{constant}."
    assert said(positive=[[np.nan, np.nan]], range_bits=[30]) == (
        f"{constant} and is 2^30 times as large as POS+NEG, which float32 could not add up."
    )
    none = said(classes=np.zeros((1, 0), int), positive=np.zeros((1, 0)), sum=np.zeros((1, 0)))
    assert none == "POS is that of the only class there is."


def test_two_classes_and_one(x):
    for classes, others in ((2, 1), (1, 0)):
        found = pane_keras.wrap(classifier(classes)).trace(x).saliency(0).diagnose()
        assert found.classes.shape == found.positive.shape == found.sum.shape == (3, others)
        assert str(found).startswith("POS ")


def test_a_constant_map_has_no_order():
    x = keras.Input((4,))
    model = filled(x, layers.Dense(3)(x))
    found = pane_keras.wrap(model).trace(np.zeros((2, 4), "float32")).saliency(0).diagnose()
    assert np.isnan(found.positive).all()
    assert np.isnan(found.agreement).all()
    assert np.isnan(found.range_bits).all()
    assert str(found).startswith("POS cannot be compared with the next classes' maps here (it or they are constant")
    assert "nan" not in str(found)


def test_several_inputs_and_outputs_are_asked_for_their_own():
    a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
    y = layers.Dense(6, activation="relu")(layers.Concatenate()([a, b]))
    model = filled([a, b], [layers.Dense(3, name="kind")(y), layers.Dense(4, name="size")(y)])
    pane, data = pane_keras.wrap(model), [draw(2, 3), draw(2, 4)]
    trace = pane.trace(data)
    for output, classes in (("kind", 3), ("size", 4)):
        for maps in (trace.saliency(output=output), pane.explain(data, output=output)):
            for name, one in maps.items():
                found = one.diagnose()
                assert found.classes.max() < classes
                other = trace.saliency(found.classes[:, 0], output=output)[name]
                np.testing.assert_allclose(found.sum[:, 0], spearman(one.sum, other.sum), atol=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        lambda trace: trace.saliency().contribution(),
        lambda trace: trace.saliency().samples(slice(2)),
        lambda trace: trace.between("input", "scores").map(0),
    ],
)
def test_other_maps_cannot_be_compared(pane, x, other):
    with pytest.raises(TargetError, match=r"Only the maps that saliency\(\) and explain\(\) return .* ExcitationMap\("):
        other(pane.trace(x)).diagnose()


@pytest.mark.parametrize("values", [[3, 1, 2], [1, 1, 2, 2, 2], [0.0], [-1, 0, 0, 5, -1]], ids=str)
def test_ties_share_their_mean_rank(values):
    np.testing.assert_array_equal(_ranks(np.array(values)), stats.rankdata(values) - 1)


@pytest.mark.parametrize("way", ["explain", "saliency"])
@pytest.mark.parametrize("target", [None, 3])
def test_maps_are_not_compared_with_those_of_a_model_that_has_changed(x, way, target):
    model = classifier()
    pane = pane_keras.wrap(model)
    maps = pane.explain(x, target) if way == "explain" else pane.trace(x).saliency(target)
    gc.collect()
    before, kept = maps.diagnose(), pane.trace(x)
    at_hand, old = kept.saliency(target), model.get_weights()
    model.set_weights([-weight for weight in old])
    with pytest.raises(
        ModelError, match=r"The model has changed since these maps were made: its logits differ by up to"
    ):
        maps.diagnose()
    # A trace that is still there has kept the weights it was made with.
    np.testing.assert_allclose(at_hand.diagnose().sum, before.sum, atol=1e-6)
    model.set_weights(old)
    np.testing.assert_array_equal(maps.diagnose().classes, before.classes)


def test_maps_that_are_cut_already_are_not_told_to_cut():
    pane = pane_keras.wrap(classifier(depth=12))
    trace = pane.trace(draw(2, 6, 6, 2))
    found = trace.saliency(split_below=list(trace)[-3]).diagnose()
    assert (np.abs(found.positive) > 0.95).all()
    assert str(found).endswith(": read POS+NEG, or POS with a lower split_below.")
    assert pane.explain(draw(2, 6, 6, 2), split_below=list(trace)[-3]).diagnose().split_below == list(trace)[-3]


@pytest.mark.parametrize(
    "let_go", [lambda maps: maps.samples(slice(None)), lambda maps: dataclasses.replace(maps, asker=None)]
)
def test_maps_can_let_go_of_their_model(x, let_go):
    model = classifier()
    pane, watched = pane_keras.wrap(model), weakref.ref(model)
    maps = let_go(pane.explain(x, 1))
    del model, pane
    gc.collect()
    assert watched() is None
    assert maps.sum.shape == (3, 6, 6, 2)
