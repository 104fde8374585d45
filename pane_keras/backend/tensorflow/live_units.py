"""The transpose of a convolution by what lives: units that are not zero in all rows, outputs that are wanted.

Rows of one sweep are zero at the same units, wherever a ReLU is or a pooling selected another, and what they become at
a unit that is zero itself does not count. The dense kernel multiplies all of that.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pane_keras.backend.tensorflow.host_memory import as_tensor, empty, lies_on_host, on_host
from pane_keras.backend.tensorflow.threads import in_threads, threads

# In multiply-adds of the framework's own kernel: one of these, an entry that is turned round, a place looked at.
_PER_PRODUCT, _PER_ENTRY, _PER_PLACE = 1.3, 200, 120

# What has to be saved: once in a process, compiling takes a second or two.
_LEAST = 2**33


class Live(NamedTuple):
    """What lives.

    Attributes:
        units: Boolean array (*space, channels).
        wanted: Boolean array (*space below, channels below).
    """

    units: np.ndarray
    wanted: np.ndarray


def live_units(rows, kernel, geometry, shape, wanted=None):
    """Returns what is `Live`, or None: the dense kernel is likely faster.

    Args:
        rows: Tensor (n, *space, channels), the rows that a convolution's transpose is applied to.
        kernel: Tensor (*window, channels below, channels).
        geometry: The convolution's `Geometry`.
        shape: Of the convolution's input, (n, *space below, channels below).
        wanted: Tensor (batch, *space below, channels below): where it is zero for all of the batch, the result does
            not count. By default all of it counts.
    """
    if not _gatherable(rows, geometry) or _dense_cost(rows, kernel) <= _LEAST:
        return None
    values = on_host(rows)
    wanted = np.ones(shape[1:], bool) if wanted is None else _anywhere(on_host(wanted))
    if not _pays(np.count_nonzero(values[len(values) // 2]), np.count_nonzero(wanted), rows, kernel, shape):
        return None
    units = _anywhere(values)
    pays = _pays(np.count_nonzero(units), np.count_nonzero(wanted), rows, kernel, shape)
    return Live(units, wanted) if pays and _compiles() else None


def transpose_live_units(rows, kernel, geometry, shape, live, dense):
    """Returns the transpose of a convolution applied to rows, as `dense(rows, kernel)` does, where it is wanted.

    Args:
        rows, kernel, geometry, shape: As for `live_units`, which returned `live`.
        dense: The function that gradients are taken of.
    """

    def forward(rows, kernel):
        def gradients(upstream):
            with tf.GradientTape() as tape:
                tape.watch((rows, kernel))
                result = tf.where(live.wanted, dense(rows, kernel), 0)
            return tape.gradient(result, (rows, kernel), upstream)

        return _gathered(on_host(rows), on_host(kernel), geometry, shape, live), gradients

    return tf.custom_gradient(forward)(rows, kernel)


def _gatherable(rows, geometry):
    plain = geometry.data_format == "channels_last" and geometry.groups == 1 and set(geometry.strides) == {1}
    return plain and lies_on_host(rows) and rows.dtype in (tf.float32, tf.float64)


def _compiles():
    # It takes half a second to import.
    import numba

    return not numba.config.DISABLE_JIT


def _dense_cost(rows, kernel):
    return math.prod(rows.shape[:-1]) * math.prod(kernel.shape)


def _anywhere(values):
    return np.any(values != 0, axis=0)


def _pays(live, wanted, rows, kernel, shape):
    """Whether this is the faster one, by the mean number of units and of outputs at a position."""
    # Registers are filled, if with zeros.
    n, (*_, below, above) = -(-rows.shape[0] // 16) * 16, kernel.shape
    window, positions = math.prod(kernel.shape[:-2]), math.prod(shape[1:-1])
    products = n * live * window * (wanted / positions)
    turned, places = n * (live + positions * below), positions * window * above
    cost = _PER_PRODUCT * products + _PER_ENTRY * turned + _PER_PLACE * places
    return cost + _LEAST < _dense_cost(rows, kernel)


def _gathered(rows, kernel, geometry, shape, live):
    from pane_keras.backend.tensorflow import live_products

    where = np.flatnonzero(live.units)
    columns = live_products.as_columns(rows, where)
    flat, parts = rows.reshape(len(rows), -1), threads()
    bounds = [len(where) * part // parts for part in range(parts + 1)]
    in_threads(lambda part: live_products.write_columns(flat, where, columns, *bounds[part : part + 2]), range(parts))
    window = _Windows.of(_numbers(live.units, where), kernel, geometry, shape[1:-1])
    result = empty((len(rows), len(window.starts), shape[-1]), rows.dtype)
    wanted = live.wanted.reshape(len(window.starts), -1)
    arguments = columns, _by_output(kernel), *window, wanted, result
    in_threads(lambda part: live_products.write_products(*arguments, part, parts), range(parts))
    return tf.reshape(as_tensor(result), shape)


def _numbers(live, where):
    """The live units numbered, -1 where no unit lives."""
    numbers = np.full(live.shape, -1, np.int32)
    numbers.reshape(-1)[where] = np.arange(len(where), dtype=np.int32)
    return numbers


def _by_output(kernel):
    """The kernel as (channels below, taps, channels), the last tap first."""
    taps = np.moveaxis(np.flip(kernel, range(kernel.ndim - 2)), -2, 0)
    return np.ascontiguousarray(taps).reshape(kernel.shape[-2], -1, kernel.shape[-1])


class _Windows(NamedTuple):
    """Which units each position of the input depends on: as `write_products` takes them."""

    numbers: np.ndarray
    starts: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, numbers, kernel, geometry, space):
        """Returns the windows of a convolution's transpose, with as many empty places around as they need."""
        reach = [d * (k - 1) for d, k in zip(geometry.dilation, kernel.shape)]
        left = [r // 2 if geometry.padding == "same" else 0 for r in reach]
        around = [(r - a, n - m + a) for r, a, n, m in zip(reach, left, space, numbers.shape)]
        padded = np.pad(numbers, [*around, (0, 0)], constant_values=-1)
        flat = np.arange(math.prod(padded.shape[:-1])).reshape(padded.shape[:-1])
        starts = flat[tuple(map(slice, space))].reshape(-1)
        taps = [slice(0, r + 1, d) for r, d in zip(reach, geometry.dilation)]
        return cls(padded.reshape(-1, padded.shape[-1]), starts, flat[tuple(taps)].reshape(-1))
