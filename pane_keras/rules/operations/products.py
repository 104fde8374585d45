"""Products of two tensors: of a live one and a constant, a linear map; of two live ones, half of each."""

from keras import ops

from pane_keras import backend, pieces
from pane_keras.arguments import values_of
from pane_keras.errors import UnsupportedLayerError
from pane_keras.record import Slot
from pane_keras.registry import register_as


@register_as("Matmul", "Dot", "Tensordot")
def matmul(operation, arguments):
    """y = x1 x2."""
    return product_piece(operation.call, [arguments.get("x1"), arguments.get("x2")], "product")


@register_as("Einsum")
def einsum(operation, arguments):
    """y = einsum(subscripts, x1, x2), or a rearrangement and sum of one tensor."""
    operands = list(arguments.get("operands"))
    if len(operands) == 1:
        return pieces.nonnegative(arguments.function(), kind="einsum")
    if len(operands) > 2:
        raise UnsupportedLayerError(
            f"The operation {operation.name!r} is an einsum of {len(operands)} tensors. Write it as einsums of two."
        )
    return product_piece(operation.call, operands, "einsum")


@register_as("Conv", "DepthwiseConv", "ConvTranspose")
def convolution(operation, arguments):
    """The convolution of x with a constant kernel."""
    operands = [arguments.get("inputs"), arguments.get("kernel")]
    if isinstance(operands[1], Slot) and not operands[1].held:
        raise UnsupportedLayerError(
            f"The operation {operation.name!r} convolves with a kernel that the model computes, which has no rule."
        )
    return product_piece(operation.call, operands, "convolution")


def product_piece(function, operands, kind):
    """Returns the piece of a product that is linear in each of two operands.

    With one of them constant, its values are the coefficients of the other. Of two live ones each term a b counts half
    for a and half for b, as the factors of a gate do.

    Args:
        function: Function of both.
        operands: Two slots or constants.
        kind: Word for people.
    """
    live = [isinstance(operand, Slot) and not operand.held for operand in operands]
    if all(live):
        a, b = (operand.value for operand in operands)
        parts = [(function, None, b / 2), (lambda x, kernel: function(kernel, x), None, a / 2)]
        return pieces.signed_sum(function, parts, per_sample=True, kind=kind)
    x = operands[live.index(True)].value
    constant = ops.cast(ops.convert_to_tensor(backend.snapshot(values_of(operands[live.index(False)]))), x.dtype)
    forward = function if live[0] else lambda x, kernel: function(kernel, x)
    if not _one_a_sample(operands[live.index(False)], constant, x):
        return pieces.linear(forward, constant, kind=kind)
    return pieces.signed_sum(lambda x: forward(x, constant), [(forward, None, constant)], per_sample=True, kind=kind)


def _one_a_sample(operand, constant, x):
    """Whether a constant has a matrix for each sample: what the model computes has, unless it is the same for all."""
    return isinstance(operand, Slot) and len(constant.shape) > 2 and constant.shape[0] == x.shape[0]
