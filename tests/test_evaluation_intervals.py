"""Bootstrap intervals: by hand, against a slow twin, and at the edges."""

import importlib
import sys

import numpy as np
import pytest

from pane_keras import evaluation
from pane_keras.errors import InputError
from pane_keras.evaluation import bootstrap_interval
from pane_keras.extras import MissingExtraError


def test_all_resamples_of_two_values():
    """Means of two draws of {0, 1} are 0, 1/2 and 1, weighted 1, 2, 1: at 80 % the ends are 0 and 1, at 40 % 1/2."""
    wide, narrow = (bootstrap_interval([0, 1], confidence=level, resamples=4000) for level in (0.8, 0.4))
    assert (float(wide.mean), float(wide.low), float(wide.high)) == (0.5, 0, 1)
    assert (float(narrow.low), float(narrow.high)) == (0.5, 0.5)
    assert (int(wide.count), wide.confidence) == (2, 0.8)


def test_against_a_twin_with_draws_of_its_own():
    """Ends differ by the noise of the draws: for 20,000 of them, below a tenth of the standard error."""
    values = np.random.default_rng(0).exponential(size=60)
    found = bootstrap_interval(values, resamples=20_000, seed=1)
    rng = np.random.default_rng(99)
    means = [values[rng.integers(60, size=60)].mean() for _ in range(20_000)]
    expected, error = np.quantile(means, [0.025, 0.975]), np.std(means)
    np.testing.assert_allclose([found.low, found.high], expected, atol=error / 10)
    assert found.low < found.mean < found.high


def test_seeds():
    values = np.random.default_rng(0).normal(size=(30, 4))
    first, again, other = (bootstrap_interval(values, seed=seed) for seed in (2, 2, 3))
    np.testing.assert_array_equal(first.low, again.low)
    np.testing.assert_array_equal(first.high, again.high)
    assert not np.array_equal(first.low, other.low)


def test_columns_are_as_alone():
    values = np.random.default_rng(0).normal(size=(20, 3, 2))
    whole, alone = bootstrap_interval(values), bootstrap_interval(values[:, 2, 1])
    assert whole.mean.shape == whole.low.shape == whole.high.shape == whole.count.shape == (3, 2)
    assert whole.low[2, 1] == alone.low
    assert whole.high[2, 1] == alone.high
    np.testing.assert_allclose(whole.mean, values.mean(axis=0), rtol=1e-12)


def test_shares():
    found = bootstrap_interval(np.arange(100) < 90)
    assert float(found.mean) == 0.9
    # The standard error of a share of 0.9 among 100 is 0.03.
    np.testing.assert_allclose([found.low, found.high], [0.84, 0.95], atol=0.02)


def test_equal_values():
    found = bootstrap_interval(np.ones((5, 2), bool))
    np.testing.assert_array_equal([found.mean, found.low, found.high], np.ones((3, 2)))


def test_values_that_are_missing():
    values = np.array([[1.0, np.nan, np.nan], [2, 5, np.nan], [4, np.nan, np.nan]])
    found = bootstrap_interval(values)
    np.testing.assert_array_equal(found.mean, [7 / 3, 5, np.nan])
    np.testing.assert_array_equal(found.count, [3, 1, 0])
    np.testing.assert_array_equal(np.isnan(found.low), [False, True, True])
    np.testing.assert_array_equal(np.isnan(found.high), [False, True, True])


def test_one_sample_has_no_interval():
    found = bootstrap_interval([3.0])
    assert float(found.mean) == 3
    assert np.isnan(found.low)
    assert np.isnan(found.high)


@pytest.mark.parametrize(
    ("values", "how", "message"),
    [
        ([], {}, r"n at least 1, finite or NaN\. Received: float64 of shape \(0,\)"),
        (3.0, {}, r"numbers of shape \(n, \.\.\.\)"),
        (["a"], {}, "numbers of shape"),
        ([1, np.inf], {}, "finite or NaN"),
        ([1, 2], {"confidence": 1}, "confidence between 0 and 1. Received: 1"),
        ([1, 2], {"confidence": 95}, "confidence between 0 and 1. Received: 95"),
        ([1, 2], {"resamples": 0}, "resamples to be an int of at least 1. Received: 0"),
        ([1, 2], {"resamples": 1e3}, "resamples to be an int"),
        ([1, 2], {"seed": -1}, "seed to be an int of at least 0. Received: -1"),
        ([1, 2], {"seed": None}, "seed to be an int of at least 0. Received: None"),
    ],
)
def test_what_does_not_fit_is_said(values, how, message):
    with pytest.raises(InputError, match=message):
        bootstrap_interval(values, **how)


# The package


def test_every_name_is_there_and_no_other():
    assert {*evaluation.__all__} <= {*dir(evaluation)}
    assert all(callable(getattr(evaluation, name)) for name in evaluation.__all__)
    with pytest.raises(AttributeError, match=r"'pane_keras\.evaluation' has no attribute 'nothing'"):
        evaluation.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("module", "missing"),
    [("classifier", "scipy.special"), ("intervals", "scipy.stats"), ("similarity", "scipy.stats")],
)
def test_what_is_missing_is_said(monkeypatch, module, missing):
    name = f"pane_keras.evaluation.{module}"
    importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r'needs SciPy.*pip install "pane-keras\[evaluation\]"'):
        importlib.import_module(name)
