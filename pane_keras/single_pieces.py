"""Pieces whose every output has one term: element by element, a selected element, a factor of a product."""

from functools import partial, reduce

from keras import ops, tree

from pane_keras import backend
from pane_keras.linear_pieces import in_dtype_of, weights_like
from pane_keras.single_operand import ElementwiseOperand, SelectionOperand


def elementwise(
    function,
    coefficient,
    *,
    bias=None,
    bounded=False,
    nonnegative=False,
    unit=False,
    masked=False,
    through_zero=None,
    head=False,
    kind="elementwise",
    by_channel=None,
):
    """Returns the piece y = f(x) = c x + b, element by element, with c = (f(x) - f(0)) / x: S = D = c [x != 0].

    Args:
        function: Function x -> y.
        coefficient: Function (x, y) -> c, finite everywhere, at x = 0 as well.
        bias: Function (x, y) -> b = f(0) or held statistics; None for zero.
        bounded: |c| is of the order of 1.
        nonnegative: y is never below zero.
        unit: |y| is never above 1.
        masked: c is 0 wherever x is 0.
        through_zero: c is 0 wherever y is 0. By default, where there is no bias: c = y / x.
        head: A softmax or sigmoid, left out where it ends the model.
        kind: Word for people.
        by_channel: The coefficient as a tensor (channels,), where it is the same in every sample and at every place.
    """
    return _elementwise(
        partial(backend.step, function),
        partial(backend.step, coefficient),
        bias=bias,
        through=bias is None if through_zero is None else through_zero,
        bounded=bounded,
        masked=masked,
        head=head,
        kind=kind,
        by_channel=by_channel,
        nonnegative=nonnegative,
        unit=unit,
    )


def _elementwise(
    function, coefficient, *, bias, through, kind, bounded=False, masked=False, head=False, by_channel=None, **flags
):
    """`elementwise` with a function x -> y and a function (x, y) -> c that take and return what is put off.

    Args:
        function, coefficient, bias, kind, bounded, masked, head, by_channel: As in `elementwise`.
        through: c is 0 wherever y is 0.
        **flags: Those of the slot of y.
    """

    def run(record, slot):
        x = slot.lazy
        y = in_dtype_of(function(x), x)
        operand = ElementwiseOperand(
            name=record.name,
            kind=kind,
            x=x,
            out=y,
            multiplier=lambda: _times(coefficient(x, y)),
            by_channel=by_channel,
            gain=0 if bounded else record.gain,
            masks_sum=not masked,
            masks_difference=not masked,
        )
        output = record.slot(y, blocks_sum=through, blocks_difference=through, **flags)
        return record.stage([slot], output, [operand], bias and (lambda: bias(*map(backend.taken, (x, y)))), head)

    return run


def affine(scale, shift, kind="normalization"):
    """Returns the piece y = scale x + shift with held scale and shift, tensors that broadcast to x."""

    def run(record, slot):
        factor, offset = weights_like(scale, slot.lazy), weights_like(shift, slot.lazy)
        piece = _elementwise(
            lambda x: backend.product(x, factor) if offset is None else backend.moved(x, factor, offset),
            lambda x, y: factor,
            bias=None if offset is None else lambda x, y: offset,
            through=False,
            kind=kind,
            by_channel=_by_channel(factor, slot.lazy),
        )
        return piece(record, slot)

    return run


def _by_channel(factor, x):
    """Returns a factor as a tensor (channels,) if it is one number for each entry of the last axis, else None."""
    channels = x.shape[-1]
    if not backend.is_tensor(factor) or tuple(factor.shape) != (1,) * (len(factor.shape) - 1) + (channels,):
        return None
    return ops.reshape(factor, (channels,))


def rectifier(function, kind="relu"):
    """Returns the piece y = max(x, 0): c = [x > 0]."""

    def run(record, slot):
        x = slot.lazy
        y = in_dtype_of(backend.step(function, x), x)
        operand = ElementwiseOperand(
            name=record.name,
            kind=kind,
            x=x,
            out=y,
            multiplier=lambda: lambda t, rows: backend.keep_positive(t, y, rows),
            binary=True,
            masks_sum=False,
            masks_difference=False,
        )
        output = record.slot(y, nonnegative=True, blocks_sum=True, blocks_difference=True)
        return record.stage([slot], output, [operand])

    return run


def selection(function, index, kind="selection", stencil=None, transpose=None):
    """Returns the piece y_i = x_k(i): 1 at the selected element, E- = 0; a selected 0 is a zero excitation.

    Args:
        function: Function x -> y.
        index: Function (x, y) -> int64 (batch, *out), positions in the flat sample of x, first ones on ties.
        kind: Word for people.
        stencil: Function (in_space, out_space) -> the `Stencil` that the selected elements lie in, channels last, each
            in its own channel.
        transpose: Function (x, y) -> the function t like y -> t like x that a scatter by the index would be, or None
            where that is the way to go.
    """

    def run(record, slot):
        x = slot.value
        y = in_dtype_of(function(x), x)
        reach = stencil and stencil(tuple(x.shape[1:-1]), tuple(y.shape[1:-1]))
        operand = SelectionOperand(
            name=record.name,
            kind=kind,
            x=x,
            out=y,
            index=lambda: index(x, y),
            stencil=reach,
            channels=reach and "own",
            transpose=lambda: transpose(x, y) if transpose else None,
        )
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
        xs, y = [backend.taken(x) for x in xs], backend.taken(y)
        parts = zip(chosen(*xs, y), xs, live)
        return sum(mask * ops.cast(x, y.dtype) for mask, x, alive in parts if not alive)

    return _coefficients(
        _of_tensors(function), lambda xs, y, live: chosen(*map(backend.taken, (*xs, y))), kind, constant, bounded=True
    )


def gate(function=None, kind="gate"):
    """Returns the piece y = x_1 ... x_n: each factor gets (product of the others) / n, and the parts add up to y.

    A factor that is held is a constant, and n counts the others.
    """

    def coefficients(xs, y, live):
        del y
        n = ops.convert_to_tensor(sum(live), dtype=xs[0].dtype)
        others = [[*xs[:k], *xs[k + 1 :]] for k in range(len(xs))]
        return [backend.step(ops.divide, _product(rest), n) if alive else None for rest, alive in zip(others, live)]

    return _coefficients(_of_tensors(function) if function else (lambda *xs: _product(xs)), coefficients, kind)


def _coefficients(function, coefficients, kind, constant=None, bounded=False):
    """One coefficient for each input that is not held; `constant` is what the held ones add.

    All functions take what is put off.
    """

    def run(record, *slots):
        xs = aligned([slot.lazy for slot in slots])
        y, live = function(*xs), [not slot.held for slot in slots]
        alive = [k for k, one in enumerate(live) if one]
        operands = [
            ElementwiseOperand(
                name=record.name,
                kind=kind,
                x=slots[k].lazy,
                out=y,
                multiplier=lambda k=k: _times(coefficients(xs, y, live)[k]),
                gain=0 if bounded or all(other.unit for other in (*slots[:k], *slots[k + 1 :])) else record.gain,
            )
            for k in alive
        ]
        flags = {name: all(getattr(slot, name) for slot in slots) for name in ("nonnegative", "unit")}
        output = record.slot(y, held=not alive, **flags)
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
        x if len(shape) == rank else ops.reshape(backend.taken(x), (shape[0], *[1] * (rank - len(shape)), *shape[1:]))
        for x, shape in zip(xs, shapes)
    ]


def _times(coefficient):
    return lambda t, rows: backend.multiply_rows(t, coefficient, rows)


def _of_tensors(function):
    return lambda *xs: function(*map(backend.taken, xs))


def _product(xs):
    return reduce(backend.product, xs)
