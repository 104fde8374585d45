"""Rank correlation of two maps of a sample."""

import warnings

import numpy as np

from pane_keras.errors import InputError, NonFiniteError
from pane_keras.extras import needed

stats = needed("scipy.stats", "SciPy", "evaluation")


def rank_correlation(maps, others):
    """Returns Spearman's rank correlation of each sample's map with its other one, (n,), from -1 to 1.

    Ties share their mean rank. NaN where either map is constant, since a constant has no order. Scales within a
    sample do not matter, so mantissas may be given.

    Args:
        maps, others: Arrays (n, ...) of one shape, with at least two entries a sample.

    Raises:
        InputError: Another shape.
        NonFiniteError: A NaN or an infinity.
    """
    maps, others = np.asarray(maps, "float64"), np.asarray(others, "float64")
    if maps.shape != others.shape or maps.ndim < 2 or maps[:1].size < 2:
        raise InputError(
            "Expected two arrays of maps of one shape (n, ...), with at least two entries a sample. Received: "
            f"{maps.shape} and {others.shape}."
        )
    if not (np.isfinite(maps).all() and np.isfinite(others).all()):
        raise NonFiniteError("The maps hold a NaN or an infinity. Remove it first.")
    return np.array([_correlation(np.ravel(a), np.ravel(b)) for a, b in zip(maps, others)])


def _correlation(a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return stats.spearmanr(a, b).statistic
