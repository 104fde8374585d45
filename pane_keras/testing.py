"""For people who write rules of their own: the laws that every layer must keep, and a slow twin to check against.

`check_layer(layer, input_shape)` runs one layer on random data of several kinds and asserts every law.
`dense_network(trace)` forms the dense matrices of a whole trace in float64 and composes them as the paper writes it,
by four products (eq. 17). Neither pulls nor pushes anything through the native kernels: matrices come from applying
each stage's forward map to unit vectors, and E+ and E- from eqs. (4) and (6). The signs of x and o' are those of the
forward pass: a sign that rounding flips would change the excitations by more than rounding.
"""

import keras
import numpy as np
from keras import ops, tree

from pane_keras.composition import told_apart
from pane_keras.errors import PaneError
from pane_keras.excitation import Excitation
from pane_keras.excitation_layer import ExcitationLayer, called_with
from pane_keras.linear_operand import LinearOperand
from pane_keras.record import Record
from pane_keras.single_operand import ElementwiseOperand, SelectionOperand


def check_layer(layer, input_shape, *, inputs=None, batch=3, tolerance=1e-5, seed=0):
    """Asserts that the excitations of one layer keep every law.

    The laws: the output is the layer's own; nothing is NaN or infinite; `o = E+ x + E- x + b`; `<u, E v>` is the same
    pulled and pushed, for S = P + N and D = P - N; P and N are those of eqs. (4) and (6) for the layer's coefficients;
    E- = 0 where a stage says that every output is a single term.

    The layer's weights are given random values while it is checked (a bias of zero would hide a missing bias), and
    get their own back afterwards.

    Args:
        layer: Keras layer whose class has a rule.
        input_shape: Shape of one sample; a list of shapes for a layer that takes a list; a dict of shapes by the names
            of the layer's parameters, such as `{"query": (4, 3), "value": (5, 3)}`. Keep it small: every matrix is
            formed.
        inputs: Dict of inputs by name to use instead of the random ones, each an array, or a list or dict of them.
        batch: Number of samples.
        tolerance: Largest difference, relative to the largest entry of a tensor.
        seed: Seed of the data and weights.

    Raises:
        AssertionError: A law does not hold: says which, where and by how much.
        PaneError: The layer has no rule.
    """
    rng = np.random.default_rng(seed)
    kinds = _inputs(input_shape, batch, rng) if inputs is None else inputs
    args, kwargs = called_with(next(iter(kinds.values())))
    layer(*args, **kwargs)
    before = [variable.numpy() for variable in layer.variables]
    try:
        _randomize(layer, rng)
        for kind, x in kinds.items():
            _check(layer, x, f"{layer.name} on {kind}", tolerance)
    finally:
        for variable, value in zip(layer.variables, before):
            variable.assign(value)


def dense_network(trace, coefficients=None, split_below=None):
    """Returns the `DenseNetwork` of a trace.

    Args:
        trace: `Trace` of a small model.
        coefficients: Function stage -> list of arrays (batch, outputs, inputs), one an edge, to use instead of those
            that the rules state.
        split_below: As in `Trace.saliency`.
    """
    told = None if split_below is None else told_apart(trace._record, trace._call(split_below).output)
    return DenseNetwork(trace._record, coefficients, told)


class DenseNetwork:
    """Dense E+ and E- of every stage in float64, and their composition by four products.

    Args:
        record: What a forward pass recorded.
        coefficients: As for `dense_network`.
        told: Slots whose stages tell positive from negative; by default all.
    """

    def __init__(self, record, coefficients=None, told=None):
        self.stages = []
        for stage in record.stages:
            matrices = coefficients(stage) if coefficients else [dense_coefficients(e.operand) for e in stage.edges]
            pairs = [split_edge(w, edge) for w, edge in zip(matrices, stage.edges, strict=True)]
            if told is not None and stage.output not in told:
                pairs = [(p + n, np.zeros_like(n)) for p, n in pairs]
            self.stages.append((stage.output, [(edge.source, *pair) for edge, pair in zip(stage.edges, pairs)]))

    def between(self, source, target):
        """Returns dense (P, N) from slot `source` to slot `target`, each (batch, target units, source units)."""
        p, n = self._sweep(source, target, compose)
        return p, n

    def magnitude(self, source, target):
        """Returns the chain of |E+| + |E-|: what float32 rounding of any composition is measured against."""
        return self._sweep(source, target, _absolute_product)[0]

    def _sweep(self, source, target, product):
        arrived = {}
        for output, edges in self.stages:
            for origin, p, n in edges:
                if origin == source and source not in arrived:
                    eye = np.broadcast_to(np.eye(p.shape[2]), (p.shape[0], p.shape[2], p.shape[2]))
                    arrived[source] = eye, np.zeros_like(eye)
                if origin in arrived:
                    parts = product((p, n), arrived[origin])
                    known = arrived.get(output)
                    arrived[output] = parts if known is None else tuple(a + b for a, b in zip(known, parts))
        return arrived[target]


def split(w, x, out):
    """Returns E+ and E- for dense coefficients (eqs. 4 and 6).

    `w_j` is in E+ where `w_j x_j` has the sign of o', in E- where it has the opposite one, in neither where it is 0;
    where o' is 0 each takes half.

    Args:
        w: Array (batch, outputs, inputs).
        x, out: Tensors (batch, *shape): the input and o'.
    """
    x, out = (np.sign(np.asarray(t, "float64").reshape(len(w), -1)) for t in (x, out))
    term = np.sign(w) * x[:, None, :]
    half = np.where((out[:, :, None] == 0) & (term != 0), w / 2, 0)
    towards = term * out[:, :, None]
    return np.where(towards > 0, w, 0) + half, np.where(towards < 0, w, 0) + half


def split_edge(w, edge):
    """Returns E+ and E- of one edge, with the signs that the forward pass found.

    In a stage of single terms the sign of o' is that of the term, also where the product of the two is too small for
    the dtype: E- = 0.
    """
    x, out = edge.operand.x, edge.operand.out
    return split(w, x, out if isinstance(edge.operand, LinearOperand) else _signal(w, x))


def compose(later, earlier):
    """Returns the double chain of two pairs: P = E+ P' + E- N', N = E+ N' + E- P' (eq. 17)."""
    (p, n), (q, m) = later, earlier
    return p @ q + n @ m, p @ m + n @ q


def dense_coefficients(operand):
    """Returns the coefficients that a stage states, as a float64 array (batch, outputs, inputs) without masks."""
    batch, (outputs, inputs) = operand.x.shape[0], operand.shape[2:]
    w = np.zeros((batch, outputs, inputs))
    if isinstance(operand, LinearOperand):
        # One row for each unit of the input, the batch running fastest, as operands take them.
        basis = np.repeat(np.eye(inputs, dtype=keras.backend.standardize_dtype(operand.x.dtype)), batch, axis=0)
        columns = operand.apply(ops.convert_to_tensor(basis.reshape(-1, *operand.in_shape)))
        w[:] = np.moveaxis(np.asarray(columns).reshape(inputs, batch, outputs), 0, 2)
    elif isinstance(operand, SelectionOperand):
        index = np.asarray(operand.index()).reshape(batch, outputs)
        w[np.arange(batch)[:, None], np.arange(outputs), index] = 1
    elif isinstance(operand, ElementwiseOperand):
        slopes = operand.multiplier()(ops.ones_like(operand.out), 1)
        slopes = np.broadcast_to(np.asarray(slopes), operand.out.shape).reshape(batch, outputs)
        index = np.broadcast_to(np.arange(inputs).reshape(operand.in_shape), operand.out_shape).ravel()
        w[:, np.arange(outputs), index] = slopes
    else:
        raise PaneError(
            f"Expected a linear, element-by-element or selection operand. Received: {type(operand).__name__}."
        )
    return w


def true_values(mantissa, log2_scale):
    """Returns `mantissa * 2**log2_scale` in float64; the scale has the leading axes of the mantissa."""
    mantissa, scale = np.asarray(mantissa, "float64"), np.asarray(log2_scale)
    return np.ldexp(mantissa, scale.reshape(*scale.shape, *[1] * (mantissa.ndim - scale.ndim)))


def channels(maps):
    """Returns (S, D) of an `ExcitationMap` in float64: the sum, and positive minus negative."""
    positive, negative = (true_values(t, maps.log2_scale) for t in (maps.positive, maps.negative))
    return true_values(maps.sum, maps.sum_log2_scale), positive - negative


def _signal(w, x):
    """Returns w x for matrices (batch, outputs, inputs) and a tensor (batch, *inputs)."""
    return np.einsum("boi,bi->bo", w, _array(x).reshape(len(w), -1))


def _absolute_product(later, earlier):
    size = np.abs(later[0]) + np.abs(later[1])
    return size @ earlier[0], earlier[1]


def _inputs(shapes, batch, rng):
    def sparse(values):
        return np.where(rng.random(values.shape) < 0.2, 0, values).astype("float32")

    makers = {
        "normal numbers and zeros": lambda s: sparse(rng.normal(size=(batch, *s))),
        "what a ReLU emits": lambda s: np.maximum(rng.normal(size=(batch, *s)), 0).astype("float32"),
        "small integers with ties": lambda s: rng.integers(-2, 3, (batch, *s)).astype("float32"),
        "one sample": lambda s: sparse(rng.normal(size=(1, *s))),
    }
    return {name: _each_shape(make, shapes) for name, make in makers.items()}


def _each_shape(make, shapes):
    if isinstance(shapes, dict):
        return {name: make(tuple(shape)) for name, shape in shapes.items()}
    return [make(tuple(shape)) for shape in shapes] if isinstance(shapes, list) else make(tuple(shapes))


def _randomize(layer, rng):
    """Moves every float weight a little, away from values such as 0 and 1; what is positive stays so."""
    for variable in layer.variables:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign_add(np.abs(rng.normal(0, 0.3, tuple(variable.shape))))


def _check(layer, x, where, tolerance):
    wrapped, record = ExcitationLayer(layer), Record(name=layer.name)
    args, kwargs = called_with(x)
    given = tree.map_structure(lambda value: record.slot(ops.convert_to_tensor(value)), (args, kwargs))
    emitted = tree.flatten(wrapped.emit(record, *given))
    for slot, own in zip(emitted, tree.flatten(layer(*args, **kwargs)), strict=True):
        _assert_close(slot.value, own, f"{where}: the output is not the layer's own", tolerance)
    for stage in record.stages:
        at = f"{where}, stage {stage.edges[0].operand.kind!r}"
        total = sum(_check_edge(record, edge, at, tolerance) for edge in stage.edges)
        value, bias = _array(record.slots[stage.output].value), 0.0 if stage.bias is None else _array(stage.bias())
        size = max(np.abs(value).max(initial=0), np.abs(bias).max(initial=0))
        gap = np.abs(value - total.reshape(value.shape) - bias).max(initial=0)
        assert gap <= tolerance * size, f"{at}: not complete, o - (E+ x + E- x + b) is {gap:.1e} where o is {size:.1e}"


def _check_edge(record, edge, at, tolerance):
    """Returns what the edge adds to the output: (E+ + E-) x."""
    operand = edge.operand
    pair = Excitation(record, edge.source, edge.target, ("input", "output"), lambda: [edge])
    pushed = channels(pair.effect(source=list(np.ndindex(*operand.in_shape))))
    pushed = [np.moveaxis(t.reshape(*t.shape[:2], -1), 1, 2) for t in pushed]
    pulled = channels(pair.map(target=list(np.ndindex(*operand.out_shape))))
    pulled = [t.reshape(*t.shape[:2], -1) for t in pulled]
    p, n = split_edge(dense_coefficients(operand), edge)
    for word, expected, forth, back in zip(("P + N", "P - N"), (p + n, p - n), pushed, pulled):
        # All unit vectors u and v at once: the two matrices are equal if and only if <u, E v> always is.
        _assert_close(back, forth, f"{at}: {word} pulled is not {word} pushed, <u, E v> differs", tolerance)
        _assert_close(forth, expected, f"{at}: {word} is not that of eqs. (4) and (6)", tolerance)
    assert not (operand.single and n.any()), f"{at}: E- is not zero, though every output is said to have one term"
    return _signal(pushed[0], operand.x)


def _assert_close(actual, expected, message, tolerance):
    actual, expected = _array(actual), _array(expected)
    assert actual.shape == expected.shape, f"{message}: shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(actual).all(), f"{message}: NaN or infinity"
    gap, size = np.abs(actual - expected).max(initial=0), np.abs(expected).max(initial=0)
    assert gap <= tolerance * size, f"{message}: off by {gap:.1e}, the largest entry is {size:.1e}"


def _array(tensor):
    return np.asarray(tensor).astype("float64")
