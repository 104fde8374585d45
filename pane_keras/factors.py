"""Elementary tensors with named axes: what an operand is made of, for people and for tests.

Axes are words. A sample of the input has the axes `in0 in1 ...`, a sample of the output `out0 out1 ...`, the batch is
`b`, and anything else (`k0`, `m`) is summed inside the operand. Multiplying the factors and summing over the other
words gives the dense operand; the native kernels never do that.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Factor(NamedTuple):
    """One elementary tensor.

    Attributes:
        name: For people.
        axes: Its axes as words.
        make: Function without arguments that returns its values as a NumPy array; naming a factor computes nothing.
    """

    name: str
    axes: tuple
    make: Callable

    @property
    def values(self):
        """The NumPy array."""
        return self.make()

    def __str__(self):
        return f"{self.name}({' '.join(self.axes)})"


def axes_of(word, rank):
    """Returns the names of the axes of a sample: ("in0", "in1", ...)."""
    return tuple(f"{word}{k}" for k in range(rank))


def kronecker(k, j, size):
    """Returns the identity between the output's axis k and the input's axis j."""
    return Factor("delta", (f"out{k}", f"in{j}"), lambda: np.eye(size))


def spread(k, j, out_shape):
    """Returns the ones between the output's axis k and the input's axis j of size 1, which was broadcast to it."""
    return Factor("broadcast", (f"out{k}", f"in{j}"), lambda: np.ones((out_shape[k], 1)))


def dense_factors(kernel, in_shape, out_shape):
    """Returns the kernel, which works on the last axis, and identities for the axes before it.

    Args:
        kernel: Function without arguments that returns the kernel (in, out).
        in_shape, out_shape: Shapes of a sample.
    """
    last = len(in_shape) - 1
    before = [kronecker(k, k, size) for k, size in enumerate(in_shape[:-1])]
    return [Factor("kernel", (f"in{last}", f"out{last}"), lambda: np.asarray(kernel())), *before]


def convolution_factors(kernel, in_shape, out_shape, geometry):
    """Returns the kernel and one window pattern a spatial axis; arguments as in `dense_factors`."""
    space, channel = _axes(geometry)
    words = (*(f"k{a}" for a in space), f"in{channel}", f"out{channel}")
    full = Factor("kernel", words, lambda: _ungrouped(np.asarray(kernel()), geometry.groups))
    return [full, *_windows(kernel, in_shape, out_shape, geometry)]


def depthwise_factors(kernel, in_shape, out_shape, geometry):
    """Returns the kernel, the window patterns, and which output channel is which multiple of an input channel."""
    space, channel = _axes(geometry)
    channels, size = in_shape[channel], out_shape[channel]
    return [
        Factor("kernel", (*(f"k{a}" for a in space), f"in{channel}", "m"), lambda: np.asarray(kernel())),
        Factor("multiples", (f"out{channel}", f"in{channel}", "m"), lambda: np.eye(size).reshape(size, channels, -1)),
        *_windows(kernel, in_shape, out_shape, geometry),
    ]


def _windows(kernel, in_shape, out_shape, geometry):
    """The 0/1 patterns (out, tap, in) of a convolution, axis by axis."""
    space, _ = _axes(geometry)

    def window(i, axis):
        words = (f"out{axis}", f"k{axis}", f"in{axis}")
        return Factor(
            "window", words, lambda: _pattern(in_shape[axis], out_shape[axis], kernel().shape[i], i, geometry)
        )

    return [window(i, axis) for i, axis in enumerate(space)]


def _pattern(n, m, taps, i, geometry):
    """1 where in = stride out + dilation tap - left."""
    stride, dilation = geometry.strides[i], geometry.dilation[i]
    total = max((m - 1) * stride + (taps - 1) * dilation + 1 - n, 0)
    left = {"valid": 0, "same": total // 2, "causal": dilation * (taps - 1)}[geometry.padding]
    out, tap, position = np.ogrid[:m, :taps, :n]
    return (position == out * stride + tap * dilation - left).astype("float64")


def _axes(geometry):
    rank = len(geometry.strides)
    return (range(rank), rank) if geometry.data_format == "channels_last" else (range(1, rank + 1), 0)


def _ungrouped(kernel, groups):
    """A grouped kernel as a full one, zero between groups."""
    if groups == 1:
        return kernel
    inputs, outputs = kernel.shape[-2], kernel.shape[-1] // groups
    full = np.zeros((*kernel.shape[:-2], inputs * groups, kernel.shape[-1]), kernel.dtype)
    for g in range(groups):
        full[..., g * inputs : (g + 1) * inputs, g * outputs : (g + 1) * outputs] = kernel[
            ..., g * outputs : (g + 1) * outputs
        ]
    return full
