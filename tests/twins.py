"""Slow float64 twins of the rules, one for each class of layer, written from the formulas with loops over indices.

Nothing here calls `pane_keras` or a layer: a twin reads a layer's weights and settings only. It gives the layer as a
list of stages; a stage is a function of samples (no batch axis) that returns the dense linearisation at them,
`o = sum_k W_k x_k + b`. `split` turns that into E+ and E- by eqs. (4) and (6), `compose` chains stages by eq. (17).

The twins are right where a float32 sum has the sign that its float64 twin has. The tests feed them small dyadic
numbers (sums are then exact) or numbers whose sums keep away from zero, or take the signs from the trace.
"""

import itertools
import math
from typing import NamedTuple

import keras
import numpy as np

layers = keras.layers
LD = np.longdouble


class Stage(NamedTuple):
    """One stage at one sample.

    Attributes:
        weights: One dense (outputs, inputs) matrix for each input.
        bias: What does not multiply the input, (outputs,).
        shape: Shape of the sample it emits.
        single: E- = 0 whatever the signs: a composite of stages that have one term for each output.
    """

    weights: tuple
    bias: object
    shape: tuple
    single: bool = False

    def linear(self, xs):
        """Returns o' = sum_k W_k x_k, flat."""
        return sum(w @ x.ravel() for w, x in zip(self.weights, xs, strict=True))

    def size(self, xs):
        """Returns sum_k |W_k| |x_k|, flat: what o' is measured against."""
        return sum(np.abs(w) @ np.abs(x.ravel()) for w, x in zip(self.weights, xs))

    def output(self, xs):
        """Returns o."""
        return (self.linear(xs) + self.bias).reshape(self.shape)


def split(weights, xs, signs, single=False):
    """Returns [(E+, E-)], one pair for each input, from dense matrices, the inputs and the signs of o'."""
    return [_split(w, x.ravel(), np.ravel(signs), single) for w, x in zip(weights, xs, strict=True)]


def _split(w, x, signs, single):
    terms = np.sign(w) * np.sign(x)
    if single:
        return w * (terms != 0), np.zeros_like(w)
    half = np.where((signs == 0)[:, None] & (terms != 0), w / 2, 0)
    ahead = terms * np.sign(signs)[:, None]
    return np.where(ahead > 0, w, 0) + half, np.where(ahead < 0, w, 0) + half


def compose(later, earlier):
    """Returns the pair of E after E': P = E+ P' + E- N', N = E+ N' + E- P' (eq. 17)."""
    (p, n), (q, m) = later, earlier
    return p @ q + n @ m, p @ m + n @ q


def excitation(layer, xs):
    """Returns (output, [(E+, E-)] for each input, smallest relative |o'|) of a layer at one sample, from its stages."""
    xs = [np.asarray(x, "float64") for x in xs]
    pairs, margin = None, 1.0
    for make in plan(layer):
        stage = make(xs)
        linear, size = stage.linear(xs), stage.size(xs)
        linear = np.where(np.abs(linear) <= 1e-13 * size, 0, linear)  # an exact zero, such as 1/9 - 1/9
        margin = min(margin, np.min(np.abs(linear[linear != 0]) / size[linear != 0], initial=1.0))
        here = split(stage.weights, xs, linear, stage.single)
        pairs = here if pairs is None else [compose(here[0], pair) for pair in pairs]
        xs = [stage.output(xs)]
    if pairs is None:  # no stage at all: the identity
        pairs = [(np.eye(xs[0].size), np.zeros((xs[0].size,) * 2))]
    return xs[0], pairs, margin


# --- the table of twins -------------------------------------------------------------------------------------------

TWINS = {}


def twin(*classes):
    """Registers a function layer -> list of stages."""

    def decorate(function):
        TWINS.update(dict.fromkeys(classes, function))
        return function

    return decorate


def plan(layer):
    """Returns the stages of a layer: functions of samples -> `Stage`."""
    return TWINS[type(layer)](layer)


def _value(variable):
    return np.asarray(variable, dtype="float64")


def _bias(layer):
    return 0.0 if layer.bias is None else _value(layer.bias)


# --- linear layers ------------------------------------------------------------------------------------------------


@twin(layers.Dense)
def _dense(layer):
    def stage(xs):
        kernel, lead = _value(layer.kernel), xs[0].shape[:-1]
        matrix = np.kron(np.eye(math.prod(lead)), kernel.T)
        shape = (*lead, kernel.shape[1])
        return Stage((matrix,), np.broadcast_to(_bias(layer), shape).ravel(), shape)

    return [stage, *fused(layer.activation)]


@twin(layers.EinsumDense)
def _einsum_dense(layer):
    def stage(xs):
        columns = []
        for unit in np.eye(xs[0].size):
            x = unit.reshape(1, *xs[0].shape)
            columns.append(np.einsum(layer.equation, x, _value(layer.kernel))[0])
        shape = columns[0].shape
        return Stage((_columns(columns),), np.broadcast_to(_bias(layer), shape).ravel(), shape)

    return [stage, *fused(layer.activation)]


def _columns(columns):
    return np.stack([c.ravel() for c in columns], axis=1)


def _frame(n, window, stride, dilation, padding):
    """Returns (padding before, output size) of one axis."""
    reach = (window - 1) * dilation + 1
    if padding == "valid":
        return 0, (n - reach) // stride + 1
    if padding == "causal":
        return reach - 1, (n - 1) // stride + 1
    out = -(-n // stride)
    return max((out - 1) * stride + reach - n, 0) // 2, out


def convolution_matrix(space, kernel, strides, padding, dilation, groups=1):
    """Returns (output space, W as (outputs, channels out, inputs, channels in)) of a convolution."""
    *window, width_in, width_out = kernel.shape
    frames = [_frame(*args, padding) for args in zip(space, window, strides, dilation)]
    outs = tuple(out for _, out in frames)
    per_group = width_out // groups
    matrix = np.zeros((math.prod(outs), width_out, math.prod(space), width_in * groups))
    for o in np.ndindex(*outs):
        for tap in np.ndindex(*window):
            i = [a * s + t * d - before for a, s, t, d, (before, _) in zip(o, strides, tap, dilation, frames)]
            if all(0 <= j < n for j, n in zip(i, space)):
                row, column = np.ravel_multi_index(o, outs), np.ravel_multi_index(i, space)
                for g in range(groups):
                    outs_of = slice(g * per_group, (g + 1) * per_group)
                    ins_of = slice(g * width_in, (g + 1) * width_in)
                    matrix[row, outs_of, column, ins_of] += kernel[tap][:, outs_of].T
    return outs, matrix


def _in_format(outs, matrix, bias, first):
    """Flattens (outputs, channels, inputs, channels) in the layer's data format."""
    n, width = matrix.shape[:2]
    full = np.broadcast_to(bias, (n, width))
    if first:
        flat = matrix.transpose(1, 0, 3, 2).reshape(n * width, -1)
        return Stage((flat,), full.T.ravel(), (width, *outs))
    return Stage((matrix.reshape(n * width, -1),), full.ravel(), (*outs, width))


def _first(layer):
    return getattr(layer, "data_format", "channels_last") == "channels_first"


def _space(x, first):
    return x.shape[1:] if first else x.shape[:-1]


def _conv_stage(layer, kernel, bias, groups, plain=False):
    rank = kernel.ndim - 2
    strides, dilation = ((1,) * rank, (1,) * rank) if plain else (layer.strides, layer.dilation_rate)
    padding = "valid" if plain else layer.padding

    def stage(xs):
        space = _space(xs[0], _first(layer))
        return _in_format(*convolution_matrix(space, kernel, strides, padding, dilation, groups), bias, _first(layer))

    return stage


@twin(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def _convolution(layer):
    return [_conv_stage(layer, _value(layer.kernel), _bias(layer), layer.groups), *fused(layer.activation)]


def _as_grouped(kernel):
    """A depthwise kernel (*window, channels, multiplier) is a grouped one with a channel in each group."""
    *window, channels, multiplier = kernel.shape
    return kernel.reshape(*window, 1, channels * multiplier), channels


@twin(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def _depthwise(layer):
    kernel, groups = _as_grouped(_value(layer.kernel))
    return [_conv_stage(layer, kernel, _bias(layer), groups), *fused(layer.activation)]


@twin(layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(layer):
    kernel, groups = _as_grouped(_value(layer.depthwise_kernel))
    mixing = _conv_stage(layer, _value(layer.pointwise_kernel), _bias(layer), 1, plain=True)
    return [_conv_stage(layer, kernel, 0.0, groups), mixing, *fused(layer.activation)]


@twin(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def _transposed(layer):
    """The transpose of the convolution that maps the layer's output space to its input space."""
    first = _first(layer)

    def stage(xs):
        kernel = _value(layer.kernel)  # (*window, channels out, channels in)
        outs = _space(np.empty(layer.compute_output_shape((1, *xs[0].shape))[1:]), first)
        space, matrix = convolution_matrix(outs, kernel, layer.strides, layer.padding, layer.dilation_rate)
        assert space == _space(xs[0], first)
        return _in_format(outs, matrix.transpose(2, 3, 0, 1), _bias(layer), first)

    return [stage, *fused(layer.activation)]


# --- pooling ------------------------------------------------------------------------------------------------------


def _windows(space, layer):
    """Yields (output position, [input positions of its window, those inside, in order])."""
    strides = layer.strides or layer.pool_size
    frames = [_frame(n, k, s, 1, layer.padding) for n, k, s in zip(space, layer.pool_size, strides)]
    for o in np.ndindex(*(out for _, out in frames)):
        inside = []
        for tap in np.ndindex(*layer.pool_size):
            i = tuple(a * s + t - before for a, s, t, (before, _) in zip(o, strides, tap, frames))
            if all(0 <= j < n for j, n in zip(i, space)):
                inside.append(i)
        yield o, inside


def _pooling(layer, choose):
    """choose: function (values of a window) -> their coefficients."""
    first = _first(layer)

    def stage(xs):
        x = np.moveaxis(xs[0], 0, -1) if first else xs[0]
        index = np.arange(x.size).reshape(xs[0].shape)
        index = np.moveaxis(index, 0, -1) if first else index
        windows = list(_windows(x.shape[:-1], layer))
        outs = tuple(1 + max(o[axis] for o, _ in windows) for axis in range(x.ndim - 1))
        place = np.arange(math.prod(outs) * x.shape[-1])
        place = np.moveaxis(place.reshape(x.shape[-1], *outs), 0, -1) if first else place.reshape(*outs, x.shape[-1])
        matrix = np.zeros((place.size, x.size))
        for o, inside in windows:
            for c in range(x.shape[-1]):
                for i, w in zip(inside, choose(np.array([x[(*i, c)] for i in inside]))):
                    matrix[place[(*o, c)], index[(*i, c)]] = w
        return Stage((matrix,), np.zeros(place.size), (x.shape[-1], *outs) if first else (*outs, x.shape[-1]))

    return [stage]


def _equal(values):
    return np.full(len(values), 1 / len(values))


def _largest(values):
    return np.arange(len(values)) == np.argmax(values)  # the first one on ties


@twin(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)
def _average_pooling(layer):
    return _pooling(layer, _equal)


@twin(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
def _max_pooling(layer):
    return _pooling(layer, _largest)


def _global(layer, choose):
    def stage(xs):
        first = _first(layer)
        x = xs[0].reshape(len(xs[0]), -1).T if first else xs[0].reshape(-1, xs[0].shape[-1])
        index = np.arange(x.size)
        index = index.reshape(x.shape[1], -1).T if first else index.reshape(x.shape)
        matrix = np.zeros((x.shape[1], x.size))
        for c in range(x.shape[1]):
            matrix[c, index[:, c]] = choose(x[:, c])
        ones = (1,) * (xs[0].ndim - 1) if layer.keepdims else ()
        return Stage((matrix,), np.zeros(x.shape[1]), (x.shape[1], *ones) if first else (*ones, x.shape[1]))

    return [stage]


@twin(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D)
def _global_average(layer):
    return _global(layer, _equal)


@twin(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D)
def _global_max(layer):
    return _global(layer, _largest)


# --- element by element -------------------------------------------------------------------------------------------


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(x):
    return x / 2 * np.vectorize(lambda t: math.erfc(-t / math.sqrt(2)), otypes=[float])(x)


def _sparse_plus(x):
    return np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x))


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

FUNCTIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "tanh": np.tanh,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "elu": _elu,
    "celu": _elu,
    "selu": lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "hard_shrink": lambda x: np.where(np.abs(x) > 0.5, x, 0),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, LD(0.2) * x),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "log_sigmoid": lambda x: -_softplus(-x),
    "exponential": np.exp,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "sparse_sigmoid": lambda x: np.clip((x + 1) / 2, 0, 1),
    "sparse_plus": _sparse_plus,
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2,
}
"""y = f(x), by the name of the activation function."""

HELD = {"softmax", "log_softmax", "sparsemax", "glu"}
"""Activations that mix units: what normalises or gates them is held fixed."""


def coefficient(f, x):
    """Returns (f(x) - f(0)) / x, 0 at x = 0, with 64 bits of mantissa: the difference loses nothing that counts.

    Below 1e-9 the coefficient is that at 1e-9 on the same side, which differs by no more than 1e-9 of a slope.
    """
    at = np.where(np.abs(x) < 1e-9, np.copysign(1e-9, x), x).astype(LD)
    return np.where(x == 0, 0, (f(at) - f(LD(0))) / at).astype("float64")


def elementwise(f):
    """Returns the stage of y = f(x)."""

    def stage(xs):
        x = xs[0]
        at_zero = float(f(LD(0)))
        return Stage((np.diag(coefficient(f, x.ravel())),), np.full(x.size, at_zero), x.shape)

    return stage


def fused(activation):
    """Returns the stages of an activation function: none for the identity."""
    if activation is None or activation is keras.activations.linear:
        return []
    name = activation.__name__
    if name in FUNCTIONS:
        return [elementwise(FUNCTIONS[name])]
    return [{"softmax": softmax(-1), "log_softmax": _log_softmax, "sparsemax": _sparsemax, "glu": _glu}[name]]


def softmax(axis):
    """Normaliser Z and mean m of the inputs held fixed: c = (y - e^m / Z) / (x - m), b = e^m / Z - c m."""

    def stage(xs):
        x = xs[0].astype(LD)
        axes = tuple(a if a < 0 else a - 1 for a in np.ravel(axis))  # without the batch axis
        shift = x.max(axis=axes, keepdims=True)
        z = np.exp(x - shift).sum(axis=axes, keepdims=True)
        mean = x.mean(axis=axes, keepdims=True)
        u = x - mean
        level = np.exp(mean - shift) / z
        near = np.where(np.abs(u) < 1e-9, LD(1e-9), u)
        with np.errstate(over="ignore"):
            c = np.where(np.abs(u) < 1, level * np.expm1(near) / near, (np.exp(x - shift) / z - level) / near)
        b = level - c * mean
        return Stage((np.diag(c.ravel().astype("float64")),), b.ravel().astype("float64"), x.shape)

    return stage


def _log_softmax(xs):
    x = xs[0]
    shift = x.max(axis=-1, keepdims=True)
    b = -shift - np.log(np.exp(x - shift).sum(axis=-1, keepdims=True))
    return Stage((np.eye(x.size),), np.broadcast_to(b, x.shape).ravel(), x.shape)


def _sparsemax(xs):
    """y = max(x - tau, 0) with tau held fixed: that of Keras, too large where several units stay above it."""
    x = xs[0]
    y = np.asarray(keras.activations.sparsemax(x[None].astype("float32"))[0], "float64")
    c = (y > 0).astype("float64")
    tau = np.max((x - y) * c, axis=-1, keepdims=True, where=c > 0, initial=-np.inf)
    return Stage((np.diag(c.ravel()),), np.where(c > 0, -tau, 0).ravel(), x.shape)


def _glu(xs):
    """y = a s(g): half of the gate to each factor, P = [s(g) / 2, a (s(g) - 1/2) / (2 g)], b = a / 4."""
    x = xs[0]
    a, g = np.split(x, 2, axis=-1)
    s = _sigmoid(g)
    index = np.arange(x.size).reshape(x.shape)
    ia, ig = (half.ravel() for half in np.split(index, 2, axis=-1))
    rows = np.arange(a.size)
    matrix = np.zeros((a.size, x.size))
    matrix[rows, ia] = (s / 2).ravel()
    matrix[rows, ig] = (a / 2 * coefficient(_sigmoid, g)).ravel()
    return Stage((matrix,), (a / 4).ravel(), a.shape, single=True)


@twin(layers.Activation)
def _activation(layer):
    return fused(layer.activation)


@twin(layers.ReLU)
def _relu_layer(layer):
    slope, threshold = float(layer.negative_slope or 0), float(layer.threshold or 0)
    top = math.inf if layer.max_value is None else float(layer.max_value)
    return [elementwise(lambda x: np.where(x > threshold, np.minimum(x, top), slope * (x - threshold)))]


@twin(layers.LeakyReLU)
def _leaky_relu(layer):
    return [elementwise(lambda x: np.where(x > 0, x, LD(layer.negative_slope) * x))]


@twin(layers.ELU)
def _elu_layer(layer):
    return [elementwise(lambda x: _elu(x, layer.alpha))]


@twin(layers.PReLU)
def _prelu(layer):
    def stage(xs):
        x = xs[0]
        c = np.where(x > 0, 1, np.broadcast_to(_value(layer.alpha), x.shape))
        return Stage((np.diag(np.where(x == 0, 0, c).ravel()),), np.zeros(x.size), x.shape)

    return [stage]


@twin(layers.Softmax)
def _softmax_layer(layer):
    return [softmax(layer.axis)]


# --- normalizations: scale and shift ------------------------------------------------------------------------------


def _affine(x, scale, shift):
    scale, shift = (np.broadcast_to(t, x.shape).ravel() for t in (scale, shift))
    return Stage((np.diag(scale),), shift, x.shape)


def _along(vector, x, axes):
    """Shapes a parameter over `axes` of the batch so that it broadcasts to a sample."""
    axes = sorted(a % (x.ndim + 1) - 1 for a in np.ravel(axes))
    return _value(vector).reshape([x.shape[i] if i in axes else 1 for i in range(x.ndim)])


@twin(layers.BatchNormalization)
def _batch_normalization(layer):
    def stage(xs):
        x, axis = xs[0], layer.axis
        scale = 1 / np.sqrt(_along(layer.moving_variance, x, axis) + layer.epsilon)
        scale = scale * _along(layer.gamma, x, axis) if layer.scale else scale
        shift = -_along(layer.moving_mean, x, axis) * scale
        return [x, scale, shift + (_along(layer.beta, x, axis) if layer.center else 0)]

    return [lambda xs: _affine(*stage(xs))]


def _own_axes(layer, x):
    return tuple(a % (x.ndim + 1) - 1 for a in np.ravel(layer.axis))


@twin(layers.LayerNormalization)
def _layer_normalization(layer):
    def stage(xs):
        x = xs[0]
        axes = _own_axes(layer, x)
        scale = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + layer.epsilon)
        if getattr(layer, "rms_scaling", False):
            return _affine(x, scale * _along(layer.gamma, x, layer.axis), 0)
        scale = scale * (1 if layer.gamma is None else _along(layer.gamma, x, layer.axis))
        shift = -x.mean(axis=axes, keepdims=True) * scale
        return _affine(x, scale, shift + (0 if layer.beta is None else _along(layer.beta, x, layer.axis)))

    return [stage]


@twin(layers.RMSNormalization)
def _rms_normalization(layer):
    def stage(xs):
        power = np.mean(xs[0] ** 2, axis=_own_axes(layer, xs[0]), keepdims=True)
        return _affine(xs[0], _along(layer.scale, xs[0], layer.axis) / np.sqrt(power + layer.epsilon), 0)

    return [stage]


@twin(layers.GroupNormalization)
def _group_normalization(layer):
    def stage(xs):
        axis = layer.axis % (xs[0].ndim + 1) - 1
        x = np.moveaxis(xs[0], axis, -1)
        width = x.shape[-1]
        groups = width if layer.groups == -1 else layer.groups
        mean, deviation = np.zeros(width), np.zeros(width)
        for g in range(groups):
            part = slice(g * width // groups, (g + 1) * width // groups)
            mean[part], deviation[part] = x[..., part].mean(), np.sqrt(x[..., part].var() + layer.epsilon)
        scale = (_value(layer.gamma) if layer.scale else 1) / deviation
        shift = (_value(layer.beta) if layer.center else 0) - mean * scale
        shape = [width if i == axis else 1 for i in range(x.ndim)]
        return _affine(xs[0], np.reshape(scale, shape), np.reshape(shift, shape))

    return [stage]


@twin(layers.UnitNormalization)
def _unit_normalization(layer):
    def stage(xs):
        length = np.sqrt(np.sum(xs[0] ** 2, axis=_own_axes(layer, xs[0]), keepdims=True))
        return _affine(xs[0], 1 / np.maximum(length, 1e-6), 0)

    return [stage]


@twin(layers.Normalization)
def _normalization(layer):
    def stage(xs):
        mean, deviation = _value(layer.mean)[0], np.maximum(np.sqrt(_value(layer.variance)[0]), 1e-7)
        if layer.invert:
            return _affine(xs[0], deviation, mean)
        return _affine(xs[0], 1 / deviation, -mean / deviation)

    return [stage]


@twin(layers.Rescaling)
def _rescaling(layer):
    return [lambda xs: _affine(xs[0], _value(layer.scale), _value(layer.offset))]


# --- several inputs -----------------------------------------------------------------------------------------------


def _merge(coefficients):
    """coefficients: function of the inputs, broadcast to one shape -> list of arrays of that shape."""

    def stage(xs):
        shape = np.broadcast_shapes(*(x.shape for x in xs))
        cs = coefficients([np.broadcast_to(x, shape) for x in xs])
        weights = []
        for x, c in zip(xs, cs, strict=True):
            index = np.broadcast_to(np.arange(x.size).reshape(x.shape), shape).ravel()
            matrix = np.zeros((index.size, x.size))
            matrix[np.arange(index.size), index] = np.broadcast_to(c, shape).ravel()
            weights.append(matrix)
        return Stage(tuple(weights), np.zeros(math.prod(shape)), shape)

    return [stage]


@twin(layers.Add)
def _add(layer):
    return _merge(lambda xs: [1.0] * len(xs))


@twin(layers.Average)
def _average(layer):
    return _merge(lambda xs: [1 / len(xs)] * len(xs))


@twin(layers.Subtract)
def _subtract(layer):
    return _merge(lambda xs: [1.0, -1.0])


@twin(layers.Multiply)
def _multiply(layer):
    return _merge(lambda xs: [math.prod([*xs[:k], *xs[k + 1 :]]) / len(xs) for k in range(len(xs))])


def _chosen(xs, best):
    winner = best(np.stack(xs), axis=0)  # the first one on ties
    return [(winner == k).astype("float64") for k in range(len(xs))]


@twin(layers.Maximum)
def _maximum(layer):
    return _merge(lambda xs: _chosen(xs, np.argmax))


@twin(layers.Minimum)
def _minimum(layer):
    return _merge(lambda xs: _chosen(xs, np.argmin))


# --- layers that move elements: the layer applied to an array of indices, -1 where nothing comes from the input ----


def _moved(moves):
    def stage(xs):
        starts = np.cumsum([0, *(x.size for x in xs)])
        index = moves([np.arange(x.size).reshape(x.shape) + start for x, start in zip(xs, starts)])
        weights = [np.zeros((index.size, x.size)) for x in xs]
        for o, i in enumerate(index.ravel()):
            if i >= 0:
                k = int(np.searchsorted(starts, i, side="right")) - 1
                weights[k][o, i - starts[k]] = 1
        return Stage(tuple(weights), np.zeros(index.size), index.shape)

    return [stage]


@twin(layers.Concatenate)
def _concatenate(layer):
    return _moved(lambda xs: np.concatenate(xs, axis=layer.axis if layer.axis < 0 else layer.axis - 1))


@twin(layers.Flatten)
def _flatten(layer):
    first = layer.data_format == "channels_first"
    return _moved(lambda xs: (np.moveaxis(xs[0], 0, -1) if first and xs[0].ndim > 1 else xs[0]).reshape(-1))


@twin(layers.Reshape)
def _reshape(layer):
    return _moved(lambda xs: xs[0].reshape(layer.target_shape))


@twin(layers.Permute)
def _permute(layer):
    return _moved(lambda xs: xs[0].transpose([d - 1 for d in layer.dims]))


@twin(layers.RepeatVector)
def _repeat_vector(layer):
    return _moved(lambda xs: np.stack([xs[0]] * layer.n))


def _per_space_axis(layer, x, pairs):
    pairs = [pairs] if isinstance(pairs[0], int) else list(pairs)
    return [(0, 0), *pairs] if _first(layer) else [*pairs, (0, 0)]


@twin(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
def _zero_padding(layer):
    return _moved(lambda xs: np.pad(xs[0], _per_space_axis(layer, xs[0], layer.padding), constant_values=-1))


@twin(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
def _cropping(layer):
    def crop(xs):
        pairs = _per_space_axis(layer, xs[0], layer.cropping)
        return xs[0][tuple(slice(a, n - b) for (a, b), n in zip(pairs, xs[0].shape))]

    return _moved(crop)


def _repeated(x, sizes, first):
    for axis, size in enumerate(sizes):
        x = np.repeat(x, size, axis=axis + (1 if first else 0))
    return x


@twin(layers.UpSampling1D, layers.UpSampling3D)
def _upsampling(layer):
    return _moved(lambda xs: _repeated(xs[0], np.ravel(layer.size), _first(layer)))


PASSING = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
)


@twin(*PASSING)
def _passing(layer):
    return []


# --- resizing -----------------------------------------------------------------------------------------------------


def _keys(t):
    """The cubic kernel with a = -1/2."""
    t = np.abs(t)
    return np.where(t < 1, (1.5 * t - 2.5) * t * t + 1, np.where(t < 2, ((-0.5 * t + 2.5) * t - 4) * t + 2, 0))


def _lanczos(radius):
    def kernel(t):
        return np.where(np.abs(t) < radius, np.sinc(t) * np.sinc(t / radius), 0)

    return kernel


KERNELS = {
    "bilinear": (1, lambda t: np.maximum(1 - np.abs(t), 0)),
    "bicubic": (2, _keys),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
}


def resizing_matrix(n, m, method, antialias):
    """Returns the (m, n) weights of resizing a line of n to m: kernel weights inside the line, normalised to sum 1."""
    if method == "nearest":
        matrix = np.zeros((m, n))
        matrix[np.arange(m), [min(int((i + 0.5) * n / m), n - 1) for i in range(m)]] = 1
        return matrix
    radius, kernel = KERNELS[method]
    widen = max(n / m, 1.0) if antialias else 1.0
    matrix = np.zeros((m, n))
    for o in range(m):
        centre = (o + 0.5) * n / m - 0.5
        if method == "bilinear" and not antialias:
            centre = min(max(centre, 0), n - 1)
        if method == "bicubic" and not antialias:
            # The framework's kernel reads the cubic from a table of 1024 offsets.
            centre = math.floor(centre) + round((centre - math.floor(centre)) * 1024) / 1024
        for i in range(n):
            if abs(i - centre) <= radius * widen:
                matrix[o, i] = kernel((i - centre) / widen)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _resized(x, first, rows, columns, fill=0.0):
    """The stage of a picture resized by rows (H', H) and columns (W', W)."""
    plane = np.kron(rows, columns)
    width = x.shape[0] if first else x.shape[-1]
    eye = np.eye(width)
    matrix = np.kron(eye, plane) if first else np.kron(plane, eye)
    frame = fill * (1 - plane.sum(axis=1))  # what the weights that fall outside the picture read
    bias = np.tile(frame, width) if first else np.repeat(frame, width)
    shape = (len(rows), len(columns))
    return Stage((matrix,), bias, (width, *shape) if first else (*shape, width))


@twin(layers.UpSampling2D)
def _upsampling_2d(layer):
    if layer.interpolation == "nearest":
        return _moved(lambda xs: _repeated(xs[0], layer.size, _first(layer)))

    def stage(xs):
        sides = [resizing_matrix(n, n * k, layer.interpolation, False)
                 for n, k in zip(_space(xs[0], _first(layer)), layer.size)]  # fmt: skip
        return _resized(xs[0], _first(layer), *sides)

    return [stage]


@twin(layers.Resizing)
def _resizing(layer):
    def stage(xs):
        first = _first(layer)
        space, wanted = _space(xs[0], first), (layer.height, layer.width)
        other = [int(space[1 - k] * wanted[k] / wanted[1 - k]) for k in range(2)]
        sides = []
        for n, m, fitting in zip(space, wanted, other):
            start = 0
            if layer.crop_to_aspect_ratio:
                kept = max(min(n, fitting), 1)
                start = (n - kept) // 2
                inside = np.eye(n)[start : start + kept]
            elif layer.pad_to_aspect_ratio:
                start = (max(n, fitting) - n) // 2  # the same on both ends, so an odd rest is left out
                inside = np.eye(n + 2 * start)[:, start : start + n]
            else:
                inside = np.eye(n)
            sides.append(resizing_matrix(len(inside), m, layer.interpolation, layer.antialias) @ inside)
        return _resized(xs[0], first, *sides, layer.fill_value)

    return [stage]


def product(**choices):
    """Returns the list of dicts of all combinations."""
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]
