"""Ready-made pieces that a rule returns: each runs a stage of a layer once and records its excitation.

A piece is a function of a `Record` and of the slots it reads, and returns the slot it wrote. The law of each piece
stands in its docstring; section 2 of DESIGN.md derives them.
"""

from collections.abc import Callable, Sequence

from keras import ops

from pane_keras import backend
from pane_keras.linear_operand import LinearOperand
from pane_keras.single_operand import ElementwiseOperand, SelectionOperand

Piece = Callable
"""Function (record, *slots) -> slot."""


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


def linear(forward, kernel, bias=None, *, transpose=None, magnitude=ops.abs, kind="linear", elementary=None):
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
    """

    kernel, bias = backend.snapshot(kernel), None if bias is None else backend.snapshot(bias)

    def run(record, slot):
        linear_part = forward(slot.value, kernel)
        value = linear_part if bias is None else linear_part + bias
        operand = LinearOperand(
            name=record.name,
            kind=kind,
            x=slot.value,
            # With a bias, o' is no value of the model's, and only its signs are kept.
            out=linear_part if bias is None else backend.signs(linear_part),
            forward=forward,
            transpose=transpose,
            kernel=kernel,
            magnitude=magnitude,
            nonnegative=slot.nonnegative,
            gain=record.gain,
            elementary=elementary,
        )
        # Without a bias the value is o', and D carries sign(o').
        output = record.slot(value, blocks_difference=bias is None)
        return record.stage([slot], output, [operand], None if bias is None else lambda: bias)

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


def nonnegative_sum(total, parts, *, copies=False, kind="fixed"):
    """Returns the piece y = sum of W_k x_k with fixed coefficients w >= 0; the sign of o' is that of the total.

    Args:
        total: Function of all inputs -> y.
        parts: One (forward, transpose) for each input, as in `nonnegative`; `forward` may be None where only the
            transpose differs from an identity.
        copies, kind: As in `nonnegative`.
    """
    signed = [(_without_kernel(f), _without_kernel_transposed(t), None) for f, t in parts]
    return signed_sum(total, signed, copies=copies, kind=kind)


def signed_sum(total, parts, *, copies=False, kind="sum"):
    """Returns the piece y = sum of W_k x_k, each part (forward, transpose, kernel) with coefficients of any sign."""

    def run(record, *slots):
        value = total(*(slot.value for slot in slots))
        plain = all(kernel is None for *_, kernel in parts) and all(slot.nonnegative for slot in slots)
        operands = [
            LinearOperand(
                name=record.name,
                kind=kind,
                x=slot.value,
                out=value,
                forward=forward,
                transpose=transpose,
                kernel=kernel,
                nonnegative=slot.nonnegative,
                # With neither a negative coefficient nor a negative input, every term has the sign of the sum.
                single=copies or plain,
            )
            for slot, (forward, transpose, kernel) in zip(slots, parts, strict=True)
        ]
        output = record.slot(value, nonnegative=plain, blocks_sum=copies or plain, blocks_difference=True)
        return record.stage(slots, output, operands)

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
        x, y = slot.value, function(slot.value)
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
    scale, shift = backend.snapshot(scale), None if shift is None else backend.snapshot(shift)
    return elementwise(
        lambda x: x * scale if shift is None else x * scale + shift,
        lambda x, y: scale,
        bias=None if shift is None else lambda x, y: shift,
        through_zero=False,
        kind=kind,
    )


def rectifier(function, kind="relu"):
    """Returns the piece y = max(x, 0): c = [x > 0]."""

    def run(record, slot):
        x, y = slot.value, function(slot.value)
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
        x, y = slot.value, function(slot.value)
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
    return _coefficients(function, lambda xs, y: chosen(*xs, y), kind, bounded=True)


def gate(function=None, kind="gate"):
    """Returns the piece y = x_1 ... x_n: each factor gets (product of the others) / n, and the parts add up to y."""

    def coefficients(xs, y):
        del y
        others = [_product([*xs[:k], *xs[k + 1 :]]) for k in range(len(xs))]
        return [other / len(xs) for other in others]

    return _coefficients(function or (lambda *xs: _product(xs)), coefficients, kind)


def _coefficients(function, coefficients, kind, bounded=False):
    def run(record, *slots):
        xs = aligned([slot.value for slot in slots])
        y = function(*xs)
        operands = [
            ElementwiseOperand(
                name=record.name,
                kind=kind,
                x=slot.value,
                out=y,
                multiplier=lambda k=k: _times(coefficients(xs, y)[k]),
                gain=0 if bounded else record.gain,
            )
            for k, slot in enumerate(slots)
        ]
        output = record.slot(y, nonnegative=all(slot.nonnegative for slot in slots))
        return record.stage(slots, output, operands)

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


def _without_kernel(forward):
    return lambda x, kernel: forward(x)


def _without_kernel_transposed(transpose):
    return transpose and (lambda rows, kernel, shape: transpose(rows, shape))
