"""Rows of coefficients as a mantissa times a power of two, exact and without waiting for the host.

On a deep network the difference chain passes the range of float32 (DESIGN.md, section 4), so every row of every
sample carries an exponent of its own. Rescaling multiplies by powers of two only, which loses nothing.
"""

from typing import NamedTuple

from keras import ops

from pane_keras import backend

ZERO_EXPONENT = -(2**24)
"""Exponent of a row that is all zero: minus infinity for every practical purpose, so it never outweighs a sibling."""

# 2**_TOP and its inverse are both normal float32 numbers.
_TOP = 126
# Below 2**-96 the small entries of a row would already be lost to underflow.
_SMALLEST, _LARGEST = -96, 125


class Scaled(NamedTuple):
    """Rows `mantissa * 2**exponent`.

    Attributes:
        mantissa: Tensor (rows, batch, *shape), float32 or float64.
        exponent: int32 tensor (rows, batch).
        growth: Operations since the last normalisation that may have enlarged the mantissa. Python int.
    """

    mantissa: object
    exponent: object
    growth: int = 0

    def grown(self, mantissa, by=1):
        """Returns the same exponents with the mantissa that an operation made of this one's."""
        return Scaled(mantissa, self.exponent, self.growth + by)


def scaled(rows):
    """Returns `rows`, a tensor (rows, batch, *shape) of any finite values, with exponents 0."""
    return Scaled(rows, ops.zeros(ops.shape(rows)[:2], dtype="int32"), growth=1)


def normalized(t):
    """Returns the same rows with every mantissa's largest magnitude in [0.5, 1), or 0."""
    return t if t.growth == 0 else _rescaled(t, true_exponent(t))


def true_exponent(t):
    """Returns the int32 (rows, batch) `e` with the largest magnitude of the row in [2**(e-1), 2**e)."""
    peak = ops.max(ops.abs(_flat(t.mantissa)), axis=-1)
    return ops.where(peak > 0, t.exponent + ops.minimum(backend.exponent(peak), _TOP), ZERO_EXPONENT)


def add(terms):
    """Returns the sum of several `Scaled` of one shape, aligned at the largest true exponent of each row."""
    if len(terms) == 1:
        return terms[0]
    exponents = [true_exponent(t) for t in terms]
    top = exponents[0]
    for e in exponents[1:]:
        top = ops.maximum(top, e)
    total = sum(_rescaled(t, top).mantissa for t in terms)
    return Scaled(total, top, growth=1 if len(terms) > 4 else 0)


def half_sum_and_difference(s, d):
    """Returns (S + D) / 2 and (S - D) / 2: from the channels back to positive and negative (section 2)."""
    top = ops.maximum(true_exponent(s), true_exponent(d))
    s, d = _rescaled(s, top).mantissa, _rescaled(d, top).mantissa
    return Scaled((s + d) / 2, top), Scaled((s - d) / 2, top)


def unscaled(t, exponents=None):
    """Returns (values, log2_scale): log2_scale is 0 wherever the true values fit in float32.

    Args:
        t: Rows to write out.
        exponents: True exponents that decide what fits; those of `t` unless given.
    """
    t = normalized(t)
    e = t.exponent if exponents is None else exponents
    fits = ((e >= _SMALLEST) & (e <= _LARGEST)) | (e == ZERO_EXPONENT)
    scale = ops.where(fits, 0, e)
    return _rescaled(t, scale).mantissa, scale


def _rescaled(t, exponent):
    """Moves rows to `exponent`; entries that the shift takes below the smallest normal number become 0."""
    shift = ops.where(t.exponent == ZERO_EXPONENT, 0, ops.minimum(t.exponent - exponent, _TOP))
    factor = backend.power_of_two(shift, t.mantissa.dtype)
    return Scaled(t.mantissa * _spread(factor, t.mantissa), exponent)


def _spread(per_row, rows):
    return ops.reshape(per_row, (*ops.shape(per_row), *[1] * (len(rows.shape) - 2)))


def _flat(rows):
    shape = ops.shape(rows)
    return ops.reshape(rows, (shape[0], shape[1], -1))
