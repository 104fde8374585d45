"""Chains of operands as tensor networks: the only importer of opt_einsum.

A chain between two junctions of the graph, closed by a block on its target leg or on its source leg, is one
contraction. Its cheapest order is known: sweep from the closed end, since every intermediate is then a block of
rows and never a product of two operands. The sweep is handed to opt_einsum as an explicit path, so that planning
is linear in the length of the chain (`optimize="dp"` finds the same path, and takes 15 s for a dense block over 150
layers).
"""

from functools import lru_cache

import opt_einsum

_NETWORK = "pane_keras.network"


def pull_chain(block, operands):
    """Contracts a block on the target leg with `operands`, from source to target: the block on the source leg."""
    return _contract(tuple(o.shape for o in operands), block.shape, True)(*operands, block, backend=_NETWORK)


def push_chain(block, operands):
    """Contracts a block on the source leg with `operands`, from source to target: the block on the target leg."""
    return _contract(tuple(o.shape for o in operands), block.shape, False)(*operands, block, backend=_NETWORK)


def chain_equation(length, pull):
    """Returns the einsum of a chain of `length` operands closed at its target (`pull`) or at its source.

    Symbols: s channel, b batch, r row, then one for each leg from the source to the target.
    """
    legs = [opt_einsum.get_symbol(i + 3) for i in range(length + 1)]
    channel, batch, row = (opt_einsum.get_symbol(i) for i in range(3))
    operands = [channel + batch + legs[k + 1] + legs[k] for k in range(length)]
    closed, open_ = (legs[-1], legs[0]) if pull else (legs[0], legs[-1])
    block = channel + batch + row + closed
    return f"{','.join([*operands, block])}->{channel}{batch}{row}{open_}"


def sweep_path(length, pull):
    """Returns the contraction path that starts at the closed end and absorbs one operand a step."""
    return [(length - k - 1 if pull else 0, length - k) for k in range(length)]


def describe(shapes, block_shape, pull):
    """Returns opt_einsum's `PathInfo` of a chain: equation, path, FLOPs, largest intermediate."""
    equation, path = chain_equation(len(shapes), pull), sweep_path(len(shapes), pull)
    return opt_einsum.contract_path(equation, *shapes, block_shape, shapes=True, optimize=path)[1]


def contract_factors(factors):
    """Returns the dense operand (b, *out, *in) of elementary tensors, as a NumPy array and a tuple of its axes."""
    words = {word for factor in factors for word in factor.axes}
    axes = [w for w in ("b",) if w in words]
    for leg in ("out", "in"):
        axes += sorted((w for w in words if w.startswith(leg)), key=lambda w: int(w.removeprefix(leg)))
    interleaved = [part for factor in factors for part in (factor.values, factor.axes)]
    return opt_einsum.contract(*interleaved, axes), tuple(axes)


def symbol(number):
    """Returns the letter of an axis."""
    return opt_einsum.get_symbol(number)


def contract_plain(equation, operands):
    """Returns what an einsum over plain arrays contracts to."""
    return opt_einsum.contract(equation, *operands)


@lru_cache(maxsize=1024)
def _contract(shapes, block_shape, pull):
    equation, path = chain_equation(len(shapes), pull), sweep_path(len(shapes), pull)
    return opt_einsum.contract_expression(equation, *shapes, block_shape, optimize=path)
