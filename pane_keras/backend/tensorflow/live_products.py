"""Products of rows with parts of a kernel: only what lives is multiplied, and nothing is copied together for it.

Numba compiles them for the machine they run on.
"""

import numpy as np
from numba import njit

from pane_keras.backend.tensorflow.registers import NARROW, OUTPUTS, WIDE, add_narrow_product, add_wide_product

# Steps whose units, of as many rows, stay in the nearest cache; units and rows that are turned round at a time.
_STEPS, _UNITS, _ROWS = 128, 128, 16


def as_columns(rows, where):
    """Returns an empty array for `write_columns`, (units, rows): as many rows as registers take, and some room.

    Were the distance between units a power of two, few of them would find a place in the cache.
    """
    lanes = NARROW // rows.dtype.itemsize
    return np.empty((len(where), -(-len(rows) // lanes) * lanes + lanes), rows.dtype)


@njit(nogil=True)
def write_columns(rows, where, columns, start, stop):
    """Writes some units, `where` in rows (n, size), as columns (units, n and zeros)."""
    for first in range(start, stop, _UNITS):
        last = min(first + _UNITS, stop)
        for row in range(rows.shape[0]):
            for unit in range(first, last):
                columns[unit, row] = rows[row, where[unit]]
        columns[first:last, rows.shape[0] :] = 0


@njit(nogil=True)
def write_products(columns, kernel, numbers, starts, offsets, wanted, result, first, step):
    """Writes the result at the positions `first`, `first + step`, ...: zero where it is not wanted.

    Args:
        columns: Array (units, n), of `write_columns`.
        kernel: Array (outputs, taps, channels).
        numbers: int32 array (places, channels): which of the units lies there, -1 for none.
        starts: int64 array (positions,): where in `numbers` the window of each position starts.
        offsets: int64 array (taps,): where in `numbers` its taps lie, from there.
        wanted: Boolean array (positions, outputs).
        result: Array (n, positions, outputs).
    """
    size, taps = columns.itemsize, kernel.shape[1] * kernel.shape[2]
    units, places = np.empty(taps, np.int32), np.empty(taps, np.int32)
    outputs = np.empty(kernel.shape[0] + OUTPUTS, np.int64)
    sums = np.empty((len(outputs), columns.shape[1]), columns.dtype)
    for position in range(first, len(starts), step):
        live = _live(numbers, starts[position] + offsets, units, places)
        count = _wanted(wanted[position], outputs)
        groups = -(-count // OUTPUTS)
        sums[: groups * OUTPUTS] = 0
        _add_products(columns, kernel, units[:live], places, outputs * (taps * size), groups, sums)
        _turn(sums, outputs[:count], result[:, position])


@njit(nogil=True)
def _live(numbers, window, units, places):
    """Writes the units in a window and their places in the kernel; returns how many."""
    count, channels = 0, numbers.shape[1]
    for tap in range(len(window)):
        for channel in range(channels):
            unit = numbers[window[tap], channel]
            # Without a branch: what is written last counts only if it lives.
            if count < len(units):
                units[count], places[count] = unit, tap * channels + channel
            count += unit >= 0
    return count


@njit(nogil=True)
def _wanted(wanted, outputs):
    """Writes the outputs that are wanted, and the last one again to fill a group; returns how many."""
    count = 0
    for output in range(len(wanted)):
        outputs[count] = output
        count += wanted[output]
    outputs[count:] = outputs[max(count - 1, 0)]
    return count


@njit(nogil=True)
def _add_products(columns, kernel, units, places, offsets, groups, sums):
    zero, size = columns.dtype.type(0), columns.itemsize
    room, rows = columns.shape[1] * size, 0
    while rows < room - NARROW:
        whole = room - NARROW - rows >= WIDE
        for start in range(0, len(units), _STEPS):
            count = min(_STEPS, len(units) - start)
            for group in range(groups):
                product = (
                    columns.ctypes.data + rows,
                    room,
                    units.ctypes.data + 4 * start,
                    kernel.ctypes.data,
                    offsets.ctypes.data + 8 * OUTPUTS * group,
                    places.ctypes.data + 4 * start,
                    count,
                    sums.ctypes.data + OUTPUTS * group * room + rows,
                )
                if whole:
                    add_wide_product(zero, *product)
                else:
                    add_narrow_product(zero, *product)
        rows += WIDE if whole else NARROW


@njit(nogil=True)
def _turn(sums, outputs, result):
    """Writes sums (outputs, rows) as a result (rows, outputs)."""
    for first in range(0, len(result), _ROWS):
        for row in range(first, min(first + _ROWS, len(result))):
            result[row] = 0
            for k in range(len(outputs)):
                result[row, outputs[k]] = sums[k, row]
