"""Float64 signals that carry their own excitation: the four-product chain of eq. (17), forwards and in NumPy only.

A twin of a layer is its formula, written with `Tracked` numbers. Each stage splits its coefficients into E+ and E-
(eqs. 4 and 6) by the signs of its own float64 o', and composes them with what has arrived. Nothing here calls
`pane_keras`. `margin` is the smallest |o'| met on the way, relative to the sum of absolute terms: where it is above
float32 rounding, the signs are those of the float32 pass as well.
"""

from dataclasses import dataclass

import numpy as np
from twins import compose


@dataclass(frozen=True, eq=False)
class Tracked:
    """A value and how each source excites it.

    Attributes:
        value: Array (batch, *shape).
        chains: {source: (P, N)}, each (batch, units, source units); empty for a constant.
        margin: See above.
    """

    value: np.ndarray
    chains: dict
    margin: float = 1.0

    def __add__(self, other):
        a, b = _both(self, other)
        return stage([(_diagonal(a), a), (_diagonal(b), b)], a.value.shape[1:])

    def __sub__(self, other):
        return self + other * -1.0

    def __mul__(self, other):
        """Each of two live factors gets half of the product; a constant is the coefficient of the other."""
        a, b = _both(self, other)
        if not a.chains or not b.chains:
            a, b = (a, b) if a.chains else (b, a)
            return scaled(a, b.value)
        return stage([(_diagonal(a, b.value / 2), a), (_diagonal(b, a.value / 2), b)], a.value.shape[1:])

    def __matmul__(self, kernel):
        return linear(self, lambda x: x @ kernel)

    def __getitem__(self, index):
        """A slice of the sample: `signal[0]` is its first row."""
        return linear(self, lambda x: x[index])


def source(name, value):
    """Returns a value that excitations start from."""
    value = np.asarray(value, "float64")
    eye = np.broadcast_to(np.eye(value[0].size), (len(value), value[0].size, value[0].size))
    return Tracked(value, {name: (eye, np.zeros_like(eye))})


def constant(value):
    """Returns a value that nothing excites."""
    return Tracked(np.asarray(value, "float64"), {})


def stage(parts, shape, bias=0.0):
    """Returns o = sum of W_k x_k + b, the sign of o' being that of the sum over the live parts.

    Args:
        parts: [(W, Tracked)], with W (outputs, inputs) or (batch, outputs, inputs).
        shape: Of one sample of o.
        bias: Array that broadcasts to o.
    """
    batch = len(parts[0][1].value)
    flat = [x.value.reshape(batch, -1, 1) for _, x in parts]
    terms = [(np.broadcast_to(w, (batch, *w.shape[-2:])), v, x) for (w, x), v in zip(parts, flat)]
    live, held = ([t for t in terms if bool(t[2].chains) == wanted] for wanted in (True, False))
    out, size = (sum((f(w) @ f(v) for w, v, _ in live), np.zeros((batch, 1, 1))) for f in (np.array, np.abs))
    fixed = sum((w @ v for w, v, _ in held), np.zeros((batch, 1, 1)))
    chains = {}
    for w, v, x in live:
        pair = _split(w, np.swapaxes(v, 1, 2), np.where(np.abs(out) <= 1e-13 * size, 0, out))
        for name, chain in x.chains.items():
            more = compose(pair, chain)
            chains[name] = more if name not in chains else tuple(a + b for a, b in zip(chains[name], more))
    margin = min([x.margin for _, x in parts] + [np.min(np.abs(out[size > 0]) / size[size > 0], initial=1.0)])
    return Tracked(np.reshape(out + fixed, (batch, *shape)) + bias, chains, margin)


def linear(x, function, bias=0.0):
    """Returns W x + b for a linear function of one sample; with one function a sample as a list."""
    each = function if isinstance(function, list) else [function]
    matrices = np.stack([matrix(f, x.value.shape[1:]) for f in each])
    return stage([(matrices, x)], each[0](x.value[0]).shape, bias)


def scaled(x, coefficient, bias=0.0):
    """Returns c x + b, element by element."""
    return stage([(_diagonal(x, np.broadcast_to(coefficient, x.value.shape)), x)], x.value.shape[1:], bias)


def joined(function, *xs):
    """Returns a rearrangement of several signals, such as a stack: `function` of one sample of each."""
    shapes = [x.value.shape[1:] for x in xs]
    zeros = [np.zeros(shape) for shape in shapes]
    parts = [
        (matrix(lambda unit, k=k: function(*zeros[:k], unit, *zeros[k + 1 :]), shape), xs[k])
        for k, shape in enumerate(shapes)
    ]
    return stage(parts, function(*zeros).shape)


def where(mask, a, b):
    """Returns a where the mask (batch, ...) is true, else b."""
    a, b = _both(a, b)
    mask = np.broadcast_to(mask.reshape(*mask.shape, *[1] * (a.value.ndim - mask.ndim)), a.value.shape)
    return stage([(_diagonal(a, mask * 1.0), a), (_diagonal(b, ~mask * 1.0), b)], a.value.shape[1:])


def reshaped(x, shape):
    """Returns the same numbers in another shape."""
    return Tracked(x.value.reshape(-1, *shape), x.chains, x.margin)


def matrix(function, shape):
    """Returns the matrix (outputs, inputs) of a linear function of one sample of this shape."""
    units = np.eye(int(np.prod(shape, dtype=int)))
    return np.stack([np.ravel(function(unit.reshape(shape))) for unit in units], axis=1)


def tanh(x):
    """c = tanh(x) / x."""
    return scaled(x, _over(np.tanh(x.value), x.value, 1.0))


def sigmoid(x):
    """c = (sigmoid(x) - 1/2) / x, and a bias of 1/2."""
    return scaled(x, _over(np.tanh(x.value / 2) / 2, x.value, 0.25), 0.5)


def relu(x):
    """c = [x > 0]."""
    return scaled(x, (x.value > 0) * 1.0)


def _over(y, x, at_zero):
    return np.where(x == 0, at_zero, y / np.where(x == 0, 1, x))


def _diagonal(x, coefficients=None):
    """One coefficient an element, (batch, units, units)."""
    ones = np.ones(x.value.shape) if coefficients is None else coefficients
    return ones.reshape(len(x.value), 1, -1) * np.eye(x.value[0].size)


def _both(a, b):
    """Two signals of one shape; a number or an array (batch, ...) is a constant."""
    b = b if isinstance(b, Tracked) else constant(np.broadcast_to(b, a.value.shape))
    return a, b


def _split(w, x, out):
    """E+ and E- by eqs. (4) and (6), for w (batch, outputs, inputs), x (batch, 1, inputs), o' (batch, outputs, 1)."""
    agreement = np.sign(w) * np.sign(x) * np.sign(out)
    half = np.where((out == 0) & (w * x != 0), w / 2, 0)
    return np.where(agreement > 0, w, 0) + half, np.where(agreement < 0, w, 0) + half
