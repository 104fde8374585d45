"""Ready-made pieces that a rule returns: each runs a stage of a layer once and records its excitation.

A piece is a function of a `Record` and of the slots it reads, and returns the slot it wrote. The law of each piece
stands in its docstring; section 2 of DESIGN.md derives them.
"""

import math
from collections.abc import Callable, Sequence

from keras import ops, tree

from pane_keras import backend
from pane_keras.composite import graph, layers
from pane_keras.linear_operand import LinearOperand
from pane_keras.single_operand import ElementwiseOperand, SelectionOperand

__all__ = ["affine", "choice", "elementwise", "gate", "graph", "held", "identity", "layers", "linear", "nonnegative",
           "nonnegative_sum", "rectifier", "selection", "sequence", "signed_sum", "source"]  # fmt: skip

Piece = Callable
"""Function (record, *slots) -> slot, or a structure of slots for a layer with several outputs."""


def sequence(*pieces):
    """Returns the piece that runs `pieces` one after the other; None stands for nothing to do."""

    def run(record, *slots):
        for piece in filter(None, pieces):
            slots = (piece(record, *slots),)
        return slots[0]

    return run


def identity(record, slot):
    """The layer that changes nothing at inference: y = x, without a stage of its own."""
    del record
    return slot


def linear(forward, kernel, bias=None, *, transpose=None, magnitude=ops.abs, kind="linear", elementary=None, taps=None):
    """Returns the piece y = W x + b with known coefficients of any sign: S = W [x != 0], D = sign(o') |W| sign(x).

    Args:
        forward: Function (x, kernel) -> W x, linear in both, so that `forward(x, magnitude(kernel))` is |W| x.
        kernel: Tensor of coefficients.
        bias: Tensor that broadcasts to the output, or None.
        transpose: Function (rows, kernel, shape of x) -> W^T rows; derived from `forward` unless given.
        magnitude: Function kernel -> the kernel of |W|.
        kind: Word for people.
        elementary: Function (kernel, in_shape, out_shape) -> factors of W with named axes, for `expression()`, where
            `kernel` is a function that returns it; one dense tensor unless given.
        taps: Multiply-adds for each unit of the output; by default all axes of the kernel but the last.
    """

    def run(record, slot):
        weights, shift = _weights(kernel, slot.value), _weights(bias, slot.value)
        apply = _in_dtype(forward, slot.value)
        linear_part = apply(slot.value, weights)
        value = linear_part if shift is None else linear_part + shift
        operand = LinearOperand(
            name=record.name,
            kind=kind,
            x=slot.value,
            # With a bias, o' is no value of the model's, and only its signs are kept.
            out=linear_part if shift is None else backend.signs(linear_part),
            forward=apply,
            transpose=transpose,
            kernel=weights,
            magnitude=magnitude,
            nonnegative=slot.nonnegative,
            gain=record.gain,
            elementary=elementary,
            taps=_taps(weights) if taps is None else taps,
        )
        # Without a bias the value is o', and D carries sign(o').
        output = record.slot(value, blocks_difference=shift is None)
        return record.stage([slot], output, [operand], None if shift is None else lambda: shift)

    return run


def nonnegative(forward, *, transpose=None, copies=False, kind="fixed"):
    """Returns the piece y = W x with fixed coefficients w >= 0, so |W| = W.

    Args:
        forward: Linear function x -> y.
        transpose: Function (rows, shape of x) -> rows; derived from `forward` unless given.
        copies: Every output is one input or a constant zero: E- = 0 and S = D.
        kind: Word for people.
    """
    return nonnegative_sum(lambda x: forward(x), [(forward, transpose)], copies=copies, kind=kind)


def nonnegative_sum(total, parts, *, copies=False, bias=None, kind="fixed"):
    """Returns the piece y = sum of W_k x_k with fixed coefficients w >= 0; the sign of o' is that of the total.

    Args:
        total: Function of all inputs -> y.
        parts: One (forward, transpose) for each input, as in `nonnegative`; `forward` may be None where only the
            transpose differs from an identity.
        copies, kind: As in `nonnegative`.
        bias: As in `signed_sum`.
    """
    signed = [(_without_kernel(f), _without_kernel_transposed(t), None) for f, t in parts]
    return signed_sum(total, signed, copies=copies, bias=bias, kind=kind)


def signed_sum(total, parts, *, copies=False, per_sample=False, bias=None, kind="sum"):
    """Returns the piece y = sum of W_k x_k + b, each part (forward, transpose, kernel) with coefficients of any sign.

    Args:
        total: Function of all inputs -> y.
        parts: One (forward, transpose, kernel) for each input, as in `linear`; a kernel None means w >= 0, fixed.
        copies: Every output is one input or a constant zero: E- = 0 and S = D.
        per_sample: Every kernel has the batch as its first axis.
        bias: Tensor of the shape of y, of constants among the inputs; None for zero.
        kind: Word for people.
    """

    def run(record, *slots):
        value = _like(total(*(slot.value for slot in slots)), slots[0].value)
        plain = all(kernel is None for *_, kernel in parts) and all(slot.nonnegative for slot in slots)
        operands = [
            LinearOperand(
                name=record.name,
                kind=kind,
                x=slot.value,
                out=value if bias is None or copies else backend.signs(value - bias),
                forward=_in_dtype(forward, slot.value),
                transpose=transpose,
                kernel=_weights(kernel, slot.value),
                per_sample=per_sample,
                taps=kernel.shape[-1] if per_sample else 1,
                nonnegative=slot.nonnegative,
                # With neither a negative coefficient nor a negative input, every term has the sign of the sum.
                single=copies or plain,
            )
            for slot, (forward, transpose, kernel) in zip(slots, parts, strict=True)
        ]
        clean = bias is None
        flags = {"blocks_sum": copies or (plain and clean), "blocks_difference": copies or clean}
        output = record.slot(value, nonnegative=plain and clean, **flags)
        return record.stage(slots, output, operands, None if clean else lambda: bias)

    return run


def elementwise(
    function,
    coefficient,
    *,
    bias=None,
    bounded=False,
    nonnegative=False,
    masked=False,
    through_zero=None,
    head=False,
    kind="elementwise",
):
    """Returns the piece y = f(x) = c x + b, element by element, with c = (f(x) - f(0)) / x: S = D = c [x != 0].

    Args:
        function: Function x -> y.
        coefficient: Function (x, y) -> c, finite everywhere, at x = 0 as well.
        bias: Function (x, y) -> b = f(0) or held statistics; None for zero.
        bounded: |c| is of the order of 1.
        nonnegative: y is never below zero.
        masked: c is 0 wherever x is 0.
        through_zero: c is 0 wherever y is 0. By default, where there is no bias: c = y / x.
        head: A softmax or sigmoid, left out where it ends the model.
        kind: Word for people.
    """

    def run(record, slot):
        x = slot.value
        y = _like(function(x), x)
        operand = ElementwiseOperand(
            name=record.name,
            kind=kind,
            x=x,
            out=y,
            multiplier=lambda: _times(coefficient(x, y)),
            gain=0 if bounded else record.gain,
            masks_sum=not masked,
            masks_difference=not masked,
        )
        through = bias is None if through_zero is None else through_zero
        output = record.slot(y, nonnegative=nonnegative, blocks_sum=through, blocks_difference=through)
        return record.stage([slot], output, [operand], bias and (lambda: bias(x, y)), head)

    return run


def affine(scale, shift, kind="normalization"):
    """Returns the piece y = scale x + shift with held scale and shift, tensors that broadcast to x."""

    def run(record, slot):
        factor, offset = _weights(scale, slot.value), _weights(shift, slot.value)
        piece = elementwise(
            lambda x: x * factor if offset is None else x * factor + offset,
            lambda x, y: factor,
            bias=None if offset is None else lambda x, y: offset,
            through_zero=False,
            kind=kind,
        )
        return piece(record, slot)

    return run


def rectifier(function, kind="relu"):
    """Returns the piece y = max(x, 0): c = [x > 0]."""

    def run(record, slot):
        x = slot.value
        y = _like(function(x), x)
        operand = ElementwiseOperand(
            name=record.name,
            kind=kind,
            x=x,
            out=y,
            multiplier=lambda: lambda t, rows: backend.keep_positive(t, y, rows),
            masks_sum=False,
            masks_difference=False,
        )
        output = record.slot(y, nonnegative=True, blocks_sum=True, blocks_difference=True)
        return record.stage([slot], output, [operand])

    return run


def selection(function, index, kind="selection"):
    """Returns the piece y_i = x_k(i): 1 at the selected element, E- = 0; a selected 0 is a zero excitation.

    Args:
        function: Function x -> y.
        index: Function (x, y) -> int64 (batch, *out), positions in the flat sample of x, first ones on ties.
        kind: Word for people.
    """

    def run(record, slot):
        x = slot.value
        y = _like(function(x), x)
        operand = SelectionOperand(name=record.name, kind=kind, x=x, out=y, index=lambda: index(x, y))
        output = record.slot(y, nonnegative=slot.nonnegative, blocks_sum=True, blocks_difference=True)
        return record.stage([slot], output, [operand])

    return run


def choice(function, chosen, kind="selection"):
    """Returns the piece that picks one of several inputs element by element (Maximum, Minimum).

    Args:
        function: Function of all inputs -> y.
        chosen: Function (*xs, y) -> list of 0/1 tensors, one an input; the first one on ties.
        kind: Word for people.
    """

    def constant(xs, y, live):
        parts = zip(chosen(*xs, y), xs, live)
        return sum(mask * ops.cast(x, y.dtype) for mask, x, alive in parts if not alive)

    return _coefficients(function, lambda xs, y, live: chosen(*xs, y), kind, constant, bounded=True)


def gate(function=None, kind="gate"):
    """Returns the piece y = x_1 ... x_n: each factor gets (product of the others) / n, and the parts add up to y.

    A factor that is held is a constant, and n counts the others.
    """

    def coefficients(xs, y, live):
        del y
        return [_product([*xs[:k], *xs[k + 1 :]]) / sum(live) if live[k] else None for k in range(len(xs))]

    return _coefficients(function or (lambda *xs: _product(xs)), coefficients, kind)


def _coefficients(function, coefficients, kind, constant=None, bounded=False):
    """One coefficient for each input that is not held; `constant` is what the held ones add."""

    def run(record, *slots):
        xs = aligned([slot.value for slot in slots])
        y, live = function(*xs), [not slot.held for slot in slots]
        alive = [k for k, one in enumerate(live) if one]
        operands = [
            ElementwiseOperand(
                name=record.name,
                kind=kind,
                x=slots[k].value,
                out=y,
                multiplier=lambda k=k: _times(coefficients(xs, y, live)[k]),
                gain=0 if bounded else record.gain,
            )
            for k in alive
        ]
        output = record.slot(y, nonnegative=all(slot.nonnegative for slot in slots), held=not alive)
        bias = (lambda: constant(xs, y, live)) if constant and not all(live) else None
        return record.stage([slots[k] for k in alive], output, operands, bias)

    return run


def held(function):
    """Returns the piece of a value that nothing excites: an index, a comparison, attention weights.

    Args:
        function: Function of all inputs -> y, or a structure of them.
    """
    return lambda record, *slots: tree.map_structure(
        lambda value: record.slot(value, held=True), function(*(slot.value for slot in slots))
    )


def source(function):
    """Returns the piece of a value that excitations start from: the vectors of an embedding. It has no coefficients.

    Args:
        function: Function of all inputs -> y.
    """

    def run(record, *slots):
        value = backend.snapshot(function(*(slot.value for slot in slots)), record.dtype)
        return record.stage([], record.slot(value), [], lambda: value)

    return run


def aligned(xs):
    """Returns tensors (batch, ...) of one rank: axes of size 1 behind the batch, as Keras merges them."""
    rank = max(len(x.shape) for x in xs)
    shapes = [backend.dims(x) for x in xs]
    return [
        x if len(shape) == rank else ops.reshape(x, (shape[0], *[1] * (rank - len(shape)), *shape[1:]))
        for x, shape in zip(xs, shapes)
    ]


def _times(coefficient):
    return lambda t, rows: backend.multiply_rows(t, coefficient, rows)


def _product(xs: Sequence):
    result = xs[0]
    for x in xs[1:]:
        result = result * x
    return result


def _weights(values, x):
    """Returns weights as tensors of the dtype of x."""
    return None if values is None else backend.snapshot(values, x.dtype)


def _taps(kernel):
    return math.prod(kernel.shape[:-1]) if backend.is_tensor(kernel) else 1


def _like(value, x):
    return value if value.dtype == x.dtype else ops.cast(value, x.dtype)


def _in_dtype(forward, x):
    """Returns a linear map that keeps the dtype: a layer of half precision rounds what it emits."""
    return lambda rows, kernel: _like(forward(rows, kernel), x)


def _without_kernel(forward):
    return lambda x, kernel: forward(x)


def _without_kernel_transposed(transpose):
    return transpose and (lambda rows, kernel, shape: transpose(rows, shape))
