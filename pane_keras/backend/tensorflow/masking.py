"""Masks and signs of a fixed tensor applied to rows of coefficients, in as few passes over memory as possible.

Rows have shape (rows, batch, ...) and the fixed tensor has shape (batch, ...). `ReluGrad` is one pass where
compare, cast and multiply are three.
"""

import tensorflow as tf


def _one_row(rows):
    return rows.shape[0] == 1


def keep_positive(rows, fixed):
    """Returns `rows * [fixed > 0]`."""
    if _one_row(rows):
        return tf.raw_ops.ReluGrad(gradients=rows, features=fixed[None])
    return rows * tf.cast(fixed > 0, rows.dtype)


def keep_nonzero(rows, fixed):
    """Returns `rows * [fixed != 0]`."""
    if _one_row(rows):
        return tf.raw_ops.ReluGrad(gradients=rows, features=tf.abs(fixed)[None])
    return rows * tf.cast(tf.not_equal(fixed, 0), rows.dtype)


def flip_signs(rows, fixed):
    """Returns `rows * sign(fixed)`, with `sign(0) = 0`."""
    return rows * tf.sign(fixed)
