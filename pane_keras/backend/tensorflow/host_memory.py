"""Tensors and arrays that share memory on the host: of large ones every copy counts.

What NumPy asked for goes back to the system; what the framework asked for it keeps.
"""

import math

import numpy as np
import tensorflow as tf

# Where the framework's own tensors start.
_ALIGNMENT = 64


def lies_on_host(tensor):
    """Returns whether the host can read a tensor as it is: it is no part of a graph and on no other device.

    Half precision it cannot read; coefficients are never of that.
    """
    return hasattr(tensor, "numpy") and "GPU" not in tensor.device


def on_host(tensor):
    """Returns the values of a tensor that lies on the host, a read-only array, without a copy."""
    return np.asarray(memoryview(tensor))


def empty(shape, dtype):
    """Returns an array that `as_tensor` takes over as it is."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def as_tensor(array):
    """Returns an array of `empty`, which is not written to any more, as a tensor of the same memory."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
