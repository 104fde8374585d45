"""Functions of one tensor, element by element: the coefficient (f(x) - f(0)) / x, written so that nothing cancels."""

import math

from keras import activations, ops

from pane_keras import pieces
from pane_keras.pieces import elementwise
from pane_keras.registry import TRANSPARENT, activation_piece, register_as
from pane_keras.rules.activations import glu_piece, quotient, ratio, relu_layer, squareplus_piece, through_zero
from pane_keras.rules.operations.arithmetic import pole
from pane_keras.rules.operations.samples import refuse_axis
from pane_keras.rules.softmax import log_softmax_piece, softmax_piece, sparsemax_piece

# Operations without settings that are activation functions, which have a rule as such.
_ACTIVATIONS = {
    "Relu": activations.relu,
    "Relu6": activations.relu6,
    "Selu": activations.selu,
    "Sigmoid": activations.sigmoid,
    "Softplus": activations.softplus,
    "LogSigmoid": activations.log_sigmoid,
    "HardSigmoid": activations.hard_sigmoid,
    "SparseSigmoid": activations.sparse_sigmoid,
    "SparsePlus": activations.sparse_plus,
    "Exp": activations.exponential,
    "Tanh": activations.tanh,
}

# f(0) = 0 and a slope of the order of 1.
_BOUNDED = ("Absolute", "Arcsinh", "Arctan", "Celu", "Elu", "Erf", "Fabs", "Gelu", "HardShrink", "HardSilu", "HardTanh",
            "LeakyRelu", "Silu", "Sin", "SoftShrink", "Softsign", "TanhShrink")  # fmt: skip

# f(0) = 0.
_UNBOUNDED = ("Arcsin", "Arctanh", "Cbrt", "Ceil", "Deg2rad", "Erfinv", "Expm1", "Floor", "Log1p", "Rad2deg", "Round",
              "Sign", "Sinh", "Sqrt", "Square", "Tan", "Trunc")  # fmt: skip

# f(0) is not finite.
_POLES = ("Arccosh", "Log", "Log10", "Log2", "Reciprocal", "Rsqrt")

# (f(0), f(x) - f(0)).
_OFFSETS = {
    "Arccos": (math.pi / 2, lambda x: -ops.arcsin(x)),
    "Cos": (1, lambda x: -2 * ops.square(ops.sin(x / 2))),
    "Cosh": (1, lambda x: 2 * ops.square(ops.sinh(x / 2))),
    "Erfc": (1, lambda x: -ops.erf(x)),
    "Exp2": (1, lambda x: ops.expm1(x * math.log(2))),
}


@register_as(*_ACTIVATIONS)
def activation(operation, arguments):
    """An activation function."""
    return activation_piece(_ACTIVATIONS[type(operation).__name__], operation.name)


@register_as(*_BOUNDED)
def bounded(operation, arguments):
    """f(0) = 0: c = f(x) / x."""
    return through_zero(arguments.function())


@register_as(*_UNBOUNDED)
def unbounded(operation, arguments):
    """f(0) = 0: c = f(x) / x, which may be large."""
    return elementwise(arguments.function(), ratio, masked=True, kind=operation.name)


@register_as(*_POLES)
def pole_at_zero(operation, arguments):
    """f(0) is not finite: c = f(x) / x."""
    return pole(arguments.function())


@register_as(*_OFFSETS)
def offset(operation, arguments):
    """f(0) is a bias: c = (f(x) - f(0)) / x."""
    at_zero, difference = _OFFSETS[type(operation).__name__]
    return elementwise(
        arguments.function(),
        lambda x, y: quotient(difference(x), x, 0),
        bias=lambda x, y: ops.full_like(x, at_zero),
        kind=operation.name,
    )


@register_as("ReLU")
def relu(operation, arguments):
    """max(x, 0), or its capped, leaky and thresholded forms: the class behind `keras.activations.relu`."""
    return relu_layer(operation, None)


@register_as("Squareplus")
def squareplus(operation, arguments):
    """f(x) = (x + sqrt(x^2 + b)) / 2."""
    return squareplus_piece(arguments.function(), operation.b)


@register_as("Glu")
def glu(operation, arguments):
    """y = a sigmoid(g) for the halves (a, g) of x: a gate of two factors."""
    refuse_axis(operation, operation.axis, len(arguments.live[0].value.shape))
    return glu_piece(operation.axis)


@register_as("Sparsemax")
def sparsemax(operation, arguments):
    """The threshold is held fixed."""
    refuse_axis(operation, operation.axis, len(arguments.live[0].value.shape))
    return sparsemax_piece(arguments.function(), axis=operation.axis)


@register_as("Clip")
def clip(operation, arguments):
    """f(x) = x between two bounds: c = (f(x) - f(0)) / x, and f(0) is a bias."""
    return _from_zero(arguments.function(), "clip")


@register_as("Threshold")
def threshold(operation, arguments):
    """f(x) = x above a threshold and a constant below: c = (f(x) - f(0)) / x, and f(0) is a bias."""
    return _from_zero(arguments.function(), "threshold")


def _from_zero(function, kind):
    return elementwise(
        function,
        lambda x, y: quotient(y - function(ops.zeros_like(x)), x, 0),
        bias=lambda x, y: function(ops.zeros_like(x)),
        bounded=True,
        kind=kind,
    )


@register_as("Softmax")
def softmax(operation, arguments):
    """The normaliser is held fixed; as the last layer it is left out of the maps."""
    refuse_axis(operation, operation.axis, len(arguments.live[0].value.shape))
    return softmax_piece(arguments.function(), axis=operation.axis)


@register_as("LogSoftmax")
def log_softmax(operation, arguments):
    """The normaliser is held fixed: c = 1."""
    refuse_axis(operation, operation.axis, len(arguments.live[0].value.shape))
    return log_softmax_piece(arguments.function(), axis=operation.axis)


@register_as("Normalize")
def normalize(operation, arguments):
    """The sample's own length over `axis`, held fixed."""
    refuse_axis(operation, operation.axis, len(arguments.live[0].value.shape))
    function = arguments.function()
    return elementwise(function, ratio, masked=True, kind="normalization")


@register_as("Copy", "StopGradient", "NanToNum", group=TRANSPARENT)
def passing(operation, arguments):
    """y = x."""
    return pieces.identity
