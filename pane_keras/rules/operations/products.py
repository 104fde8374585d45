"""Products of two tensors: of a live one and a constant, a linear map; of two live ones, half of each."""

from keras import ops

from pane_keras import backend, pieces
from pane_keras.arguments import is_live, values_of
from pane_keras.errors import UnsupportedLayerError
from pane_keras.record import Slot
from pane_keras.registry import register_as
from pane_keras.rules.operations.samples import refuse, refuse_axis


@register_as("Matmul")
def matmul(operation, arguments):
    """y = x1 x2, matrix by matrix."""
    operands = [arguments.get("x1"), arguments.get("x2")]
    ranks = [len(_shape(operand)) for operand in operands]
    live = list(map(is_live, operands))
    if all(live) and (ranks[0] != ranks[1] or ranks[0] < 3):
        refuse(operation)
    if not all(live):
        at = live.index(True)
        _refuse_constant(operation, operands[1 - at], operands[at], first=at == 1)
    return product_piece(operation.call, operands, "product", _one_a_sample(operands))


@register_as("Dot")
def dot(operation, arguments):
    """y = x1 x2 over the last axis of x1, with x2 a constant vector or matrix."""
    operands = [arguments.get("x1"), arguments.get("x2")]
    if not is_live(operands[0]) or isinstance(operands[1], Slot) or len(_shape(operands[1])) > 2:
        refuse(operation)
    return product_piece(operation.call, operands, "product")


@register_as("Tensordot")
def tensordot(operation, arguments):
    """y = x1 x2 over axes of x1 behind the batch axis, with x2 a constant."""
    operands = [arguments.get("x1"), arguments.get("x2")]
    rank = len(_shape(operands[0]))
    axes = operation.axes
    summed = range(rank - axes, rank) if isinstance(axes, int) else axes[0]
    if not is_live(operands[0]) or isinstance(operands[1], Slot):
        refuse(operation)
    refuse_axis(operation, summed, rank)
    return product_piece(operation.call, operands, "product")


@register_as("Einsum")
def einsum(operation, arguments):
    """y = einsum(subscripts, x1, x2), or a rearrangement and sum of one tensor."""
    operands = list(arguments.get("operands"))
    terms = _terms(operation, operands)
    if len(operands) == 1:
        return pieces.nonnegative(arguments.function(), kind="einsum")
    if len(operands) > 2:
        raise UnsupportedLayerError(
            f"The operation {operation.name!r} is an einsum of {len(operands)} tensors. Write it as einsums of two."
        )
    held = [term for term, operand in zip(terms, operands) if isinstance(operand, Slot) and not is_live(operand)]
    return product_piece(operation.call, operands, "einsum", bool(held))


def _terms(operation, operands):
    """Returns the subscripts of the operands; the batch has to be the first axis of every tensor of the model."""
    inputs, _, output = operation.subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    batch = "..." if output.startswith("...") else output[:1]
    tensors = [term for term, operand in zip(terms, operands) if isinstance(operand, Slot)]
    constants = [term for term, operand in zip(terms, operands) if not isinstance(operand, Slot)]
    if not batch or not all(term.startswith(batch) for term in tensors) or any(batch in term for term in constants):
        refuse(operation)
    return terms


@register_as("Conv", "DepthwiseConv", "ConvTranspose")
def convolution(operation, arguments):
    """The convolution of x with a constant kernel."""
    operands = [arguments.get("inputs"), arguments.get("kernel")]
    if isinstance(operands[1], Slot) and not operands[1].held:
        raise UnsupportedLayerError(
            f"The operation {operation.name!r} convolves with a kernel that the model computes, which has no rule."
        )
    return product_piece(operation.call, operands, "convolution")


def product_piece(function, operands, kind, per_sample=False):
    """Returns the piece of a product that is linear in each of two operands.

    With one of them constant, its values are the coefficients of the other. Of two live ones each term a b counts half
    for a and half for b, as the factors of a gate do.

    Args:
        function: Function of both.
        operands: Two slots or constants.
        kind: Word for people.
        per_sample: Whether the constant has a matrix for each sample.
    """
    live = list(map(is_live, operands))
    if all(live):
        a, b = (operand.value for operand in operands)
        parts = [(function, None, b / 2), (lambda x, kernel: function(kernel, x), None, a / 2)]
        return pieces.signed_sum(function, parts, per_sample=True, kind=kind)
    x = operands[live.index(True)].value
    constant = ops.cast(ops.convert_to_tensor(backend.snapshot(values_of(operands[live.index(False)]))), x.dtype)
    forward = function if live[0] else lambda x, kernel: function(kernel, x)
    if not per_sample:
        return pieces.linear(forward, constant, kind=kind)
    return pieces.signed_sum(lambda x: forward(x, constant), [(forward, None, constant)], per_sample=True, kind=kind)


def _shape(operand):
    return tuple(ops.shape(values_of(operand)))


def _one_a_sample(operands):
    """Whether the constant of a matrix product has a matrix for each sample, rather than one for all of them."""
    x, other = sorted(operands, key=is_live, reverse=True)
    return isinstance(other, Slot) and other.value.shape[0] == x.value.shape[0]


def _refuse_constant(operation, constant, x, first):
    """A constant matrix, or one matrix for each sample that the model holds, but nothing that meets the batch axis."""
    shape, rank = _shape(constant), len(_shape(x))
    shared = len(shape) < 3 or shape[0] == 1
    fits = len(shape) == rank and isinstance(constant, Slot)
    if len(shape) > rank or (first and rank < 3) or not (shared or fits):
        refuse(operation)
    if isinstance(constant, Slot) and len(shape) < 3:
        refuse(operation)
