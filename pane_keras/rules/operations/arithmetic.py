"""Operations on two tensors, element by element: of two live ones, or of a live one and a constant."""

from keras import ops

from pane_keras import backend, pieces
from pane_keras.arguments import is_live, values_of
from pane_keras.errors import UnsupportedLayerError
from pane_keras.record import Slot
from pane_keras.registry import register_as
from pane_keras.rules.activations import quotient
from pane_keras.rules.merging import difference_piece, first_equal, sum_piece
from pane_keras.rules.operations.samples import refuse


@register_as("Add")
def add(operation, arguments):
    """y = x1 + x2: coefficients 1; a constant is a bias."""
    constant, _ = one_live(operation, arguments)
    if constant is None:
        return sum_piece([slot.lazy for slot in arguments.live], "add")
    return _affine(arguments, 1.0, constant)


@register_as("Subtract")
def subtract(operation, arguments):
    """y = x1 - x2: coefficients 1 and -1; a constant is a bias."""
    constant, first = one_live(operation, arguments)
    if constant is None:
        return difference_piece([slot.value for slot in arguments.live])
    return _affine(arguments, 1.0, -constant) if first else _affine(arguments, -1.0, constant)


@register_as("Negative")
def negative(operation, arguments):
    """y = -x."""
    return _affine(arguments, -1.0, None)


@register_as("Multiply")
def multiply(operation, arguments):
    """y = x1 x2: each of two live factors gets half of the other; a constant factor is the coefficient."""
    constant, _ = one_live(operation, arguments)
    return pieces.gate() if constant is None else _affine(arguments, constant, None)


@register_as("Divide", "TrueDivide")
def divide(operation, arguments):
    """y = x1 / x2 = x1 (1 / x2): a gate of x1 and of the reciprocal of x2; a constant is a coefficient."""
    constant, first = one_live(operation, arguments)
    if constant is None:
        return lambda record, a, b: pieces.gate()(record, a, pole(lambda x: 1 / x)(record, b))
    return _affine(arguments, 1 / constant, None) if first else pole(arguments.function())


@register_as("Power")
def power(operation, arguments):
    """y = x^c, or c^x; a power of one live tensor to another has no coefficients."""
    constant, first = one_live(operation, arguments)
    if constant is None:
        raise UnsupportedLayerError(
            f"The operation {operation.name!r} raises one tensor to the power of another, which has no linear form at "
            "a sample. Use a constant exponent, or put it into a layer of your own and register that."
        )
    if first:
        return _power_of(arguments.function(), constant)
    return pieces.elementwise(
        arguments.function(),
        lambda x, y: quotient(ops.expm1(x * ops.log(constant)), x, ops.log(constant)),
        bias=lambda x, y: ops.ones_like(x),
        kind="power",
    )


def _power_of(function, exponent):
    """x^0 = 1 has no coefficient: it is a bias."""
    if not backend.is_symbolic(exponent) and not bool(ops.any(exponent == 0)):
        return pole(function)
    one = ops.cast(exponent == 0, exponent.dtype)
    return pieces.elementwise(
        function, lambda x, y: quotient(y - one, x, 0), bias=lambda x, y: one * ops.ones_like(x), kind="power"
    )


@register_as("Maximum", "Fmax")
def maximum(operation, arguments):
    """1 at the larger of the two, the first one on ties."""
    return _chosen(operation, arguments, ops.maximum)


@register_as("Minimum", "Fmin")
def minimum(operation, arguments):
    """1 at the smaller of the two, the first one on ties."""
    return _chosen(operation, arguments, ops.minimum)


@register_as("Where")
def where(operation, arguments):
    """y = x1 where a condition holds, else x2: 1 at the chosen one."""
    condition = values_of(arguments.get("condition"))
    sides = [arguments.get("x1"), arguments.get("x2")]
    _refuse_ranks(operation, [slot.value for slot in arguments.slots])

    def run(record, *_):
        y = arguments.function()(*(slot.value for slot in arguments.live))
        for side in (arguments.get("condition"), *sides):
            _constant(operation, side, y)
        first = ops.cast(ops.broadcast_to(ops.cast(condition, "bool"), backend.dims(y)), record.dtype)
        slots = [_as_slot(record, side, y) for side in sides]
        return pieces.choice(lambda *xs: y, lambda *_: [first, 1 - first], "where")(record, *slots)

    return run


def one_live(operation, arguments):
    """Returns (constant, whether the live one is the first); the constant is None where both are live."""
    sides = [arguments.get("x1"), arguments.get("x2")]
    live = list(map(is_live, sides))
    if all(live):
        _refuse_ranks(operation, [side.lazy for side in sides])
        return None, True
    x = sides[live.index(True)].value
    return _constant(operation, sides[live.index(False)], x), live[0]


def _constant(operation, side, x):
    """Returns a constant as a tensor of x's dtype; it is the same for all samples, or held by the model for each."""
    constant = ops.cast(ops.convert_to_tensor(backend.snapshot(values_of(side))), x.dtype)
    rank, own = len(x.shape), len(constant.shape)
    if isinstance(side, Slot):
        _refuse_ranks(operation, [x, constant] if own else [x])
    elif own > rank or (own == rank and own and constant.shape[0] != 1 and not _one_a_sample(side, x)):
        refuse(operation)
    return constant


def _one_a_sample(side, x):
    """Whether a constant is a tensor that a rule computed from its inputs, rather than an array in a model."""
    return backend.is_tensor(side) and side.shape[0] == x.shape[0]


def pole(function):
    """Returns the piece of a function that is 0 at 0, or not finite: c = f(x) / x, without a bias."""
    return pieces.elementwise(function, lambda x, y: quotient(y, x, 0), kind="power")


def _affine(arguments, scale, shift):
    function = arguments.function()
    return pieces.elementwise(
        function,
        lambda x, y: ops.cast(scale, x.dtype),
        bias=None if shift is None else lambda x, y: shift,
        through_zero=False,
        bounded=isinstance(scale, float),  # 1 or -1
        kind="scale and shift",
    )


def _chosen(operation, arguments, function):
    one_live(operation, arguments)
    sides = [arguments.get("x1"), arguments.get("x2")]

    def run(record, *_):
        y = arguments.function()(*(slot.value for slot in arguments.live))
        slots = [_as_slot(record, side, y) for side in sides]
        return pieces.choice(function, first_equal, operation.name)(record, *slots)

    return run


def _as_slot(record, side, y):
    """A live slot as it is; anything else as a held one, as large as the result."""
    if is_live(side):
        return side
    value = ops.cast(ops.convert_to_tensor(backend.snapshot(values_of(side))), record.dtype)
    return record.slot(ops.broadcast_to(value, backend.dims(y)), held=True)


def _refuse_ranks(operation, values):
    if len({len(value.shape) for value in values}) > 1:
        raise UnsupportedLayerError(
            f"The operation {operation.name!r} broadcasts the shapes {[tuple(v.shape) for v in values]}, so the batch "
            "axis of one meets another axis of the other. Give both the same number of axes first."
        )
