"""Masks and signs of a fixed tensor applied to rows of coefficients, in as few passes over memory as possible.

Rows have shape (n, ...), where n is rows times batch and the batch runs fastest; the fixed tensor has shape
(batch, ...). `ReluGrad` is one pass where compare, cast and multiply are three.
"""

import tensorflow as tf


def keep_positive(t, fixed, rows):
    """Returns `t * [fixed > 0]`."""
    if rows == 1:
        return tf.raw_ops.ReluGrad(gradients=t, features=fixed)
    return multiply_rows(t, tf.cast(fixed > 0, t.dtype), rows)


def nonzero_mask(fixed, rows):
    """Returns the function `t -> t * [fixed != 0]`, with what several calls share computed once."""
    if rows == 1:
        magnitude = tf.abs(fixed)
        return lambda t: tf.raw_ops.ReluGrad(gradients=t, features=magnitude)
    return lambda t: multiply_rows(t, tf.cast(tf.not_equal(fixed, 0), t.dtype), rows)


def signs(fixed):
    """Returns the signs -1, 0 and 1 as int8: a quarter of the memory, where nothing else of `fixed` is needed."""
    return tf.cast(tf.sign(fixed), tf.int8)


def flip_signs(t, fixed, rows):
    """Returns `t * sign(fixed)`, with `sign(0) = 0`; `fixed` may hold the signs themselves."""
    sign = tf.cast(fixed, t.dtype) if fixed.dtype == tf.int8 else tf.sign(fixed)
    return multiply_rows(t, sign, rows)


def multiply_rows(t, fixed, rows):
    """Returns `t * fixed`, where `fixed`, (batch, ...), also broadcasts along the axes of a sample."""
    if rows == 1:
        return t * fixed
    shape = tf.shape(t)
    apart = tf.reshape(t, tf.concat([[rows, -1], shape[1:]], axis=0))
    return tf.reshape(apart * fixed, shape)
