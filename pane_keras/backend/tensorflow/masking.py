"""Masks and signs of a fixed tensor applied to rows of coefficients, in as few passes over memory as possible.

Rows have shape (n, ...), where n is rows times batch and the batch runs fastest; the fixed tensor has shape
(batch, ...). Either may be a step that is put off, and for one row a sample so may the result be.
`ReluGrad` is one pass where compare, cast and multiply are three.
"""

import tensorflow as tf

from pane_keras.backend.tensorflow.steps import step, taken


def keep_positive(t, fixed, rows):
    """Returns `t * [fixed > 0]`."""
    if rows == 1:
        return step(_kept, t, fixed)
    return multiply_rows(t, tf.cast(taken(fixed) > 0, t.dtype), rows)


def nonzero_mask(fixed, rows):
    """Returns the function `t -> t * [fixed != 0]`, with what several calls share computed once."""
    if rows == 1:
        magnitude = step(_magnitude, fixed)
        return lambda t: step(_kept, t, magnitude)
    return lambda t: multiply_rows(t, tf.cast(tf.not_equal(taken(fixed), 0), t.dtype), rows)


def signs(fixed):
    """Returns the signs -1, 0 and 1 as int8: a quarter of the memory, where nothing else of `fixed` is needed."""
    return step(_signs, fixed, dtype=tf.int8)


def flip_signs(t, fixed, rows):
    """Returns `t * sign(fixed)`, with `sign(0) = 0`; `fixed` may hold the signs themselves."""
    if rows == 1:
        return step(_flipped, t, fixed)
    return multiply_rows(t, _signs_like(taken(fixed), t), rows)


def multiply_rows(t, fixed, rows):
    """Returns `t * fixed`, where `fixed`, (batch, ...), also broadcasts along the axes of a sample."""
    if rows == 1:
        return step(_product, t, fixed)
    t = taken(t)
    shape = tf.shape(t)
    apart = tf.reshape(t, tf.concat([[rows, -1], shape[1:]], axis=0))
    return tf.reshape(apart * taken(fixed), shape)


def _kept(t, fixed):
    return tf.raw_ops.ReluGrad(gradients=t, features=fixed)


def _magnitude(fixed):
    return tf.abs(fixed)


def _signs(fixed):
    return tf.cast(tf.sign(fixed), tf.int8)


def _flipped(t, fixed):
    return t * _signs_like(fixed, t)


def _signs_like(fixed, t):
    return tf.cast(fixed, t.dtype) if fixed.dtype == tf.int8 else tf.sign(fixed)


def _product(t, fixed):
    return t * fixed
