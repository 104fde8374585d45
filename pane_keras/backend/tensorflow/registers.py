"""The innermost loop of a product of few coefficients, in vector registers; Numba has no words for them.

Rows lie side by side in memory, so that registers hold one unit of several rows. A step multiplies it by one
coefficient of each of a few outputs, whose sums stay in registers.
"""

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.extending import intrinsic

OUTPUTS = 6
"""How many outputs a product has."""

NARROW = 64
"""Bytes of the rows of a narrow product: with as many outputs, the sums fill 16 registers of 32 bytes."""

WIDE = 256 if get_host_cpu_features().get("avx512f") else NARROW
"""Bytes of the rows of a wide product: the sums fill 32 registers of 64 bytes, where the machine has them."""

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


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

    def step(number, totals):
        unit, tap = (builder.sext(load(numbers, number, _INT32, 4), _INT64) for numbers in (units, taps))
        unit = _load(builder, builder.add(columns, builder.mul(unit, room)), vector, size)
        coefficients = (_spread(builder, load(row, tap, vector.element, size), vector) for row in rows)
        return [_multiply_add(builder, unit, c, total) for c, total in zip(coefficients, totals)]

    rows = [builder.add(kernel, load(outputs, _int(k), _INT64, 8)) for k in range(OUTPUTS)]
    places = [builder.add(sums, builder.mul(room, _int(k))) for k in range(OUTPUTS)]
    start = [_load(builder, place, vector, size) for place in places]
    for place, total in zip(places, _repeated(builder, count, start, step)):
        builder.store(total, builder.inttoptr(place, ir.PointerType(vector))).align = size


def _repeated(builder, count, start, step):
    """Writes a loop of `count` steps, at least one, each of which makes new values of the last ones; returns them."""
    before, loop = builder.block, builder.append_basic_block("loop")
    after = builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    number, values = builder.phi(_INT64), [builder.phi(value.type) for value in start]
    changed, following = step(number, values), builder.add(number, _int(1))
    for phi, first, then in zip([number, *values], [_int(0), *start], [following, *changed]):
        phi.add_incoming(first, before)
        phi.add_incoming(then, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    builder.position_at_end(after)
    return changed


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


add_wide_product, add_narrow_product = _product(WIDE), _product(NARROW)
