"""Windows of a layer's space, and how far a convolution or a pooling reaches from one (channels last)."""

from typing import NamedTuple

import numpy as np
from keras import ops


class Window(NamedTuple):
    """A box of positions: first and past-the-last index along each axis of space."""

    start: tuple
    stop: tuple

    @property
    def sizes(self):
        """Number of positions along each axis."""
        return tuple(b - a for a, b in zip(*self))

    @property
    def slices(self):
        """What selects the positions from an array (*space, ...)."""
        return tuple(slice(a, b) for a, b in zip(*self))

    def covers(self, space):
        """Returns whether all of a space lies inside."""
        return self == Window((0,) * len(space), tuple(space))

    def cut(self, t):
        """Returns the part of a tensor (n, *space, channels) that lies inside."""
        return t[(slice(None), *self.slices)]

    def placed(self, t, space):
        """Returns a tensor (n, *sizes, channels) with zeros around it, (n, *space, channels)."""
        around = [(a, size - b) for a, b, size in zip(*self, space)]
        return ops.pad(t, [(0, 0), *around, (0, 0)])


class Stencil(NamedTuple):
    """Which inputs an output depends on: `stride * output - left + dilation * tap`, along each axis of space."""

    strides: tuple
    taps: tuple
    dilation: tuple
    left: tuple

    def reached(self, window, space):
        """Returns (window of the input, padding): what a window of the output depends on, and what lies outside.

        Args:
            window: `Window` of the output.
            space: Sizes of the input.
        """
        first = [s * a - left for s, a, left in zip(self.strides, window.start, self.left)]
        reach = zip(self.strides, window.stop, self.left, self.dilation, self.taps)
        last = [s * (b - 1) - left + d * (k - 1) + 1 for s, b, left, d, k in reach]
        inside = Window(
            tuple(min(max(a, 0), size) for a, size in zip(first, space)),
            tuple(max(min(b, size), 0) for b, size in zip(last, space)),
        )
        return inside, [(i - a, b - j) for a, b, i, j in zip(first, last, *inside)]


def stencil(layer_space, out_space, taps, strides, dilation, padding):
    """Returns the `Stencil` of a convolution or pooling.

    Args:
        layer_space, out_space: Sizes of the input and of the output.
        taps, strides, dilation: One entry an axis.
        padding: "valid", "same" or "causal".
    """

    def left(n, m, k, s, d):
        if padding == "causal":
            return d * (k - 1)
        return max((m - 1) * s + d * (k - 1) + 1 - n, 0) // 2 if padding == "same" else 0

    offsets = tuple(left(*axis) for axis in zip(layer_space, out_space, taps, strides, dilation))
    return Stencil(tuple(strides), tuple(taps), tuple(dilation), offsets)


def window_of(units, shape):
    """Returns the smallest `Window` that holds some flat units of a sample (*space, channels); None for all of it.

    Args:
        units: Array of flat indices.
        shape: Shape of a sample, with ints where it is known.
    """
    space = tuple(shape[:-1])
    if not space or None in shape:
        return None
    positions = np.unravel_index(np.asarray(units), shape)[:-1]
    window = Window(tuple(int(p.min()) for p in positions), tuple(int(p.max()) + 1 for p in positions))
    return None if window.covers(space) else window
