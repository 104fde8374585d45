"""The transpose of a convolution by the units that are not zero in all rows: behind a max pooling, the few.

Rows of one sweep are zero at the same units, wherever a ReLU is or a pooling selected another. Each position of the
result gathers the units that it depends on and that live in some row, with their part of the kernel, for one product.
"""

import math
import threading
from functools import lru_cache

import numpy as np
import tensorflow as tf
from threadpoolctl import ThreadpoolController

from pane_keras.backend.tensorflow.host_memory import as_tensor, empty, lies_on_host, on_host
from pane_keras.backend.tensorflow.threads import in_threads, threads

# In multiply-adds of the framework's own kernel on two cores: one of a small product, an entry copied, a product made.
_PER_PRODUCT_ADD, _PER_COPIED, _PER_PRODUCT = 2, 32, 2**21

# How many times less it has to cost by that estimate, and which share of live units in one row rules it out at once.
_GAIN, _MOST_LIVE = 1.25, 0.5

_FEWEST_ROWS = 16

_LIMITED = threading.Lock()


def live_units(rows, kernel, geometry):
    """Returns which units live, a boolean array (*space, channels), or None: the dense kernel is likely faster.

    Args:
        rows: Tensor (n, *space, channels), the rows that a convolution's transpose is applied to.
        kernel: Tensor (*window, channels below, channels).
        geometry: The convolution's `Geometry`.
    """
    if not _gatherable(rows, geometry):
        return None
    values = on_host(rows)
    if np.count_nonzero(values[len(values) // 2]) > _MOST_LIVE * values[0].size:
        return None
    live = np.any(values != 0, axis=0)
    return live if _pays(int(np.count_nonzero(live)), rows, kernel) else None


def transpose_live_units(rows, kernel, geometry, shape, live, dense):
    """Returns the transpose of a convolution applied to rows, as `dense(rows, kernel)` does, over the live units.

    Args:
        rows, kernel, geometry: As for `live_units`, which returned `live`.
        shape: Of the convolution's input, (n, *space, channels below).
        dense: The function that gradients are taken of.
    """

    def forward(rows, kernel):
        def gradients(upstream):
            with tf.GradientTape() as tape:
                tape.watch((rows, kernel))
                result = dense(rows, kernel)
            return tape.gradient(result, (rows, kernel), upstream)

        return _gathered(on_host(rows), on_host(kernel), geometry, shape, live), gradients

    return tf.custom_gradient(forward)(rows, kernel)


def _gatherable(rows, geometry):
    plain = geometry.data_format == "channels_last" and geometry.groups == 1 and set(geometry.strides) == {1}
    return plain and lies_on_host(rows) and rows.dtype in (tf.float32, tf.float64) and rows.shape[0] >= _FEWEST_ROWS


def _pays(live, rows, kernel):
    """Whether gathering is the faster by far, by the mean number of units that a position depends on."""
    (n, *space, _), (*window, below, _) = rows.shape, kernel.shape
    positions, units = math.prod(space), live * math.prod(window)
    gathered = units * (_PER_PRODUCT_ADD * n * below + _PER_COPIED * (n + below)) + _PER_PRODUCT * positions
    return _GAIN * gathered < n * positions * math.prod(kernel.shape)


def _gathered(rows, kernel, geometry, shape, live):
    where = np.flatnonzero(live)
    columns = np.ascontiguousarray(np.take(rows.reshape(len(rows), -1), where, axis=1, mode="clip").T)
    windows = _windows(_numbers(live, where), kernel, geometry, shape[1:-1])
    tapped = np.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2).reshape(-1, kernel.shape[-2])
    result = empty((len(rows), math.prod(shape[1:-1]), shape[-1]), rows.dtype)
    _by_part(lambda part: _products(columns, tapped, windows, result, part), result.shape[1])
    return tf.reshape(as_tensor(result), shape)


def _numbers(live, where):
    """The live units numbered, -1 where no unit lives."""
    numbers = np.full(live.shape, -1, np.int32)
    numbers.reshape(-1)[where] = np.arange(len(where), dtype=np.int32)
    return numbers


def _windows(numbers, kernel, geometry, space):
    """Numbers of the units that each position of the input depends on: a view (*space, *window, channels)."""
    rank, reach = len(space), [d * (k - 1) for d, k in zip(geometry.dilation, kernel.shape)]
    left = [r // 2 if geometry.padding == "same" else 0 for r in reach]
    around = [(r - a, n - m + a) for r, a, n, m in zip(reach, left, space, numbers.shape)]
    padded = np.pad(numbers, [*around, (0, 0)], constant_values=-1)
    wide = np.lib.stride_tricks.sliding_window_view(padded, [r + 1 for r in reach], tuple(range(rank)))
    taps = wide[(..., *(slice(None, None, d) for d in geometry.dilation))]
    return np.moveaxis(taps, rank, -1)


def _products(columns, kernel, windows, result, positions):
    """Writes the result, (n, positions, channels), at some positions."""
    units = np.empty((len(kernel), columns.shape[1]), columns.dtype)
    taps = np.empty(kernel.shape, kernel.dtype)
    space = windows.shape[: windows.ndim // 2]
    for position in positions:
        numbers = windows[np.unravel_index(position, space)].reshape(-1)
        live = np.flatnonzero(numbers >= 0)
        np.take(columns, numbers[live], axis=0, out=units[: len(live)], mode="clip")
        np.take(kernel, live, axis=0, out=taps[: len(live)], mode="clip")
        np.matmul(units[: len(live)].T, taps[: len(live)], out=result[:, position])


def _by_part(work, count):
    """Runs `work` on a part of `count` positions in each thread, with one thread for each product.

    Meanwhile products of NumPy elsewhere in the process have one thread as well, and a second such call waits.
    """
    parts = min(threads(), count)
    with _LIMITED, _controller().limit(limits=1, user_api="blas"):
        in_threads(work, [range(first, count, parts) for first in range(parts)])


@lru_cache(1)
def _controller():
    return ThreadpoolController()
