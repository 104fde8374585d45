"""The loop: the same numbers as the metrics called directly, and nothing computed twice."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
from agreement import filled
from keras import layers

import pane_keras
from pane_keras.errors import InputError, PaneError, SaveError
from pane_keras.evaluation import (
    Classifier,
    Ranking,
    bootstrap_interval,
    cascade_randomisation,
    change_logits,
    class_sensitivity,
    experiments,
    guided_attack,
    iterative_fgsm,
    parts_agreement,
    remove_minor,
    remove_negative_salient,
    remove_salient,
    runner,
)
from pane_keras.evaluation.experiments import Options, UnknownExperimentError
from pane_keras.evaluation.methods import Settings, UnknownMethodError, methods
from pane_keras.evaluation.runner import evaluate

SHAPE = (8, 7, 2)
UNITS = {"black": [0.1, -0.2], "step": 0.02, "bounds": (-6, 6)}
# No tf-keras-vis, so that a test takes seconds.
QUICK = "pos,neg,pos+neg,gradient,random"
FEW = {"methods": "pos,gradient", "only": "logit-salient,class-sensitivity,parts-agreement,remove-salient"}


@functools.cache
def classifier(activation="relu"):
    x = keras.Input(SHAPE)
    y = layers.Conv2D(4, 3, activation=activation, name="first")(x)
    y = layers.Conv2D(3, 3, activation=activation, name="second")(y)
    return filled(x, layers.Dense(3, activation="softmax", name="top")(layers.Flatten()(y)))


def images(count=5):
    return np.random.default_rng(1).normal(size=(count, *SHAPE)).astype("float32")


def run(out, model=None, count=5, methods=QUICK, only=None, targets=None, **how):
    options = Options(methods, only, batch_size=2, **how)
    return evaluate(model or classifier(), images(count), targets, out=out, options=options, progress=False, **UNITS)


def values(results, experiment, method, quantity, ranking=""):
    wanted = (experiment, method, quantity, ranking)
    found = [row for row in results.rows if (row.experiment, row.method, row.quantity, row.ranking) == wanted]
    assert found
    return np.array([(row.value, row.low, row.high, row.samples) for row in found]).T


def expected(numbers):
    interval = bootstrap_interval(numbers)
    return np.array([interval.mean, interval.low, interval.high, interval.count])


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return run(tmp_path_factory.mktemp("out"))


def explained(method, targets=None, seed=0):
    return methods(Settings(seed=seed))[method].explain(classifier(), images(), targets)


@pytest.mark.parametrize("by", ["value", "absolute", "contribution"])
@pytest.mark.parametrize("method", ["pos", "pos+neg"])
def test_regions_are_those_of_the_metrics(everything, method, by):
    given, how = (classifier(), images(), explained(method)), {"ranking": Ranking(by, ties=0)}
    black = {"black": UNITS["black"]}
    for name, found in (
        ("remove-salient", remove_salient(*given, **black, **how)),
        ("remove-minor", remove_minor(*given, **black, **how)),
    ):
        change = values(everything, name, method, "probability change", by)
        np.testing.assert_allclose(change, expected(found.change), rtol=1e-4, atol=1e-7)
        relative = values(everything, name, method, "relative probability change", by)
        np.testing.assert_allclose(relative, expected(found.relative_change), rtol=1e-4, atol=1e-7)
    ends = {"logit-salient": "top", **({} if by == "absolute" else {"logit-negative": "bottom"})}
    for name, where in ends.items():
        found = change_logits(*given, where, step=UNITS["step"], **how)
        change = values(everything, name, method, "logit change", by)
        np.testing.assert_allclose(change, expected(found.change), rtol=1e-4, atol=1e-6)
        accumulated = values(everything, name, method, "accumulated logit change", by)
        np.testing.assert_allclose(accumulated[0], found.accumulated, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(accumulated[1:3], 5 * change[1:3])
        np.testing.assert_array_equal(values(everything, name, method, "share as intended", by)[0], found.share)
    adversarial = iterative_fgsm(classifier(), images(), step=UNITS["step"], bounds=UNITS["bounds"])
    found = guided_attack(*given, adversarial, **how)
    success = values(everything, "guided-attack", method, "success rate", by)
    np.testing.assert_array_equal(success, expected(found.fooled))


def test_the_other_experiments_are_the_metrics_too(everything):
    black = {"black": UNITS["black"]}
    found = remove_negative_salient(
        classifier(), images(), explained("pos+neg"), ranking=Ranking("contribution", ties=0), **black
    )
    change = values(everything, "remove-negative", "pos+neg", "probability change", "contribution")
    np.testing.assert_allclose(change, expected(found.change), rtol=1e-4, atol=1e-7)
    assert {row.method for row in everything.rows if row.experiment == "remove-negative"} == {"pos+neg"}
    for method in ("pos", "gradient"):
        one = methods()[method]
        sensitivity = class_sensitivity(classifier(), images(), one.explain, batch_size=2)
        found = values(everything, "class-sensitivity", method, "rank correlation")
        np.testing.assert_allclose(found, expected(sensitivity), atol=1e-6)
        randomised = cascade_randomisation(classifier(), images(), one.explain, batch_size=2)
        assert randomised.layers == ("top", "second", "first")
        for quantity, numbers in (
            ("rank correlation", randomised.value),
            ("rank correlation of absolute values", randomised.absolute),
        ):
            found = values(everything, "randomisation", method, quantity)
            np.testing.assert_allclose(found, expected(numbers), atol=1e-6)
    agreement = parts_agreement(explained("pos"), explained("neg"))
    np.testing.assert_allclose(
        values(everything, "parts-agreement", "pos", "rank correlation")[:, 0], expected(agreement), atol=1e-6
    )


def test_random_maps_have_the_seed_of_the_run(everything, tmp_path):
    assert everything.settings["seed"] == everything.settings["method_settings"]["seed"] == 0
    other = run(tmp_path, methods="random", only="remove-salient", seed=7)
    found = remove_salient(
        classifier(), images(), explained("random", seed=7), black=UNITS["black"], ranking=Ranking(ties=7)
    )
    change = values(other, "remove-salient", "random", "probability change", "value")
    np.testing.assert_allclose(change[0], found.change.mean(axis=0), rtol=1e-4, atol=1e-7)


def test_every_method_and_ranking_is_there(everything):
    ranked = {(row.method, row.ranking) for row in everything.rows if row.experiment == "remove-salient"}
    ways = {(method, by) for method in ("pos", "neg", "pos+neg") for by in ("value", "absolute", "contribution")}
    assert ranked == ways | {("gradient", "value"), ("random", "value")}
    assert {row.counting for row in everything.rows} == {"pixels", ""}
    assert not everything.left_out


def test_chunks_do_not_change_the_numbers(everything, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_BYTES", 1)
    chunked = run(tmp_path, **FEW)
    assert chunked.settings["chunk"] == 2
    whole = {dataclasses.astuple(row)[:6]: dataclasses.astuple(row)[6:] for row in everything.rows}
    assert len(chunked.rows) > 50
    for row in map(dataclasses.astuple, chunked.rows):
        np.testing.assert_allclose(whole[row[:6]], row[6:], rtol=1e-3, atol=1e-6, equal_nan=True)


def test_a_run_that_was_broken_off_computes_only_what_is_missing(tmp_path, monkeypatch):
    measured = []

    def counting(experiment, stop_at=None):
        def measure(case):
            if len(measured) == stop_at:
                raise KeyboardInterrupt
            measured.append((experiment.name, case.method.name, case.ranking))
            return experiment.measure(case)

        return dataclasses.replace(experiment, measure=measure)

    at_once, out = run(tmp_path / "at once", **FEW), tmp_path / "resumed"
    original = dict(experiments.EXPERIMENTS)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {k: counting(v, 5) for k, v in original.items()})
    with pytest.raises(KeyboardInterrupt):
        run(out, **FEW)
    assert len(list(out.glob("values/*.npz"))) == 5
    monkeypatch.setattr(experiments, "EXPERIMENTS", {k: counting(v) for k, v in original.items()})
    assert run(out, **FEW).rows == at_once.rows
    assert len(measured) == len(set(measured)) == len(list(out.glob("values/*.npz"))) == 11
    monkeypatch.setattr(runner, "Explainers", None)
    assert run(out, **FEW).rows == at_once.rows
    assert len(measured) == 11


def test_more_methods_may_be_asked_for_later(tmp_path):
    run(tmp_path / "later", methods="pos", only="remove-salient")
    assert run(tmp_path / "later", **FEW).rows == run(tmp_path / "at once", **FEW).rows


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"count": 4}, {"targets": [0, 0, 0, 1, 1]}, {"model": classifier("tanh")}, {"limits": {"pos": 2}}],
    ids=str,
)
def test_results_of_something_else_are_refused(tmp_path, other):
    run(tmp_path, methods="random", only="remove-salient", targets=1)
    with pytest.raises(SaveError, match="holds results of another model, data or settings"):
        run(
            tmp_path,
            methods="random",
            only="remove-salient",
            **{"model": classifier(), "targets": 1, **other},
        )


def test_slow_methods_and_experiments_run_on_fewer_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_BYTES", 1)
    how = {"limits": {"pos": 3}, "experiment_limits": {"class-sensitivity": 4}}
    results = run(tmp_path, methods="pos,gradient", only="remove-salient,class-sensitivity", **how)
    counts = {(row.experiment, row.method): row.samples for row in results.rows}
    assert counts == {
        ("remove-salient", "pos"): 3,
        ("remove-salient", "gradient"): 5,
        ("class-sensitivity", "pos"): 3,
        ("class-sensitivity", "gradient"): 4,
    }
    found = remove_salient(
        classifier(), images()[:3], explained("pos")[:3], black=UNITS["black"], ranking=Ranking(ties=0)
    )
    change = values(results, "remove-salient", "pos", "probability change", "value")
    np.testing.assert_allclose(change, expected(found.change), rtol=1e-4, atol=1e-7)


def test_targets_are_explained_and_compared_with_the_highest_other_class(tmp_path):
    logits = classifier()(images()).numpy()
    order = np.argsort(-logits, axis=1)
    results = run(tmp_path, methods="pos+neg", only="class-sensitivity,logit-salient", targets=order[:, 1])
    maps, others = (explained("pos+neg", order[:, k]) for k in (1, 0))
    correlation = parts_agreement(maps, -others)
    found = values(results, "class-sensitivity", "pos+neg", "rank correlation")[:, 0]
    np.testing.assert_allclose(found, expected(correlation), atol=1e-6)
    change = change_logits(
        classifier(), images(), maps, step=UNITS["step"], targets=order[:, 1], ranking=Ranking(ties=0)
    ).change
    found = values(results, "logit-salient", "pos+neg", "logit change", "value")
    np.testing.assert_allclose(found, expected(change), rtol=1e-4, atol=1e-6)


def test_elements_and_pixels(tmp_path):
    results = run(tmp_path, methods="gradient,full-grad", only="remove-salient", counts=("pixels", "elements"))
    assert {(row.method, row.counting) for row in results.rows} == {
        ("gradient", "pixels"),
        ("gradient", "elements"),
        ("full-grad", "pixels"),
    }
    assert list(results.left_out) == ["full-grad_elements_value_remove-salient"]
    assert "needs maps with the channels of the images" in results.left_out["full-grad_elements_value_remove-salient"]


def test_a_method_that_cannot_explain_the_model_is_left_out_unless_it_was_asked_for(tmp_path):
    pytest.importorskip("tf_keras_vis")
    model = classifier("tanh")
    results = run(tmp_path / "all", model, 2, None, "parts-agreement,remove-negative,class-sensitivity")
    guided = {"guided-backpropagation", "guided-pane", "guided-grad-cam", "guided-full-grad"}
    assert set(results.left_out) == guided
    assert all("Choose the method 'gradient'" in reason for reason in results.left_out.values())
    shown = {row.method for row in results.rows if row.experiment == "class-sensitivity"}
    assert shown == set(methods()) - guided - set(runner.REPEATED) == {method.name for method in results.methods}
    again = run(tmp_path / "all", model, 2, None, "parts-agreement,remove-negative,class-sensitivity")
    assert (again.rows, again.left_out) == (results.rows, results.left_out)
    with pytest.raises(PaneError, match="Choose the method 'gradient'"):
        run(tmp_path / "one", model, 2, "guided-pane,pos", "remove-salient")


def test_maps_that_are_not_finite_leave_the_method_out(tmp_path, monkeypatch):
    from pane_keras.evaluation.methods.random_maps import RandomMaps

    monkeypatch.setattr(RandomMaps, "__call__", lambda self, images, targets: {"random": images * np.nan})
    results = run(tmp_path, methods="random,gradient", only="remove-salient")
    assert {row.method for row in results.rows} == {"gradient"}
    assert results.left_out == {"random": "its maps of images 1 to 5 hold a NaN or an infinity"}


def test_one_sample_has_no_interval(tmp_path):
    results = run(tmp_path, count=1, methods="pos", only="remove-salient")
    assert all(np.isnan([row.low, row.high]).all() and row.samples == 1 for row in results.rows)


def test_a_wrapped_model_is_taken_as_well(tmp_path):
    rows = run(tmp_path / "a", methods="pos", only="remove-salient").rows
    assert run(tmp_path / "b", pane_keras.wrap(classifier()), methods="pos", only="remove-salient").rows == rows


@pytest.mark.parametrize(
    ("how", "units", "error", "message"),
    [
        ({"methods": "pos,gradcam"}, {}, UnknownMethodError, "No method is called 'gradcam'"),
        ({"experiments": "remove-sailent"}, {}, UnknownExperimentError, "Did you mean 'remove-salient'"),
        ({"experiments": []}, {}, UnknownExperimentError, "No experiment is called None"),
        ({"counts": ("channels",)}, {}, InputError, "Expected counts to be one of 'pixels', 'elements'"),
        ({"limits": {"pos": 0}}, {}, InputError, "Expected limits of at least one sample"),
        ({"batch_size": 0}, {}, InputError, "Expected batch_size"),
        ({}, {"step": 0}, InputError, "Expected step to be above 0"),
        ({}, {"black": [0, 0, 0]}, InputError, "Expected black to be a number, or one for each of 2 channels"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, how, units, error, message):
    with pytest.raises(error, match=message):
        evaluate(classifier(), images(), out=tmp_path / "new", options=Options(**how), **{**UNITS, **units})
    assert not (tmp_path / "new").exists()


def test_bounds_of_each_channel(tmp_path):
    options = Options("random", "guided-attack", batch_size=2)
    how = {"black": 0.0, "step": 0.02, "options": options, "progress": False}
    plain = evaluate(classifier(), images(), out=tmp_path / "a", bounds=(-6, 6), **how)
    each = evaluate(classifier(), images(), out=tmp_path / "b", bounds=(-6, [6, 6]), **how)
    assert plain.rows == each.rows


def test_bounds_are_looked_at_before_anything_is_computed(tmp_path):
    options = Options("random", "remove-salient,guided-attack", batch_size=2)
    with pytest.raises(InputError, match=r"images within the bounds \(0, 1\)"):
        evaluate(classifier(), images(), out=tmp_path, black=0.0, step=0.02, bounds=(0, 1), options=options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["limits", "experiment_limits"])
def test_limits_of_what_is_not_known(tmp_path, word):
    with pytest.raises(InputError, match=rf"Expected {word} of .*\. Received: 'scorecamm'\."):
        run(tmp_path, methods="random", only="remove-salient", **{word: {"scorecamm": 3}})


def test_remembered_answers_count_in_the_size_of_a_chunk(tmp_path, monkeypatch):
    """At 1000 classes the logits of all perturbed pictures would take more memory than the maps."""
    x = keras.Input(SHAPE)
    wide = filled(x, layers.Dense(1000, name="top")(layers.Flatten()(x)))
    monkeypatch.setattr(runner, "_BYTES", 2**26)
    given = (tuple(UNITS.values()), Options(batch_size=2))
    made = {"few": classifier(), "many": wide}
    sizes = [runner._Run(model, images(), None, tmp_path / name, *given).chunk for name, model in made.items()]
    assert sizes == [250, 2**26 // (1000 * 8 * 1000 + images()[0].nbytes * len(methods()))]


def test_images_of_another_class_before_the_attack_do_not_count(tmp_path):
    model, pictures = classifier(), images(12)
    predicted = Classifier(model).predicted(pictures)
    targets = np.where(np.arange(12) < 4, (predicted + 1) % 3, predicted)
    results = run(tmp_path, methods="pos+neg", only="guided-attack", count=12, targets=targets)
    whole = [row for row in results.rows if row.quantity == "success rate of the whole attack"]
    assert {row.samples for row in results.rows} == {8}
    assert {row.region for row in whole} == {100.0}
    adversarial = iterative_fgsm(model, pictures, step=UNITS["step"], bounds=UNITS["bounds"])
    fooled = Classifier(model).predicted(adversarial) != predicted
    assert whole[0].value == pytest.approx(fooled[4:].mean())


def test_default_limits(tmp_path):
    """Randomisation on 50 images, class sensitivity on 100, as the pages say."""
    results = run(tmp_path, methods="random", only="class-sensitivity,randomisation", count=101)
    counts = {(row.experiment, row.samples) for row in results.rows}
    assert counts == {("class-sensitivity", 100), ("randomisation", 50)}


def test_randomisation_looks_at_the_first_the_middle_and_the_last_layer(tmp_path):
    x = y = keras.Input(SHAPE)
    for k in range(4):
        y = layers.Conv2D(2, 3, padding="same", name=f"conv{k}")(y)
    model = filled(x, layers.Dense(3, name="top")(layers.Flatten()(y)))
    results = run(tmp_path, model, methods="random", only="randomisation")
    assert list(dict.fromkeys(row.region for row in results.rows)) == ["top", "conv2", "conv0"]
