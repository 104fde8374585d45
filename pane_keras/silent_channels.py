"""Channels that are zero all over a window carry no excitation: a sweep of many rows leaves them out.

A zero input is a zero excitation: rows of such a channel are masked where they enter it, or the only stage below has no
coefficient there but 0 (see `Composition`). Left out, they take their part of the kernels with them: inputs of the
stage above, outputs of the stage below.
"""

import math
from itertools import pairwise

import numpy as np
from keras import ops

from pane_keras import backend

# What cutting an entry of a kernel, for S and for |W|, costs beside a multiply-add.
_PER_KERNEL_ENTRY = 1024


def without_silent_channels(operands, rows):
    """Returns operands, from source to target, restricted to channels that are not zero everywhere.

    Both ends keep all of theirs. For a few rows the kernels are not worth cutting.

    Args:
        operands: Of a chain, a list.
        rows: How many rows are swept, over all samples.
    """
    if any(backend.is_symbolic(operand.x) for operand in operands) or not _worth(operands, rows):
        return operands
    legs = list(pairwise(_kept(operands)))
    saved = sum(rows * operand.work * (1 - _share(operand, *ends)) for operand, ends in zip(operands, legs))
    cut = sum(_entries(operand) for operand, (a, b) in zip(operands, legs) if a is not None or b is not None)
    if saved <= _PER_KERNEL_ENTRY * cut:
        return operands
    return [operand.of_channels(*ends) for operand, ends in zip(operands, legs)]


def _worth(operands, rows):
    """Whether so many rows could repay cutting every kernel if nothing at all were left."""
    return rows * sum(operand.work for operand in operands) > _PER_KERNEL_ENTRY * sum(map(_entries, operands))


def _kept(operands):
    """Indices of the channels that are kept on each leg from the source to the target, or None for all of them."""
    kept = [None] * (len(operands) + 1)
    for k in range(len(operands) - 1, 0, -1):
        below, above = operands[k - 1], operands[k]
        if above.channels == "mixed":
            kept[k] = _sounding(above.x)
        elif above.channels == "own":
            kept[k] = kept[k + 1]
        if below.channels is None:
            kept[k] = None
    return _one_to_one(operands, kept)


def _one_to_one(operands, kept):
    """The same with all channels on both legs of an operand that relates them one to one and needs all on one."""
    for k, operand in enumerate(operands):
        if operand.channels == "own" and kept[k] is None:
            kept[k + 1] = None
    return kept


def _sounding(x):
    """The channels, (*space, channels) in each sample, that are not zero everywhere; None for all of them."""
    alive = np.asarray(ops.any(x != 0, axis=tuple(range(len(x.shape) - 1))))
    return None if alive.all() or not alive.any() else np.flatnonzero(alive)


def _share(operand, below, above):
    """Which part of an operand's work is left."""
    legs = zip((below, above), (operand.in_shape[-1], operand.out_shape[-1]))
    shares = [1 if kept is None else len(kept) / size for kept, size in legs]
    return math.prod(shares) if operand.channels == "mixed" else max(shares)


def _entries(operand):
    return sum(math.prod(np.shape(kernel)) for kernel in operand.kernels)
