"""The excitation between two layers by slower roads: dense matrices, and every path of the graph by itself."""

import numpy as np
from keras import tree

from pane_keras.testing import compose, dense_network, true_values

TOLERANCE = 1e-5


def assert_like_dense(trace, source, target):
    """`between(source, target).dense()` is the four-product chain over dense matrices (eq. 17)."""
    network, ends = dense_network(trace), (trace._source(source), trace._target(target))
    assert_pair(trace, source, target, network.between(*ends), network.magnitude(*ends))


def assert_like_paths(trace, source, target, count):
    """`between(source, target).dense()` is the sum of the double chains of all `count` paths."""
    pairs = list(_paths(_edges(trace), trace._source(source), trace._target(target)))
    assert len(pairs) == count
    size = sum(p + n for p, n in _paths(_edges(trace, np.abs), trace._source(source), trace._target(target)))
    assert_pair(trace, source, target, [sum(parts) for parts in zip(*pairs)], size)


def assert_pair(trace, source, target, expected, size):
    """Compares a pair with expected (P, N), relative to `size`: the chain of absolute coefficients."""
    dense = trace.between(source, target).dense()
    assert np.any(expected[0]), "the test is empty: nothing is excited"
    for word, mine, twin in zip("PN", dense, expected, strict=True):
        mine = true_values(mine, dense.log2_scale).reshape(twin.shape)
        error, most = np.abs(mine - twin).max(), np.abs(size).max()
        assert error <= TOLERANCE * most, f"{word} from {source} to {target} is off by {error:.1e} of {most:.1e}"


def same(a, b):
    """Whether two structures of tensors are alike bit by bit, their dtypes and keys too."""
    tree.assert_same_structure(a, b)
    pairs = [(np.asarray(x), np.asarray(y)) for x, y in zip(tree.flatten(a), tree.flatten(b))]
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def _edges(trace, seen=lambda w: w):
    """{source slot: [(target slot, (E+, E-))]}."""
    leaving = {}
    for output, edges in dense_network(trace).stages:
        for origin, p, n in edges:
            leaving.setdefault(origin, []).append((output, (seen(p), seen(n))))
    return leaving


def _paths(leaving, source, target):
    """Yields the double chain of each path."""
    for after, pair in leaving.get(source, ()):
        if after == target:
            yield pair
        for rest in _paths(leaving, after, target):
            yield compose(rest, pair)
