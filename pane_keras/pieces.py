"""Ready-made pieces that a rule returns: each runs a stage of a layer once and records its excitation.

A piece is a function of a `Record` and of the slots it reads, and returns the slot it wrote. The law of each piece
stands in its docstring.
"""

from pane_keras.composite import graph, layers
from pane_keras.linear_pieces import linear, nonnegative, nonnegative_sum, signed_sum
from pane_keras.single_pieces import affine, choice, elementwise, gate, held, rectifier, selection, source

__all__ = ["affine", "choice", "elementwise", "gate", "graph", "held", "identity", "layers", "linear", "nonnegative",
           "nonnegative_sum", "rectifier", "selection", "sequence", "signed_sum", "source"]  # fmt: skip


def sequence(*pieces):
    """Returns the piece that runs `pieces` one after the other; None stands for nothing to do."""

    def run(record, *slots):
        for piece in filter(None, pieces):
            slots = (piece(record, *slots),)
        return slots[0]

    return run


def identity(record, slot):
    """The layer that changes nothing at inference: y = x, without a stage of its own."""
    del record
    return slot
