"""Tensors and arrays that share memory on the host: of large ones every copy counts.

The framework asks the system for each large tensor anew and pays for every page; NumPy asks for large pages.
"""

import math

import numpy as np
import tensorflow as tf

# Where the framework's own tensors start.
_ALIGNMENT = 64


def lies_on_host(tensor):
    """Returns whether the host can read a tensor as it is: it is no part of a graph and on no other device."""
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


def joined(parts, numbers):
    """Returns tensors (batch, k, ...) as one, (batch, n, ...), in the order of the row numbers of each.

    Args:
        parts: List of tensors.
        numbers: List of int arrays (k,), together 0 ... n - 1.
    """
    if all(map(lies_on_host, parts)) and parts[0].shape.rank > 2:
        return tf.custom_gradient(lambda *parts: (_joined_on_host(parts, numbers), _parts_of(numbers)))(*parts)
    whole = tf.concat(parts, axis=1)
    order = np.concatenate(numbers)
    return whole if (np.diff(order) > 0).all() else tf.gather(whole, np.argsort(order), axis=1)


def _joined_on_host(parts, numbers):
    batch, _, *rest = parts[0].shape
    whole = empty((batch, sum(map(len, numbers)), *rest), parts[0].dtype.as_numpy_dtype)
    for part, rows in zip(parts, numbers):
        whole[:, rows] = on_host(part)
    return as_tensor(whole)


def _parts_of(numbers):
    return lambda upstream: [tf.gather(upstream, rows, axis=1) for rows in numbers]
