"""Rows of a few units are swept through their receptive field only: the rest of every layer would be zeros."""

import math
from dataclasses import dataclass

from pane_keras.linear_operand import LinearOperand
from pane_keras.silent_channels import without_silent_channels
from pane_keras.single_operand import SingleOperand
from pane_keras.windows import Window


def narrowed(block, operands, window, placed=True):
    """Returns (block, operands) restricted to what a window of the target can reach, as far down as that is known.

    Args:
        block: Rows on the target leg that are zero outside the window.
        operands: Of a chain, from the source to the target.
        window: `Window` of the target's space.
        placed: Whether rows get the zeros around them back at the end; else they come as they are in `landing`.
    """
    below, steps = reached(operands, window)
    if not steps:
        return block, operands
    within, inner = [operand.within(outer) for operand, outer, _ in reversed(steps)], steps[-1][2]
    within = without_silent_channels(within, math.prod(block.shape[1:3]))
    full = operands[len(below)].x
    if placed and not inner.covers(full.shape[1:-1]):
        name, kind = within[0].name, "receptive field"
        below.append(WindowOperand(name=name, kind=kind, x=full, out=within[0].x, window=inner))
    cut = block.each(lambda t: t.grown(window.cut(t.mantissa), 0))
    return cut, (*below, *within)


def landing(operands, window):
    """Returns the window of the source of a chain that a window of its target reaches, or None for all of it.

    Args:
        operands: Of a chain, from the source to the target.
        window: `Window` of the target's space.
    """
    below, steps = reached(operands, window)
    if below or not steps or steps[-1][2].covers(operands[0].in_shape[:-1]):
        return None
    return steps[-1][2]


def reached(operands, window):
    """Returns (the operands below, steps): what a window of the target can reach, as far down as that is known.

    Args:
        operands: Of a chain, from the source to the target.
        window: `Window` of the target's space.

    Returns:
        A list of the operands that are swept as a whole, and from the target down (operand, window of its output,
        window of its input).
    """
    below, steps = list(operands), []
    while below and not window.covers(below[-1].out_shape[:-1]):
        inner = below[-1].reach(window)
        if inner is None:
            break
        steps.append((below.pop(), window, inner))
        window = inner
    # A window around nothing but signs and masks would cost more than it spares.
    narrow = any(isinstance(operand, LinearOperand) for operand, *_ in steps)
    return (below, steps) if narrow else (list(operands), [])


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
