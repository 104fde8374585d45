"""The module that opt_einsum executes through: `einsum`, `tensordot` and `transpose` over operands and blocks.

Two kinds of tensor meet here. An `Operand` has legs (channel, batch, out, in) and is never formed; a `Block` has
legs (channel, batch, row, unit). Their contraction is a native pull or push.
"""

from pane_keras.block import Block


def einsum(equation, *tensors):
    """Contracts two tensors as `equation` says; see the module's docstring."""
    terms, result = equation.split("->")
    (block, _), (operand, legs) = sorted(
        zip(tensors, terms.split(",")), key=lambda pair: not isinstance(pair[0], Block)
    )
    return operand.push(block) if legs[2] in result else operand.pull(block)


def transpose(tensor, axes):
    """Returns the tensor: its legs have names, and their order is fixed."""
    del axes
    return tensor


def tensordot(a, b, axes):
    """Never called: the channel and the batch are in every result, which a tensordot cannot express."""
    raise NotImplementedError("operands contract through einsum only")
