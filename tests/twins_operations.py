"""Slow float64 twins of `keras.ops` calls: what a call emits at one sample, and its dense P and N from each input.

A twin is a function of `Signal`s, one for each tensor of a graph, without the batch axis. It states every term of
`o' = sum_k W_k x_k` as a linear function of x_k; the columns of W_k are what that makes of unit vectors. `twins.split`
turns W into E+ and E- (eqs. 4 and 6), `twins.compose` chains them (eq. 17), and paths that meet add up.
"""

import itertools
from typing import NamedTuple

import numpy as np
import twins


class Signal(NamedTuple):
    """A tensor of the graph at one sample.

    Attributes:
        value: float64 array.
        pairs: {input: dense (P, N)}, without the inputs from which no path leads here.
    """

    value: np.ndarray
    pairs: dict


def start(xs):
    """Returns the signals of the inputs themselves."""
    return [Signal(x, {k: (np.eye(x.size), np.zeros((x.size, x.size)))}) for k, x in enumerate(xs)]


def emit(signals, terms, bias=0.0):
    """Returns the signal o = sum_k terms_k(x_k) + b, each term linear."""
    xs = [signal.value for signal in signals]
    shape = np.shape(sum(term(x) for term, x in zip(terms, xs, strict=True)) + bias)
    weights = tuple(_columns(term, x, shape) for term, x in zip(terms, xs))
    stage = twins.Stage(weights, np.broadcast_to(bias, shape).ravel(), shape)
    linear, size = stage.linear(xs), stage.size(xs)
    linear = np.where(np.abs(linear) <= 1e-13 * size, 0, linear)
    assert (np.abs(linear) > 1e-5 * size)[linear != 0].all(), "a sum is too close to zero for its sign to be certain"
    pairs = {}
    for signal, pair in zip(signals, twins.split(weights, xs, linear)):
        for key, before in signal.pairs.items():
            path = twins.compose(pair, before)
            pairs[key] = tuple(a + b for a, b in zip(pairs[key], path)) if key in pairs else path
    return Signal((linear + stage.bias).reshape(shape), pairs)


def _columns(term, x, shape):
    units = np.eye(x.size).reshape(x.size, *x.shape)
    return np.stack([np.broadcast_to(term(unit), shape).ravel() for unit in units], axis=1)


def linear(function):
    """The twin of a function that is affine in all its inputs together: what it makes of zeros is the bias."""

    def twin(*signals):
        zeros = [np.zeros_like(signal.value) for signal in signals]
        bias = np.asarray(function(*zeros), "float64")
        terms = [
            lambda v, k=k: function(*zeros[:k], v, *zeros[k + 1 :]) - bias for k in range(len(signals))
        ]  # fmt: skip
        return emit(signals, terms, bias)

    return twin


def outputs(function):
    """The twins of a linear function with several outputs, together."""

    def twin(signal):
        count = len(function(signal.value))
        return [linear(lambda x, k=k: function(x)[k])(signal) for k in range(count)]

    return twin


def scaled(make):
    """The twin of y = c x + b, (c, b) = make(x): both depend on the sample, and are held."""

    def twin(signal):
        c, b = make(signal.value)
        return emit([signal], [lambda v: v * c], b)

    return twin


def pointwise(f):
    """The twin of y = f(x) with c = (f(x) - f(0)) / x and b = f(0)."""
    return scaled(lambda x: (twins.coefficient(f, x), float(f(twins.LD(0)))))


def pointwise_row(base):
    """The twin of y = base ** x, one base for each entry of the last axis: b = 1."""

    def make(x):
        columns = [twins.coefficient(lambda v, c=c: twins.LD(c) ** v, x[..., k]) for k, c in enumerate(base)]
        return np.stack(columns, axis=-1), 1.0

    return scaled(make)


def pole(f):
    """The twin of y = f(x) where f(0) is not finite, or 0: c = f(x) / x."""

    def make(x):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(x == 0, 0, f(x) / x), 0.0

    return scaled(make)


def kept(mask):
    """The twin of y = mask(x) x, where the mask is a comparison or an index."""
    return scaled(lambda x: (np.asarray(mask(x), "float64"), 0.0))


def gate(*signals):
    """y = x_1 ... x_n: each factor gets (product of the others) / n."""
    values = [signal.value for signal in signals]
    others = [np.prod(np.broadcast_arrays(1.0, *values[:k], *values[k + 1 :]), axis=0) for k in range(len(values))]
    return emit(signals, [lambda v, c=c: v * c / len(values) for c in others])


def product(function):
    """The twin of a product that is linear in each of two tensors: half of each term to either."""

    def twin(a, b):
        return emit([a, b], [lambda v: function(v, b.value) / 2, lambda v: function(a.value, v) / 2])

    return twin


def chosen(best, *constants):
    """The twin of the largest or smallest of several tensors and then constants, the first one on ties."""

    def twin(*signals):
        sides = np.stack(np.broadcast_arrays(*(s.value for s in signals), *constants))
        winner = best(sides, axis=0)
        terms = [lambda v, k=k: v * (winner == k) for k in range(len(signals))]
        return emit(signals, terms, sum(np.where(winner == k, sides[k], 0) for k in range(len(signals), len(sides))))

    return twin


def constant_first(best, constant):
    """As `chosen` for one tensor, but the constant wins ties."""

    def twin(signal):
        sides = np.stack(np.broadcast_arrays(constant, signal.value))
        winner = best(sides, axis=0)
        return emit([signal], [lambda v: v * (winner == 1)], np.where(winner == 0, sides[0], 0))

    return twin


def either(condition):
    """The twin of y = x_1 where condition(x_1, x_2) holds, else x_2."""

    def twin(a, b):
        first = np.asarray(condition(a.value, b.value))
        return emit([a, b], [lambda v: np.where(first, v, 0), lambda v: np.where(first, 0, v)])

    return twin


def selected(best, axes, keepdims=False):
    """The twin of a largest or smallest element along axes of the sample, the first one on ties."""

    def twin(signal):
        x = signal.value
        reduced = sorted(axis % x.ndim for axis in axes)
        rest = [n for axis, n in enumerate(x.shape) if axis not in reduced]
        shape = [1 if axis in reduced else n for axis, n in enumerate(x.shape)] if keepdims else rest

        def rows(v):
            return np.moveaxis(v, reduced, range(-len(reduced), 0)).reshape(*rest, -1)

        index = best(rows(x), axis=-1)[..., None]
        return emit([signal], [lambda v: np.take_along_axis(rows(v), index, -1).reshape(shape)])

    return twin


def largest(k):
    """The twin of the k largest elements of the last axis, in order, the first ones on ties."""

    def twin(signal):
        index = np.argsort(-signal.value, axis=-1, kind="stable")[..., :k]
        return emit([signal], [lambda v: np.take_along_axis(v, index, -1)])

    return twin


def chain(*parts):
    """The twin of parts that run one after the other."""

    def twin(*signals):
        for part in parts:
            signals = (part(*signals),)
        return signals[0]

    return twin


def variance(axes, keepdims=False):
    """The twin of the mean squared deviation: centred, squared with c = x, averaged."""
    centre = linear(lambda x: x - x.mean(axis=axes, keepdims=True))
    return chain(centre, pole(np.square), linear(lambda x: x.mean(axis=axes, keepdims=keepdims)))


def softmax(axis):
    """The twin of a softmax whose axis counts the sample's axes."""
    plan = twins.softmax(axis if axis < 0 else axis + 1)

    def twin(signal):
        stage = plan([signal.value])
        c = np.diag(stage.weights[0]).reshape(stage.shape)
        return emit([signal], [lambda v: v * c], stage.bias.reshape(stage.shape))

    return twin


def glu(signal):
    """y = a sigmoid(g) for the halves (a, g) of the last axis: a gate, sigmoid(0) = 1/2 being a bias."""
    a, g = (linear(lambda x, k=k: np.split(x, 2, axis=-1)[k])(signal) for k in range(2))
    return gate(a, pointwise(twins.FUNCTIONS["sigmoid"])(g))


def activation(function):
    """The twin of an activation function that mixes units, with what normalises it held."""
    (plan,) = twins.fused(function)

    def twin(signal):
        stage = plan([signal.value])
        return emit(
            [signal], [lambda v: (stage.weights[0] @ v.ravel()).reshape(stage.shape)], stage.bias.reshape(stage.shape)
        )

    return twin


def attention(weights):
    """The twin of y = A v with the attention weights A = weights(q, k), (heads, targets, sources), held."""

    def twin(query, key, value):
        held = weights(query.value, key.value)
        return emit([value], [lambda v: np.einsum("nts,snh->tnh", held, v)])

    return twin


def attention_weights(scale=None, bias=0.0, keep=True):
    """Returns the function (q, k) -> softmax(scale q k + bias) over what is kept; q and k are (time, heads, size)."""

    def weights(q, k):
        logits = np.einsum("tnh,snh->nts", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
        power = np.where(keep, np.exp(logits - logits.max(axis=-1, keepdims=True)), 0)
        return power / power.sum(axis=-1, keepdims=True)

    return weights


def convolution(x, kernel, stride=1):
    """Returns the `valid` convolution of a line (n, channels in) with a kernel (window, channels in, channels out)."""
    starts = range(0, len(x) - len(kernel) + 1, stride)
    return np.stack([np.einsum("ti,tio->o", x[a : a + len(kernel)], kernel) for a in starts])


def blocks(x, size):
    """Returns a picture whose blocks of size x size pixels became channels, the pixel running slowest."""
    h, w, c = x.shape
    x = x.reshape(h // size, size, w // size, size, c).transpose(0, 2, 1, 3, 4)
    return x.reshape(h // size, w // size, size * size * c)


def unblocked(x, size):
    """The inverse of `blocks`."""
    h, w, c = x.shape
    x = x.reshape(h, w, size, size, c // size**2).transpose(0, 2, 1, 3, 4)
    return x.reshape(h * size, w * size, c // size**2)


def patches(x, size):
    """Returns the patches of size x size pixels, side by side, the pixel running slowest."""
    h, w = x.shape[0] // size, x.shape[1] // size
    rows = [
        x[a * size : (a + 1) * size, b * size : (b + 1) * size].ravel()
        for a, b in itertools.product(*map(range, (h, w)))
    ]
    return np.reshape(rows, (h, w, -1))
