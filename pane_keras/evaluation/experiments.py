"""The experiments by name: what each measures on the maps of one method, and the tidy rows that come of it."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pane_keras.errors import PaneError
from pane_keras.evaluation.agreement import parts_agreement
from pane_keras.evaluation.attack import ATTACK_PERCENTS, guided_attack
from pane_keras.evaluation.intervals import bootstrap_interval
from pane_keras.evaluation.logit_change import LOGIT_PERCENTS, change_logits
from pane_keras.evaluation.methods import Settings
from pane_keras.evaluation.randomisation import _weighted, cascade_randomisation
from pane_keras.evaluation.ranking import BY, Ranking
from pane_keras.evaluation.removal import MINOR_PERCENTS, SALIENT_PERCENTS, remove
from pane_keras.evaluation.similarity import rank_correlation

CHANGE, RELATIVE, LOGIT, ACCUMULATED, SHARE = (
    "probability change",
    "relative probability change",
    "logit change",
    "accumulated logit change",
    "share as intended",
)
SUCCESS, WHOLE = "success rate", "success rate of the whole attack"
CORRELATION, ABSOLUTE = "rank correlation", "rank correlation of absolute values"
SIZE = "size of the rank correlation"
# These are ranked in all three ways, since a coefficient of PANE carries the pixel's sign as well.
COEFFICIENTS = ("pos", "neg", "pos+neg", "pos-split", "pos+neg-float32")
SUMS = ("pos+neg", "pos+neg-contribution", "pos+neg-float32")


class UnknownExperimentError(PaneError, ValueError):
    """No experiment has the name that was asked for."""


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Attributes:
        methods: Names, as for `methods.chosen`; None for all but the contribution forms.
        experiments: Names, as for `experiments.chosen_experiments`; None for all.
        counts: Ways of counting positions: "pixels", "elements" or both.
        batch_size: Images that are computed at once.
        seed: Of everything that is random: ties, noise, random maps, new weights, the bootstrap.
        settings: `methods.Settings`, whose seed is replaced by this one.
        limits: {name of a method: samples at most}, for the slow ones.
        experiment_limits: {name of an experiment: samples at most}; the others have their own, or none.
    """

    methods: object = None
    experiments: object = None
    counts: tuple = ("pixels",)
    batch_size: int = 32
    seed: int = 0
    settings: Settings = Settings()  # noqa: RUF009  frozen
    limits: dict = field(default_factory=lambda: {"score-cam": 100, "smooth-grad": 100})
    experiment_limits: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One experiment of the paper's section V, or beside it.

    Attributes:
        name: What it is asked for by.
        title: What it is, in one line.
        measure: Function `Case` -> {quantity: one number for each sample and region, (n, regions)}.
        regions: Sizes of the regions in percent, or None: then the second part of the quantity's key names it.
        ranked: Whether it depends on how the entries of a map are ranked.
        methods: Names of the methods it is for, or None for all.
        needs: Names of the methods whose maps it reads besides.
        by: Ways of ranking it has a meaning for: the bottom of the absolute values matters least.
        limit: Samples that it runs on by default, or None for all.
    """

    name: str
    title: str
    measure: Callable
    regions: tuple | None = None
    ranked: bool = True
    methods: tuple | None = None
    needs: tuple = ()
    by: tuple = BY
    limit: int | None = None


@dataclass(frozen=True)
class Row:
    """One number: a mean over the samples with its confidence interval (or the sum, for the accumulated change).

    Attributes:
        experiment, method: Names.
        ranking: "value", "absolute" or "contribution"; empty where the order does not matter.
        counting: "pixels" or "elements"; empty where the order does not matter.
        region: Percent of the positions, or name of the layer; empty for the whole map.
        quantity: What the number is.
        value, low, high: The number and the ends of its interval; NaN where there is none.
        samples: Over how many samples, those without a number left out.
    """

    experiment: str
    method: str
    ranking: str
    counting: str
    region: float | str
    quantity: str
    value: float
    low: float
    high: float
    samples: int


def rankings_for(method, experiment, counts=("pixels",), seed=0):
    """Returns the `Ranking`s that an experiment is run with; [None] where it does not depend on one.

    Coefficients of PANE are ranked by value, absolute value and contribution, everything else by value. Equal entries
    stand in a random order that the seed gives.

    Args:
        method: A `Method`.
        experiment: An `Experiment`.
        counts: Ways of counting: "pixels", "elements" or both.
        seed: Of the order of equal entries.
    """
    if not experiment.ranked:
        return [None]
    ways = experiment.by if method.name in COEFFICIENTS else ("value",)
    return [Ranking(by, count, ties=seed) for count in counts for by in ways]


def chosen_experiments(names=None):
    """Returns the list of `Experiment`s with these names, each once.

    Args:
        names: A list of names, or one string of them with commas; None for all.

    Raises:
        UnknownExperimentError: No experiment has such a name.
    """
    if names is None:
        return list(EXPERIMENTS.values())
    parts = [str(part).strip() for part in (names.split(",") if isinstance(names, str) else names)]
    for part in [part for part in parts if part not in EXPERIMENTS] or [None] * (not parts):
        close = difflib.get_close_matches(str(part), list(EXPERIMENTS), n=3)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise UnknownExperimentError(
            f"No experiment is called {part!r}.{hint} The experiments: {', '.join(EXPERIMENTS)}."
        )
    return [EXPERIMENTS[part] for part in dict.fromkeys(parts)]


def rows(experiment, method, ranking, values, *, seed=0):
    """Returns the `Row`s of an experiment.

    Args:
        experiment: An `Experiment`.
        method: Name of the method.
        ranking: The `Ranking`, or None.
        values: What `measure` returned, of all samples.
        seed: Of the bootstrap.
    """
    by, count = (ranking.by, ranking.count) if ranking else ("", "")
    made = []
    for quantity, numbers in _with_sizes(experiment, values).items():
        word, _, layer = quantity.partition("@")
        interval = bootstrap_interval(numbers, seed=seed)
        regions = (100.0,) if word == WHOLE else experiment.regions or (layer,)
        for region, *ends, samples in zip(regions, interval.mean, interval.low, interval.high, interval.count):
            row = Row(experiment.name, method, by, count, region, word, *map(float, ends), int(samples))
            made += [row, _accumulated(row)] if word == LOGIT else [row]
    return made


def _with_sizes(experiment, values):
    """Between logits of different signs POS turns around, from 1 to -1: their mean would look like a difference."""
    if experiment.name != "class-sensitivity":
        return values
    return {**values, SIZE: np.abs(values[CORRELATION])}


def _accumulated(row):
    """Tables III and IV give the sum over the samples."""
    ends = (part * row.samples for part in (row.value, row.low, row.high))
    return Row(row.experiment, row.method, row.ranking, row.counting, row.region, ACCUMULATED, *ends, row.samples)


def _removal(where, percents):
    def measure(case):
        given, how = case.how()
        found = remove(*given, where, black=case.black, percents=percents, targets=case.targets, **how)
        return {CHANGE: found.change, RELATIVE: found.relative_change}

    return measure


def _logits(where):
    def measure(case):
        given, how = case.how()
        found = change_logits(*given, where, step=case.step, targets=case.targets, **how)
        return {LOGIT: found.change, SHARE: found.intended.astype("float64")}

    return measure


def _attack(case):
    """An image whose class is not the explained one before it is attacked says nothing of the map."""
    given, how = case.how()
    found = guided_attack(*given, case.adversarial(), **how)
    wrong = (case.classifier.predicted(case.images) != case.targets)[:, None]
    success = {SUCCESS: found.fooled, WHOLE: found.fooled_whole[:, None]}
    return {word: np.where(wrong, np.nan, fooled) for word, fooled in success.items()}


def _sensitivity(case):
    return {CORRELATION: rank_correlation(case.maps[case.method.name], case.others())[:, None]}


def _agreement(case):
    return {CORRELATION: parts_agreement(case.maps["pos"], case.maps["neg"])[:, None]}


def _randomisation(case):
    how = {"targets": case.targets, "seed": case.seed, "batch_size": case.classifier.batch_size}
    names = list(_weighted(case.model))
    # Each layer costs a pass of every method; these three show whether the map depends on the weights at all.
    at = list(dict.fromkeys((names[0], names[len(names) // 2], names[-1])))
    found = cascade_randomisation(case.model, case.images, case.method.explain, at=at, **how)
    named = enumerate(found.layers)
    return {
        f"{word}@{layer}": numbers[:, k : k + 1]
        for k, layer in named
        for word, numbers in ((CORRELATION, found.value), (ABSOLUTE, found.absolute))
    }


_WHOLE: dict[str, Any] = {"ranked": False}
_ALL = (
    Experiment("remove-salient", "Remove salient pixels (V.A)", _removal("top", SALIENT_PERCENTS), SALIENT_PERCENTS),
    Experiment("remove-minor", "Remove minor pixels (V.B)", _removal("nearest_zero", MINOR_PERCENTS), MINOR_PERCENTS),
    Experiment(
        "remove-negative",
        "Remove negative salient pixels of the sum (V.C.4)",
        _removal("bottom", SALIENT_PERCENTS),
        SALIENT_PERCENTS,
        methods=SUMS,
        by=("value", "contribution"),
    ),
    Experiment("logit-salient", "Lower salient pixels by 1/255 (V.C.5)", _logits("top"), LOGIT_PERCENTS),
    Experiment(
        "logit-negative",
        "Lower negative pixels by 1/255 (V.C.5)",
        _logits("bottom"),
        LOGIT_PERCENTS,
        by=("value", "contribution"),
    ),
    Experiment("guided-attack", "Keep an attack in the salient region (V.C.3)", _attack, ATTACK_PERCENTS),
    Experiment("class-sensitivity", "Map of the target and of the next class", _sensitivity, limit=100, **_WHOLE),
    Experiment("parts-agreement", "POS and -NEG", _agreement, methods=("pos",), needs=("neg",), **_WHOLE),
    Experiment("randomisation", "Map of the model with new weights", _randomisation, limit=50, **_WHOLE),
)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
