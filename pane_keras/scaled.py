"""Rows of coefficients as a mantissa times a power of two, exact and without waiting for the host.

On a deep network the difference chain passes the range of float32, so every row of every
sample carries an exponent of its own. Rescaling multiplies by powers of two only, which loses nothing.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce

from keras import ops

from pane_keras import backend

ZERO_EXPONENT = -(2**24)
"""Exponent of a row that is all zero: minus infinity for every practical purpose, so it never outweighs a sibling."""

BITS = 126
"""How many bits a mantissa may grow or shrink by before it leaves the normal float32 numbers."""

USUAL_GAIN = 21
"""Bits that a stage with ordinary weights is trusted to stay within; six of them fit in `BITS`."""

# Below 2**-96 the small entries of a row would already be lost to underflow.
_SMALLEST, _LARGEST = -96, 125

# Below the logarithm of any float64, subnormal numbers included.
_LOWEST = -(2**11)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Rows `mantissa * 2**base * product of powers`.

    Attributes:
        lazy: The mantissa, or the step put off that makes it.
        rows: Number of rows, a Python int.
        base: int32 tensor (n,), or None for 0.
        powers: Tensors (n, 1, ...) of powers of two that were divided out; their logarithms are taken when asked for.
        room: Bits that the mantissa may change by before it is normalised; 0 before every stage.
        growth: Bits by which the stages since the last normalisation may have changed the mantissa's size. Rows are
            normalised before it passes `room`.
        units: int tensor (n,), the flat index of the only entry of each row that may not be zero; None if not known.
    """

    lazy: object
    rows: int
    base: object = None
    powers: tuple = ()
    growth: int = 0
    room: int = BITS
    units: object = None

    @property
    def mantissa(self):
        """Tensor (n, *shape), float32 or float64; n is rows times batch, the batch running fastest."""
        return backend.taken(self.lazy)

    @cached_property
    def exponent(self):
        """The int32 exponents (n,); `ZERO_EXPONENT` where a row was found to be zero."""
        n = backend.dims(self.lazy)[0]
        base = ops.zeros((n,), "int32") if self.base is None else self.base
        if not self.powers:
            return base
        logarithms = backend.log2(ops.stack([ops.reshape(p, (n,)) for p in self.powers]))
        # Once a row was found to be zero it stays so. Logarithms of zeros are not added up: many would overflow.
        zero = ops.any(logarithms < ZERO_EXPONENT, axis=0)
        total = base + ops.sum(ops.maximum(logarithms, _LOWEST), axis=0)
        return ops.where(zero, ZERO_EXPONENT, ops.maximum(total, ZERO_EXPONENT))

    @cached_property
    def peak(self):
        """The largest magnitude of each row, (n, 1, ...)."""
        return backend.peak(self.mantissa)

    def grown(self, lazy, gain, units=None):
        """Returns the same scales with the mantissa, be it put off, that a stage of so many bits made of this one's."""
        return replace(self, lazy=lazy, growth=self.growth + gain, units=units)

    def shares_scale(self, other):
        """Returns whether both have the same scales, known without looking at them."""
        return (
            self.base is other.base
            and len(self.powers) == len(other.powers)
            and all(p is q for p, q in zip(self.powers, other.powers))
        )


def normalized(t):
    """Returns the same rows with every mantissa's largest magnitude in [1, 2), or 0."""
    if t.growth == 0:
        return t
    power = backend.binade(t.peak)
    return replace(t, lazy=backend.divide_rows(t.lazy, power), powers=(*t.powers, power), growth=0)


def with_room(t, gain):
    """Returns rows that a stage may change by `gain` bits, normalised if that would leave the range."""
    return normalized(t) if t.growth + gain > t.room else t


def add(terms):
    """Returns the sum of several `Scaled` of one shape, aligned at the largest exponent of each row."""
    first = terms[0]
    growth = max(t.growth for t in terms)
    if all(t.shares_scale(first) for t in terms):
        total = reduce(partial(backend.step, ops.add), [t.lazy for t in terms])
        return replace(first, lazy=total, growth=growth + len(terms) // 2, units=None)
    exponents = [_true_exponent(t) for t in terms]
    top = exponents[0]
    for e in exponents[1:]:
        top = ops.maximum(top, e)
    total = backend.sum_of_rows([term for t in terms for term in _shifted(t, t.exponent, top)])
    return Scaled(total, first.rows, top, growth=len(terms) // 2, room=first.room)


def half_sum_and_difference(s, d):
    """Returns (P, N, log2_scale): P = (S + D) / 2 and N = (S - D) / 2 in one scale, as `unscaled`."""
    s, d = normalized(s), normalized(d)
    scale = _log2_scale(ops.maximum(s.exponent, d.exponent))
    # Halves and the scale in one: no passes over memory of their own.
    (first,), (second,) = _shifted(s, s.exponent - 1, scale), _shifted(d, d.exponent - 1, scale)
    return (first, second), (first, (second[0], -second[1])), scale


def unscaled(t):
    """Returns (terms, log2_scale): log2_scale, int32 (n,), is 0 wherever the true values fit in float32.

    Values come as the terms that they are the sum of: pairs (rows, factors), for `backend.sum_of_rows`.
    """
    t = normalized(t)
    scale = _log2_scale(t.exponent)
    return _shifted(t, t.exponent, scale), scale


def _log2_scale(exponent):
    fits = ((exponent >= _SMALLEST) & (exponent <= _LARGEST)) | (exponent == ZERO_EXPONENT)
    return ops.where(fits, 0, exponent)


def _true_exponent(t):
    """Returns the exponent of each row's largest magnitude, so that a row that is zero outweighs nothing."""
    if t.growth == 0:
        return t.exponent
    power = ops.reshape(backend.binade(t.peak), (-1,))
    return ops.where(power > 0, t.exponent + backend.log2(power), ZERO_EXPONENT)


def _shifted(t, exponent, to):
    """Returns mantissas at the exponent `to`, as one term; what falls below the smallest normal number becomes 0."""
    return ((t.lazy, backend.power_of_two(exponent - to, t.lazy.dtype)),)
