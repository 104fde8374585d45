"""Exact powers of two, read from and written to the bits of a float, and products rounded before they are added to."""

from functools import partial, reduce

import tensorflow as tf

from pane_keras.backend.tensorflow.masking import multiply_rows
from pane_keras.backend.tensorflow.steps import Step, puts_off, step, taken

# dtype: (integer of the same width, bits of the fraction, bias of the exponent)
_LAYOUT = {tf.float32: (tf.int32, 23, 127), tf.float64: (tf.int64, 52, 1023)}


def peak(rows):
    """Returns the largest magnitude of each row, (n, 1, ...), of a tensor (n, ...)."""
    axes = list(range(1, len(rows.shape)))
    # Two reductions need no temporary for the magnitude.
    return tf.maximum(
        tf.reduce_max(rows, axis=axes, keepdims=True), tf.negative(tf.reduce_min(rows, axis=axes, keepdims=True))
    )


def binade(magnitude):
    """Returns the power of two with `2**k <= magnitude < 2**(k+1)`, 0 for zero and below the normal numbers.

    It is kept so small that its inverse is a normal number too.
    """
    integer, fraction, bias = _LAYOUT[magnitude.dtype]
    field = (2 * bias + 1) << fraction
    power = tf.bitcast(
        tf.bitwise.bitwise_and(tf.bitcast(magnitude, integer), tf.constant(field, integer)), magnitude.dtype
    )
    return tf.minimum(power, 2.0 ** (bias - 1))


def divide_rows(rows, power):
    """Returns `rows / power`, exactly, for powers of two; 0 where the power is 0."""
    return multiply_rows(rows, tf.math.divide_no_nan(tf.ones_like(power), power), 1)


def log2(powers):
    """Returns the int32 logarithms of powers of two; that of 0 is below -2**25, minus infinity in practice."""
    integer, fraction, bias = _LAYOUT[powers.dtype]
    bits = tf.cast(tf.bitwise.right_shift(tf.bitcast(powers, integer), tf.constant(fraction, integer)), tf.int32)
    return tf.where(bits > 0, bits - bias, -(2**26))


def power_of_two(e, dtype):
    """Returns exactly `2**e` for an int32 tensor `e`; below the smallest normal number, 0.

    Above the largest it stays at the largest: rows that would be shifted so far are zero.
    """
    dtype = tf.as_dtype(dtype)
    integer, fraction, bias = _LAYOUT[dtype]
    biased = tf.cast(tf.clip_by_value(e + bias, 0, 2 * bias), integer)
    return tf.bitcast(tf.bitwise.left_shift(biased, tf.constant(fraction, integer)), dtype)


def sum_of_rows(terms):
    """Returns the sum of terms (rows, factors): rows (n, ...), or a step put off, times a factor each, (n,)."""
    return taken(reduce(partial(step, _sum), [_scaled(*term) for term in terms]))


def sum_and_difference_of_rows(first, second):
    """Returns (first + second, first - second) of two terms as `sum_of_rows` takes them, each multiplied once."""
    first, second = _scaled(*first), _scaled(*second)
    return taken(step(_sum, first, second)), taken(step(_difference, first, second))


def _scaled(rows, factors):
    return multiply_rows(rows, tf.reshape(factors, [-1] + [1] * (len(rows.shape) - 1)), 1)


def product(x, factor):
    """Returns `x * factor`, or a step put off, rounded before anything is added to it, as by a kernel of its own.

    XLA would make one instruction of a product and a sum, with one rounding: where they cancel, and next to zero, units
    would have another sign than in the forward pass of the model.
    """
    if not puts_off(x):
        return taken(x) * taken(factor)
    return step(_rounded_product, x, _like(factor, x))


def moved(x, factor, offset):
    """Returns `x * factor + offset`, or a step put off, rounded as `product` is."""
    return step(_sum, product(x, factor), _like(offset, x))


def _like(value, x):
    return value if isinstance(value, (tf.Tensor, Step)) else tf.constant(value, x.dtype)


def _rounded_product(x, factor):
    # The compiler knows nothing of these bits, since a factor may be infinite or NaN: they are zero.
    integer = _LAYOUT[x.dtype][0]
    return _with_bits(x * factor, tf.bitcast(tf.abs(factor * 0), integer))


@tf.custom_gradient
def _with_bits(x, bits):
    joined = tf.bitcast(tf.bitwise.bitwise_or(tf.bitcast(x, bits.dtype), bits), x.dtype)
    return joined, lambda upstream: (upstream, None)


def _sum(a, b):
    return a + b


def _difference(a, b):
    return a - b
