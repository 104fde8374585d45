"""Operations whose output no coefficient leads to: comparisons, indices, and casts to whole numbers."""

from dataclasses import replace

import keras
from keras import ops

from pane_keras import pieces
from pane_keras.emission import floating
from pane_keras.registry import register_as

_HELD = ("All", "Any", "Argmax", "Argmin", "Argsort", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
         "CountNonzero", "Digitize", "Equal", "FloorDivide", "FullLike", "Greater", "GreaterEqual", "InTopK", "Isclose",
         "Isfinite", "IsIn", "Isinf", "Isnan", "Less", "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr",
         "LogicalXor", "NotEqual", "OnesLike", "SearchSorted", "Signbit", "ZerosLike")  # fmt: skip


@register_as(*_HELD, whole=True, holds=True)
def held(operation, arguments):
    """Piecewise constant: nothing excites it, and it is a constant for whatever it multiplies."""
    return pieces.held(arguments.function())


@register_as("OneHot", "MultiHot", whole=True)
def one_hot(operation, arguments):
    """A category as a vector, which excitations start from."""
    return pieces.source(arguments.function())


@register_as("Cast", "SaturateCast", "ConvertToTensor", whole=True)
def cast(operation, arguments):
    """Floats stay floats of the trace's own dtype; a float as a whole number is piecewise constant, so held."""
    (slot,) = arguments.live
    if operation.dtype is None or keras.backend.is_float_dtype(keras.backend.standardize_dtype(operation.dtype)):
        return lambda record, _: floating(slot, record)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(slot.value.dtype)):
        return pieces.held(arguments.function())
    return lambda record, _: replace(slot, lazy=ops.cast(slot.value, operation.dtype))
