"""Exact powers of two, read from and written to the bits of a float."""

import tensorflow as tf

# dtype: (integer of the same width, bits of the fraction, bias of the exponent)
_LAYOUT = {tf.float32: (tf.int32, 23, 127), tf.float64: (tf.int64, 52, 1023)}


def exponent(magnitude):
    """Returns the int32 `e` with `2**(e-1) <= magnitude < 2**e` for a non-negative float32 or float64 tensor.

    Zero and subnormal numbers give the exponent of the smallest normal number.
    """
    integer, fraction, bias = _LAYOUT[magnitude.dtype]
    bits = tf.bitcast(magnitude, integer)
    return tf.cast(tf.bitwise.right_shift(bits, tf.cast(fraction, integer)), tf.int32) - (bias - 1)


def power_of_two(e, dtype):
    """Returns exactly `2**e` for an int32 tensor `e`; below the smallest normal number, 0."""
    dtype = tf.as_dtype(dtype)
    integer, fraction, bias = _LAYOUT[dtype]
    biased = tf.clip_by_value(e + bias, 0, 2 * bias)
    return tf.bitcast(tf.bitwise.left_shift(tf.cast(biased, integer), tf.cast(fraction, integer)), dtype)
