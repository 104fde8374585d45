"""A query as plain arrays and one einsum, which opt_einsum or NumPy evaluates without this library."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from pane_keras.contraction import contract_plain, symbol
from pane_keras.dense import folded, pulled


@dataclass(frozen=True)
class PlainNetwork:
    """The elementary tensors of one channel of a pair.

    `opt_einsum.contract(network.equation, *network.operands)` is S = P + N, or D = P - N, of the pair, with the axes
    (batch, *target shape, *source shape). `numpy.einsum` takes it too as long as 52 letters do.

    Attributes:
        equation: The einsum.
        operands: NumPy arrays.
        names: Layer and kind of each.
    """

    equation: str
    operands: tuple
    names: tuple

    def contract(self):
        """Returns the tensor (batch, *target shape, *source shape), by opt_einsum."""
        return contract_plain(self.equation, self.operands)


def plain_network(segments, difference):
    """Returns the `PlainNetwork` of consecutive segments, from the source to the target.

    Args:
        segments: Lists of (name, axes as words, array); see `segments_of`.
        difference: Whether D is meant rather than S.
    """
    letters, terms, operands, names = {}, [], [], []
    for number, factors in enumerate(segments):
        for name, axes, values in factors(difference):
            terms.append("".join(_letter(letters, number, word) for word in axes))
            operands.append(values)
            names.append(name)
    ends = "".join(letters[key] for end in (len(segments), 0) for key in sorted(k for k in letters if k[0] == end))
    return PlainNetwork(f"{','.join(terms)}->{_letter(letters, 0, 'b')}{ends}", tuple(operands), tuple(names))


def segments_of(compose, source, target, signal):
    """Returns, for each stretch between layers that every path runs through, a function difference -> its factors.

    A stretch of one operand is its elementary tensors; where paths run side by side, their sum is one dense tensor.

    Args:
        compose, source, target, signal: As for `DensePair`.
    """
    stops = [source, *(slot for slot, *_ in compose(source, target).waists()), target]
    return [_segment(compose(*ends), signal, *ends) for ends in itertools.pairwise(stops)]


def _segment(composition, signal, source, target):
    chains = composition.chains
    if len(chains) == 1 and len(chains[0].operands) == 1:
        return lambda difference: _elementary(chains[0].operands[0], difference)
    return lambda difference: [_summed(composition, signal(source), signal(target), difference)]


def _elementary(operand, difference):
    for factor in operand.factors(difference):
        yield f"{operand.name}: {factor.name}", factor.axes, np.asarray(factor.values, "float64")


def _summed(composition, source, target, difference):
    dense = folded(pulled(composition, target, range(math.prod(target.shape[1:]))), target, source)
    values = _true(dense.positive, dense.log2_scale) - _true(dense.negative, dense.log2_scale)
    values = values if difference else _true(dense.sum, dense.sum_log2_scale)
    ranks = len(target.shape) - 1, len(source.shape) - 1
    axes = ("b", *(f"out{k}" for k in range(ranks[0])), *(f"in{k}" for k in range(ranks[1])))
    return "sum over paths", axes, values


def _true(mantissa, scale):
    mantissa, scale = np.asarray(mantissa, "float64"), np.asarray(scale)
    return np.ldexp(mantissa, scale.reshape(*scale.shape, *[1] * (mantissa.ndim - scale.ndim)))


def _letter(letters, number, word):
    """Legs of a signal belong to both stretches that meet there; the batch to all; anything else to its own stretch."""
    if word == "b":
        key = ("batch",)
    elif word.startswith(("in", "out")):
        axis = int(word.removeprefix("in").removeprefix("out"))
        key = (number + word.startswith("out"), axis)
    else:
        key = ("inner", number, word)
    return letters.setdefault(key, symbol(len(letters)))
