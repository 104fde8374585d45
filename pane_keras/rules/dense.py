"""Dense layers: o' = x W, o = f(o' + b)."""

import math

import keras
import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.errors import UnsupportedLayerError
from pane_keras.factors import dense_factors
from pane_keras.pieces import linear, sequence
from pane_keras.registry import activation_piece, register


@register(keras.layers.Dense)
def dense(layer, inputs):
    """o'_j = sum_i x_i W_ij."""
    refuse_quantized(layer)
    kernel = backend.snapshot(layer.kernel)
    return sequence(
        linear(
            ops.matmul,
            kernel,
            layer_bias(layer),
            transpose=_transposed_matmul,
            kind="dense",
            elementary=dense_factors,
            rescale=ops.multiply,
            pick=_pick if inputs is None or len(inputs.shape) == 2 else None,
        ),
        activation_piece(layer.activation, layer.name),
    )


@register(keras.layers.EinsumDense)
def einsum_dense(layer, inputs):
    """o' = einsum(equation, x, W)."""
    refuse_quantized(layer)
    equation = layer.equation
    kernel = backend.snapshot(layer.kernel)
    return sequence(
        linear(
            lambda x, kernel: ops.einsum(equation, x, kernel),
            kernel,
            layer_bias(layer),
            kind="einsum dense",
            taps=_summed(equation, kernel),
        ),
        activation_piece(layer.activation, layer.name),
    )


def _summed(equation, kernel):
    """Multiply-adds for each output: the axes of the kernel that the output lacks."""
    inputs, output = equation.replace(" ", "").split("->")
    letters = inputs.split(",")[1].replace("...", "")
    return math.prod(size for letter, size in zip(letters, kernel.shape) if letter not in output)


def layer_bias(layer):
    """Returns the layer's bias as a tensor, or None."""
    return None if layer.bias is None else backend.snapshot(layer.bias)


def refuse_quantized(layer):
    """Raises where the kernel is stored as integers, whose product is rounded on the way."""
    if getattr(layer, "quantization_mode", None):
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} is quantized ({layer.quantization_mode}), so it rounds and is not linear at a "
            "sample. Wrap the model before it is quantized."
        )


def _pick(kernel, units, pull):
    if not pull:
        return ops.take(kernel, units, axis=0)
    return ops.transpose(_columns(kernel, units))


def _columns(kernel, units):
    """Columns of a matrix; side by side, as blocks of a dense pair ask for them, a slice is several times faster."""
    numbers = None if backend.is_symbolic(units) else np.asarray(units)
    if numbers is None or not (np.diff(numbers) == 1).all():
        return ops.take(kernel, units, axis=1)
    return kernel[:, numbers[0] : numbers[-1] + 1]


def _transposed_matmul(rows, kernel, shape):
    del shape
    return backend.multiply_transposed(rows, kernel)
