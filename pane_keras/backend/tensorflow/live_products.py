"""Products of rows with parts of a kernel, compiled for the machine it runs on: only what lives is multiplied.

Rows lie side by side in memory, so that a register holds one unit of several rows. A step of the innermost loop
multiplies it by one coefficient of each of a few outputs, whose sums stay in registers: nothing is copied together.
"""

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.extending import intrinsic

# Outputs, and bytes of rows, whose sums fill the registers: 32 of 64 bytes or 16 of 32 bytes.
_OUTPUTS, _NARROW = 6, 64
_WIDE = 256 if get_host_cpu_features().get("avx512f") else _NARROW

# Steps whose units, of as many rows, stay in the nearest cache; units and rows that are turned round at a time.
_STEPS, _UNITS, _ROWS = 128, 128, 16

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


def as_columns(rows, where):
    """Returns an empty array for `write_columns`, (units, rows): as many rows as registers take, and some room.

    Were the distance between units a power of two, few of them would find a place in the cache.
    """
    lanes = _NARROW // rows.dtype.itemsize
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
    outputs = np.empty(kernel.shape[0] + _OUTPUTS, np.int64)
    sums = np.empty((len(outputs), columns.shape[1]), columns.dtype)
    for position in range(first, len(starts), step):
        live = _live(numbers, starts[position] + offsets, units, places)
        count = _wanted(wanted[position], outputs)
        groups = -(-count // _OUTPUTS)
        sums[: groups * _OUTPUTS] = 0
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
    while rows < room - _NARROW:
        whole = room - _NARROW - rows >= _WIDE
        for start in range(0, len(units), _STEPS):
            count = min(_STEPS, len(units) - start)
            for group in range(groups):
                product = (
                    columns.ctypes.data + rows,
                    room,
                    units.ctypes.data + 4 * start,
                    kernel.ctypes.data,
                    offsets.ctypes.data + 8 * _OUTPUTS * group,
                    places.ctypes.data + 4 * start,
                    count,
                    sums.ctypes.data + _OUTPUTS * group * room + rows,
                )
                if whole:
                    _wide(zero, *product)
                else:
                    _narrow(zero, *product)
        rows += _WIDE if whole else _NARROW


@njit(nogil=True)
def _turn(sums, outputs, result):
    """Writes sums (outputs, rows) as a result (rows, outputs)."""
    for first in range(0, len(result), _ROWS):
        for row in range(first, min(first + _ROWS, len(result))):
            result[row] = 0
            for k in range(len(outputs)):
                result[row, outputs[k]] = sums[k, row]


def _product(width):
    """Returns the compiled sums += kernel[outputs, taps] @ columns[units, rows] for so many bytes of rows."""

    @intrinsic
    def product(context, zero, columns, room, units, kernel, outputs, taps, count, sums):
        """Adds to sums (6, rows).

        `zero` has the dtype, `room` is the size of a column and of sums in bytes, `outputs` are offsets into the
        kernel in bytes, `count` is the number of steps, at least 1. All others are addresses.
        """
        signature = types.void(zero, *[types.intp] * 8)

        def code(context, builder, signature, values):
            element = context.get_value_type(zero)
            _write_loop(builder, ir.VectorType(element, width // (zero.bitwidth // 8)), zero.bitwidth // 8, *values[1:])
            return context.get_dummy_value()

        return signature, code

    return product


def _write_loop(builder, vector, size, columns, room, units, kernel, outputs, taps, count, sums):
    def load(address, index, kind, size):
        return _load(builder, builder.add(address, builder.mul(index, _int(size))), kind, size)

    rows = [builder.add(kernel, load(outputs, _int(k), _INT64, 8)) for k in range(_OUTPUTS)]
    places = [builder.add(sums, builder.mul(room, _int(k))) for k in range(_OUTPUTS)]
    before, start = builder.block, [_load(builder, place, vector, size) for place in places]
    loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    step, totals = builder.phi(_INT64), [builder.phi(vector) for _ in places]
    unit, tap = (builder.sext(load(numbers, step, _INT32, 4), _INT64) for numbers in (units, taps))
    unit = _load(builder, builder.add(columns, builder.mul(unit, room)), vector, size)
    grown = [
        _multiply_add(builder, unit, _spread(builder, load(row, tap, vector.element, size), vector), total)
        for row, total in zip(rows, totals)
    ]
    following = builder.add(step, _int(1))
    for phi, first, then in zip([step, *totals], [_int(0), *start], [following, *grown]):
        phi.add_incoming(first, before)
        phi.add_incoming(then, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    for place, total in zip(places, grown):
        builder.store(total, builder.inttoptr(place, ir.PointerType(vector))).align = size


def _load(builder, address, kind, size):
    loaded = builder.load(builder.inttoptr(address, ir.PointerType(kind)))
    loaded.align = size
    return loaded


def _spread(builder, value, vector):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, vector.count), None))


def _multiply_add(builder, a, b, c):
    """a * b + c, fused where the machine can."""
    bits = 32 if isinstance(c.type.element, ir.FloatType) else 64
    name, kind = f"llvm.fmuladd.v{c.type.count}f{bits}", ir.FunctionType(c.type, [c.type] * 3)
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, [a, b, c])


def _int(value):
    return ir.Constant(_INT64, value)


_wide, _narrow = _product(_WIDE), _product(_NARROW)
