"""Tensors and arrays that share memory on the host: of large ones every copy counts.

What NumPy asked for goes back to the system; what the framework asked for it keeps.
"""

import math

import numpy as np
import tensorflow as tf

from pane_keras.backend.tensorflow.threads import in_threads

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


def joined(parts, numbers, boxes, shape):
    """Returns parts of rows as one tensor (batch, n, *shape), zero where no part lies.

    Args:
        parts: List of tensors (batch, k, *sizes).
        numbers: List of int arrays (k,), together 0 ... n - 1: which rows each part holds.
        boxes: List of tuples of slices, of the first axes of `shape`: where in it each part lies.
        shape: Of a row.
    """
    if len(parts) == 1 and not boxes[0] and _in_order(numbers[0]):
        return parts[0]
    places = [(slice(None), rows, *box) for rows, box in zip(numbers, boxes)]
    if all(map(lies_on_host, parts)):
        whole = (parts[0].shape[0], sum(map(len, numbers)), *shape)
        return tf.custom_gradient(lambda *parts: (_written(parts, places, whole), _parts_at(places)))(*parts)
    return _concatenated([_padded(part, box, shape) for part, box in zip(parts, boxes)], np.concatenate(numbers))


def _in_order(numbers):
    return (np.diff(numbers) > 0).all()


def _written(parts, places, shape):
    whole = empty(shape, parts[0].dtype.as_numpy_dtype)

    def write(number):
        whole[places[number]] = on_host(parts[number])
        for border in _around(places[number]):
            whole[border] = 0

    # Parts hold rows of their own. Memory that the system has yet to give comes sooner to several threads as well.
    in_threads(write, range(len(parts)))
    return as_tensor(whole)


def _around(place):
    """What lies around the box of a place (all samples, rows, *slices), in boxes that do not overlap."""
    for axis, inside in enumerate(place[2:], start=2):
        yield (*place[:axis], slice(0, inside.start))
        yield (*place[:axis], slice(inside.stop, None))


def _parts_at(places):
    def gradients(upstream):
        return [tf.gather(upstream, rows, axis=1)[(batch, slice(None), *box)] for batch, rows, *box in places]

    return gradients


def _padded(part, box, shape):
    around = [(inside.start, size - inside.stop) for inside, size in zip(box, shape)]
    return tf.pad(part, [(0, 0), (0, 0), *around, *[(0, 0)] * (len(shape) - len(box))]) if box else part


def _concatenated(parts, order):
    whole = tf.concat(parts, axis=1)
    return whole if _in_order(order) else tf.gather(whole, np.argsort(order), axis=1)
