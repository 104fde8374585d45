"""Bootstrap confidence intervals of means over the samples, reproducible by seed."""

from dataclasses import dataclass

import numpy as np

from pane_keras.errors import InputError
from pane_keras.extras import needed

stats = needed("scipy.stats", "SciPy", "evaluation")

# Resamples that are held in memory at once; fixed, since it takes part in the order of the random numbers.
_AT_ONCE = 100


@dataclass(frozen=True)
class Interval:
    """A mean over the samples and its confidence interval, each an array of the shape of one sample's values.

    Attributes:
        mean: Mean of the values that are not NaN; NaN where there is none.
        low, high: Ends of the interval; NaN where there are fewer than two values.
        count: How many values are not NaN.
        confidence: Its level.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    confidence: float


def bootstrap_interval(values, *, confidence=0.95, resamples=2000, seed=0):
    """Returns the `Interval` of the mean over samples, by the percentile bootstrap of `scipy.stats.bootstrap`.

    Where all values are equal, such as a share of 100 %, the interval is that value: the bootstrap cannot see further.

    Args:
        values: Numbers or booleans, (n,) or (n, ...), samples first. A NaN, such as the correlation of a constant map,
            is left out.
        confidence: Level, between 0 and 1.
        resamples: How many times the samples are drawn anew, at least 1.
        seed: Of the draws, an int of at least 0: the same samples are drawn for every column without a NaN.

    Raises:
        InputError: No sample, values that are no finite numbers or NaN, or a level, number or seed out of range.
    """
    values = _checked(values, confidence, resamples, seed)
    columns = values.reshape(len(values), -1).T
    ends = [_ends(column[~np.isnan(column)], confidence, resamples, seed) for column in columns]
    mean, low, high, count = (np.reshape(part, values.shape[1:]) for part in zip(*ends))
    return Interval(mean, low, high, count, confidence)


def _ends(values, confidence, resamples, seed):
    """Mean, lower end, upper end and number of the values (n,)."""
    if len(values) < 2:
        return values.mean() if len(values) else np.nan, np.nan, np.nan, len(values)
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        batch=_AT_ONCE,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return values.mean(), found.low, found.high, len(values)


def _checked(values, confidence, resamples, seed):
    array = np.asarray(values)
    if array.dtype.kind not in "buif" or array.ndim < 1 or not array.size or np.isinf(array).any():
        raise InputError(
            f"Expected numbers of shape (n, ...), n at least 1, finite or NaN. Received: {array.dtype} of shape "
            f"{array.shape}."
        )
    if not 0 < confidence < 1:
        raise InputError(f"Expected confidence between 0 and 1. Received: {confidence!r}.")
    for value, word, least in ((resamples, "resamples", 1), (seed, "seed", 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"Expected {word} to be an int of at least {least}. Received: {value!r}.")
    return array.astype("float64")
