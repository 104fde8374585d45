"""Activations, as a layer and fused: one coefficient (f(x) - f(0)) / x, so written that nothing cancels near 0.

`f(0)` is a bias. For f(0) = 0 the coefficient is the paper's output / input (III.B.3); otherwise it departs from the
paper on purpose, since output / input has a pole at 0. At x = 0 itself the operand's mask makes it a zero excitation.
"""

import functools
import math

import keras
from keras import activations, ops

from pane_keras import backend, pieces
from pane_keras.pieces import elementwise
from pane_keras.registry import activation_piece, register, register_activation
from pane_keras.rules.softmax import log_softmax_piece, softmax_piece, sparsemax_piece


@register_activation(activations.linear)
def _linear(activation):
    """f(x) = x: no stage at all."""
    del activation
    return


@register_activation(activations.relu)
def _relu(activation):
    """f(x) = max(x, 0)."""
    return pieces.rectifier(activation)


@register_activation(activations.tanh, activations.softsign, activations.hard_tanh)
def _unit_through_zero(activation):
    """f(0) = 0 and |f| <= 1: c = f(x) / x."""
    return through_zero(activation, unit=True)


@register_activation(
    activations.silu,
    activations.gelu,
    activations.celu,
    activations.mish,
    activations.tanh_shrink,
    activations.soft_shrink,
    activations.hard_shrink,
    activations.hard_silu,
    activations.leaky_relu,
    activations.threshold,
)
def _through_zero(activation):
    """f(0) = 0: c = f(x) / x."""
    return through_zero(activation)


@register_activation(activations.elu)
def _elu(activation):
    """f(x) = x above 0, e^x - 1 below."""
    return elu_piece(activation, 1.0)


@register_activation(activations.selu)
def _selu(activation):
    """f(x) = scale (x above 0, alpha (e^x - 1) below), with the constants of the paper on SELU."""
    return elu_piece(activation, 1.6732632423543772, scale=1.0507009873554805)


@register_activation(activations.relu6)
def _relu6(activation):
    """f(0) = 0 and f >= 0."""
    return through_zero(activation, nonnegative=True)


@register_activation(activations.sigmoid)
def _sigmoid(activation):
    """f(0) = 1/2: c = tanh(x / 2) / (2 x)."""
    return _offset(activation, lambda x, y: quotient(ops.tanh(x / 2) / 2, x, 0.25), 0.5, head=True, unit=True)


@register_activation(activations.softplus)
def _softplus(activation):
    """f(0) = log 2: c = 1/2 + log(cosh(x / 2)) / x."""
    return _offset(activation, lambda x, y: softplus_coefficient(x), math.log(2))


@register_activation(activations.log_sigmoid)
def _log_sigmoid(activation):
    """f(x) = -softplus(-x), so c(x) = c_softplus(-x)."""
    return _offset(activation, lambda x, y: softplus_coefficient(-x), -math.log(2), nonnegative=False)


@register_activation(activations.exponential)
def _exponential(activation):
    """f(0) = 1: c = expm1(x) / x."""
    return _offset(activation, lambda x, y: quotient(ops.expm1(x), x, 1), 1)


@register_activation(activations.hard_sigmoid)
def _hard_sigmoid(activation):
    """f(x) = clip(x / 6 + 1/2, 0, 1)."""
    return _offset(
        activation, lambda x, y: ops.where(ops.abs(x) < 3, 1 / 6, quotient(y - 0.5, x, 1 / 6)), 0.5, unit=True
    )


@register_activation(activations.sparse_sigmoid)
def _sparse_sigmoid(activation):
    """f(x) = clip((x + 1) / 2, 0, 1)."""
    return _offset(activation, lambda x, y: ops.where(ops.abs(x) < 1, 0.5, quotient(y - 0.5, x, 0.5)), 0.5, unit=True)


@register_activation(activations.sparse_plus)
def _sparse_plus(activation):
    """f(x) = (x + 1)^2 / 4 between -1 and 1, 0 below and x above: c = (x + 2) / 4 between."""
    return _offset(activation, lambda x, y: ops.where(ops.abs(x) < 1, (x + 2) / 4, quotient(y - 0.25, x, 0.5)), 0.25)


@register_activation(activations.squareplus)
def _squareplus(activation):
    """The constant b is 4."""
    return squareplus_piece(activation, 4)


@register_activation(activations.softmax)
def _softmax(activation):
    return softmax_piece(activation, axis=-1)


@register_activation(activations.log_softmax)
def _log_softmax(activation):
    return log_softmax_piece(activation, axis=-1)


@register_activation(activations.sparsemax)
def _sparsemax(activation):
    return sparsemax_piece(activation, axis=-1)


@register_activation(activations.glu)
def _glu(activation, axis=-1):
    """y = a sigmoid(g) for the halves (a, g) of x: a gate of two factors, each read from x by a slice."""
    return glu_piece(axis)


@register(keras.layers.Activation)
def activation_layer(layer, inputs):
    """The function that the layer holds."""
    return _piece(layer.activation, layer)


@register(keras.layers.ReLU)
def relu_layer(layer, inputs):
    """f(x) = max(x, 0), or its capped, leaky and thresholded forms."""
    if layer.max_value is None and not layer.negative_slope and not layer.threshold:
        return pieces.rectifier(ops.relu)
    slope, threshold = float(layer.negative_slope or 0), float(layer.threshold or 0)
    f = _rectifier(slope, None if layer.max_value is None else float(layer.max_value), threshold)
    if threshold <= 0 or slope == 0:
        return through_zero(f, nonnegative=slope == 0 and threshold >= 0)
    at_zero = -slope * threshold
    return _offset(f, lambda x, y: ops.where(x < threshold, slope, quotient(y - at_zero, x, slope)), at_zero, False)


@register(keras.layers.LeakyReLU)
def leaky_relu_layer(layer, inputs):
    """f(x) = x above 0, slope x below."""
    return through_zero(lambda x: ops.leaky_relu(x, negative_slope=layer.negative_slope))


@register(keras.layers.ELU)
def elu_layer(layer, inputs):
    """f(x) = x above 0, alpha (e^x - 1) below."""
    return elu_piece(lambda x: activations.elu(x, alpha=layer.alpha), layer.alpha)


@register(keras.layers.PReLU)
def prelu_layer(layer, inputs):
    """f(x) = x above 0, alpha x below, with a learned alpha."""
    alpha = backend.snapshot(layer.alpha, inputs if inputs is None else inputs.dtype)
    return elementwise(
        lambda x: ops.relu(x) - alpha * ops.relu(-x),
        lambda x, y: ops.where(x > 0, ops.ones_like(x), alpha * ops.ones_like(x)),
        kind="prelu",
    )


@register(keras.layers.Softmax)
def softmax_layer(layer, inputs, arguments):
    """The normaliser is held fixed; as the last layer it is left out of the maps."""
    mask = None if arguments is None else arguments.mask("inputs")
    if mask is None:
        return softmax_piece(lambda x: activations.softmax(x, axis=layer.axis), axis=layer.axis)
    kept = ops.cast(ops.cast(mask, inputs.dtype) > 0.5, inputs.dtype) * ops.ones_like(inputs)
    return softmax_piece(lambda x: layer.call(x, mask=mask), axis=layer.axis, kept=kept)


@functools.cache
def _rectifier(slope, highest, threshold):
    """One object for layers that compute the same, so that loops made of it are compiled once."""
    f = functools.partial(activations.relu, negative_slope=slope, max_value=highest, threshold=threshold)
    return backend.lasting(f)


def through_zero(f, nonnegative=False, unit=False):
    """Returns the piece of an f with f(0) = 0: c = f(x) / x, the paper's output / input."""
    flags = {"nonnegative": nonnegative, "unit": unit}
    return elementwise(f, ratio, masked=True, bounded=True, kind=_name(f), **flags)


def squareplus_piece(f, b):
    """Returns the piece of f(x) = (x + sqrt(x^2 + b)) / 2: c = 1/2 + x / (2 (sqrt(x^2 + b) + sqrt(b)))."""
    root = math.sqrt(b)
    return _offset(f, lambda x, y: 0.5 + x / (2 * (ops.sqrt(ops.square(x) + b) + root)), root / 2)


def elu_piece(f, alpha, scale=1.0):
    """Returns the piece of an exponential linear unit: below 0, c = scale alpha expm1(x) / x, which does not cancel."""

    def coefficient(x, y):
        below = alpha * quotient(ops.expm1(ops.minimum(x, 0)), x, 1)
        return scale * ops.where(x > 0, ops.ones_like(x), below)

    return elementwise(f, coefficient, bounded=True, kind="elu")


def quotient(numerator, x, limit):
    """Returns numerator / x, and `limit` where x is 0."""
    if isinstance(limit, int) and limit == 0:
        return ops.divide_no_nan(numerator, x)  # one pass over memory instead of four
    zero = ops.equal(x, 0)
    return ops.where(zero, ops.cast(limit, x.dtype), numerator / ops.where(zero, ops.ones_like(x), x))


def ratio(x, y):
    """Returns y / x, and 0 where x is 0."""
    return quotient(y, x, 0)


def softplus_coefficient(x):
    """Returns (softplus(x) - log 2) / x = 1/2 + log(cosh(u)) / (2 u) with u = x / 2.

    log(cosh(u)) is log1p(2 sinh(u/2)^2) near 0, where |u| + log1p(e^{-2|u|}) - log 2 would cancel.
    """
    u = x / 2
    size = ops.abs(u)
    near = ops.log1p(2 * ops.square(ops.sinh(ops.minimum(size, 1) / 2)))
    far = size + ops.log1p(ops.exp(-2 * size)) - math.log(2)
    return 0.5 + quotient(ops.where(size < 1, near, far), x, 0)


def glu_piece(axis):
    """Returns the piece of a gated linear unit over `axis`."""

    def run(record, slot):
        size = slot.value.shape[axis] // 2
        value = _slice(record, slot, axis, 0, size)
        gate = _offset(ops.sigmoid, lambda x, y: quotient(ops.tanh(x / 2) / 2, x, 0.25), 0.5)
        return pieces.gate()(record, value, gate(record, _slice(record, slot, axis, size, size)))

    return run


def _slice(record, slot, axis, start, size):
    axis %= len(slot.value.shape)

    def forward(x):
        index = [slice(None)] * len(x.shape)
        index[axis] = slice(start, start + size)
        return x[tuple(index)]

    return pieces.nonnegative(forward, copies=True, kind="slice")(record, slot)


def _offset(f, coefficient, at_zero, nonnegative=True, head=False, unit=False):
    return elementwise(
        f,
        coefficient,
        bias=lambda x, y: ops.full_like(x, at_zero),
        nonnegative=nonnegative,
        unit=unit,
        bounded=f is not activations.exponential,
        head=head,
        kind=_name(f),
    )


def _piece(activation, layer):
    return activation_piece(activation, layer.name) or pieces.identity


def _name(f):
    return getattr(f, "__name__", "activation").strip("<>").replace("lambda", "activation")
