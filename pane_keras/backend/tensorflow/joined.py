"""Rows that come a part at a time, as one tensor in the order that was asked for."""

import contextlib
import itertools
import math
import mmap

import numpy as np
import tensorflow as tf

from pane_keras.backend.tensorflow.floating import sum_of_rows
from pane_keras.backend.tensorflow.host_memory import as_tensor, lies_on_host, on_host
from pane_keras.backend.tensorflow.threads import in_threads

# Entries that are scaled and added up while they are in the cache.
_AT_A_TIME = 2**18


class Joined:
    """Rows (batch, n, *shape), zero where no part lies; what nobody writes to takes no memory on the host.

    Args:
        count: Number of rows, n.
        shape: Of a row.
    """

    def __init__(self, count, shape):
        self._count, self._shape = count, tuple(shape)
        self._array, self._whole, self._parts = None, None, []

    def add(self, terms, numbers, box=()):
        """Takes a part, which need not be kept: the sum of terms, as `sum_of_rows` takes them.

        Args:
            terms: Pairs (rows, factors): (k * batch, *sizes), the batch running fastest, and (k * batch,).
            numbers: int array (k,): which of the rows it holds. Each row comes once.
            box: Tuple of slices, of the first axes of `shape`: where in it the part lies.
        """
        if all(map(lies_on_host, itertools.chain(*terms))) and not self._is_all(numbers, box):
            self._whole = self._with(terms, numbers, box)
        else:
            self._parts.append((_batch_first(sum_of_rows(terms), len(numbers)), numbers, box))

    @property
    def written(self):
        """Whether the rows lie in memory that goes back to the system with them."""
        return self._whole is not None

    def rows(self):
        """Returns all rows, once every part was added."""
        return self._whole if self.written else self._concatenated()

    def _is_all(self, numbers, box):
        return len(numbers) == self._count and not box and _in_order(numbers)

    def _with(self, terms, numbers, box):
        """The rows with a part written where it belongs: the memory is the same, and gradients find their way."""
        if not self.written:
            batch = len(terms[0][0]) // len(numbers)
            self._array = _untouched((batch, self._count, *self._shape), terms[0][0].dtype.as_numpy_dtype)
            self._whole = as_tensor(self._array)
        factors = [factors for _, factors in terms]

        def write(whole, *rows):
            _write(self._array, [(on_host(r), on_host(f)) for r, f in zip(rows, factors)], numbers, box)
            return as_tensor(self._array), lambda upstream: (upstream, *_slopes(upstream, factors, numbers, box))

        return tf.custom_gradient(write)(self._whole, *(rows for rows, _ in terms))

    def _concatenated(self):
        parts, numbers, boxes = zip(*self._parts)
        if len(parts) == 1 and self._is_all(numbers[0], boxes[0]):
            return parts[0]
        whole = tf.concat([_padded(part, box, self._shape) for part, box in zip(parts, boxes)], axis=1)
        order = np.concatenate(numbers)
        return whole if _in_order(order) else tf.gather(whole, np.argsort(order), axis=1)


def _in_order(numbers):
    return (np.diff(numbers) > 0).all()


def _untouched(shape, dtype):
    """Returns an array of zeros for `as_tensor` that takes memory where it is written to, page by page."""
    memory = mmap.mmap(-1, math.prod(shape) * np.dtype(dtype).itemsize, access=mmap.ACCESS_COPY)
    # Systems without huge pages refuse the advice, and need none.
    with contextlib.suppress(AttributeError, OSError):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)


def _write(whole, terms, numbers, box):
    some = max(1, _AT_A_TIME // math.prod(terms[0][0].shape[1:]) // whole.shape[0])
    parts = [slice(start, start + some) for start in range(0, len(numbers), some)]
    # Memory that the system has yet to give comes sooner to several threads as well.
    in_threads(lambda part: _write_some(whole, terms, numbers, box, part), parts)


def _write_some(whole, terms, numbers, box, part):
    total, batch = 0, whole.shape[0]
    for rows, factors in terms:
        rows, factors = (t.reshape(-1, batch, *t.shape[1:])[part] for t in (rows, factors))
        total = total + rows * factors.reshape(*factors.shape, *[1] * (rows.ndim - 2))
    whole[(slice(None), numbers[part], *box)] = total.swapaxes(0, 1)


def _slopes(upstream, factors, numbers, box):
    """What reaches the rows of each term."""
    part = tf.gather(upstream, numbers, axis=1)[(slice(None), slice(None), *box)]
    rows = tf.reshape(tf.transpose(part, [1, 0, *range(2, len(part.shape))]), (-1, *part.shape[2:]))
    return [sum_of_rows([(rows, f)]) for f in factors]


def _batch_first(rows, count):
    apart = tf.reshape(rows, tf.concat([[count, -1], tf.shape(rows)[1:]], axis=0))
    return tf.transpose(apart, [1, 0, *range(2, len(apart.shape))])


def _padded(part, box, shape):
    around = [(inside.start, size - inside.stop) for inside, size in zip(box, shape)]
    return tf.pad(part, [(0, 0), (0, 0), *around, *[(0, 0)] * (len(shape) - len(box))]) if box else part
