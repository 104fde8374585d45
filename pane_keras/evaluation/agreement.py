"""Agreement of POS with -NEG: whether the two maps of a sample say different things at all."""

import numpy as np

from pane_keras.evaluation.similarity import rank_correlation


def parts_agreement(positive, negative):
    """Returns the rank correlation of POS with -NEG of each sample, (n,).

    Near 1, the two rank the pixels alike, and what tells excited from inhibited pixels is their sum only.

    Args:
        positive, negative: Arrays (n, ...) of one shape; each sample's scale is free.

    Raises:
        PaneError: Other shapes, or numbers that are not finite.
    """
    return rank_correlation(positive, -np.asarray(negative, "float64"))
