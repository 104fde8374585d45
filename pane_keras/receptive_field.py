"""Rows of a few units are swept through their receptive field only: the rest of every layer would be zeros."""

from dataclasses import dataclass

from pane_keras.linear_operand import LinearOperand
from pane_keras.single_operand import SingleOperand
from pane_keras.windows import Window


def narrowed(block, operands, window):
    """Returns (block, operands) restricted to what a window of the target can reach, as far down as that is known.

    Args:
        block: Rows on the target leg that are zero outside the window.
        operands: Of a chain, from the source to the target.
        window: `Window` of the target's space.
    """
    below, within, reached = list(operands), [], window
    while below and not reached.covers(below[-1].out_shape[:-1]):
        found = below[-1].within(reached)
        if found is None:
            break
        operand, reached = found
        within.insert(0, operand)
        below.pop()
    # A window around nothing but signs and masks would cost more than it spares.
    if not any(isinstance(operand, LinearOperand) for operand in within):
        return block, operands
    full = operands[len(below)].x
    if not reached.covers(full.shape[1:-1]):
        name, kind = within[0].name, "receptive field"
        below.append(WindowOperand(name=name, kind=kind, x=full, out=within[0].x, window=reached))
    cut = block.each(lambda t: t.grown(window.cut(t.mantissa), 0))
    return cut, (*below, *within)


@dataclass(frozen=True, kw_only=True)
class WindowOperand(SingleOperand):
    """y = the part of x inside a window; pulled, rows get zeros around them."""

    window: Window
    masks_sum: bool = False
    masks_difference: bool = False

    def factors(self, difference=False):
        """Never shown: a part of a sweep."""
        raise NotImplementedError("a window is part of a sweep, not of the network")

    def _puller(self):
        return lambda t, rows: self.window.placed(t, self.in_shape[:-1])

    def _pusher(self):
        return lambda t, rows: self.window.cut(t)
