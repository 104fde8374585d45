"""Rows that come a part at a time, as one tensor in the order that was asked for."""

import math
import mmap

import numpy as np
import tensorflow as tf

from pane_keras.backend.tensorflow.host_memory import as_tensor, lies_on_host, on_host
from pane_keras.backend.tensorflow.threads import in_threads, threads


class Joined:
    """Rows (batch, n, *shape), zero where no part lies; what nobody writes to takes no memory on the host.

    Args:
        count: Number of rows, n.
        shape: Of a row.
    """

    def __init__(self, count, shape):
        self._count, self._shape = count, tuple(shape)
        self._array, self._whole, self._parts = None, None, []

    def add(self, part, numbers, box=()):
        """Takes a part, which need not be kept.

        Args:
            part: Tensor (batch, k, *sizes).
            numbers: int array (k,): which of the rows it holds. Each row comes once.
            box: Tuple of slices, of the first axes of `shape`: where in it the part lies.
        """
        if lies_on_host(part) and not self._is_all(numbers, box):
            self._whole = self._written(part, numbers, box)
        else:
            self._parts.append((part, numbers, box))

    def rows(self):
        """Returns all rows, once every part was added."""
        return self._concatenated() if self._whole is None else self._whole

    def _is_all(self, numbers, box):
        return len(numbers) == self._count and not box and _in_order(numbers)

    def _written(self, part, numbers, box):
        """The rows with a part written where it belongs: the memory is the same, and a gradient finds its way."""
        if self._whole is None:
            self._array = _untouched((part.shape[0], self._count, *self._shape), part.dtype.as_numpy_dtype)
            self._whole = as_tensor(self._array)

        def write(whole, part):
            _write(self._array, on_host(part), numbers, box)
            return as_tensor(self._array), lambda upstream: (
                upstream,
                tf.gather(upstream, numbers, axis=1)[(slice(None), slice(None), *box)],
            )

        return tf.custom_gradient(write)(self._whole, part)

    def _concatenated(self):
        parts, numbers, boxes = zip(*self._parts)
        whole = tf.concat([_padded(part, box, self._shape) for part, box in zip(parts, boxes)], axis=1)
        order = np.concatenate(numbers)
        return whole if _in_order(order) else tf.gather(whole, np.argsort(order), axis=1)


def _in_order(numbers):
    return (np.diff(numbers) > 0).all()


def _untouched(shape, dtype):
    """Returns an array of zeros for `as_tensor` that takes memory where it is written to, page by page."""
    memory = mmap.mmap(-1, math.prod(shape) * np.dtype(dtype).itemsize, access=mmap.ACCESS_COPY)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


def _write(whole, part, numbers, box):
    def write(some):
        whole[(slice(None), numbers[some], *box)] = part[:, some]

    # Memory that the system has yet to give comes sooner to several threads as well.
    bounds = [len(numbers) * k // threads() for k in range(threads() + 1)]
    in_threads(write, [slice(*ends) for ends in zip(bounds, bounds[1:])])


def _padded(part, box, shape):
    around = [(inside.start, size - inside.stop) for inside, size in zip(box, shape)]
    return tf.pad(part, [(0, 0), (0, 0), *around, *[(0, 0)] * (len(shape) - len(box))]) if box else part
