"""POS + NEG as the paper writes it: four products a layer (eq. 17), P and N in float32, added up at the end.

On a deep network P and N are many orders of magnitude larger than their sum, so what is left of it is rounding noise
(docs/concepts.md). It stands in the tables to show what precision does, and is no way to explain anything.
"""

from dataclasses import replace

from keras import ops

from pane_keras import backend
from pane_keras.block import closing
from pane_keras.linear_operand import LinearOperand
from pane_keras.selection import class_rows

_UNLIMITED = 2**30


def literal_chain(trace, targets):
    """Returns (P, N) of one logit of each sample over the input, (batch, *shape), in the model's float dtype.

    Args:
        trace: A `Trace` of a model with one input.
        targets: Class indices (batch,).
    """
    record, top = trace._record, trace._logits_slot(None)
    row = class_rows(targets, record.slots[top].value, "logits")[0]
    arrived, stages = {top: (row, ops.zeros_like(row))}, {stage.output: stage for stage in record.stages}
    for slot in range(top, -1, -1):
        rows = arrived.pop(slot) if slot in arrived and slot in stages else None
        for edge in stages[slot].edges if rows else ():
            pulled, known = _pull(edge.operand, *rows), arrived.get(edge.source)
            arrived[edge.source] = pulled if known is None else tuple(a + b for a, b in zip(known, pulled))
    return arrived[trace._input_slots[0]]


def _pull(operand, p, n):
    """P E+ + N E- and P E- + N E+; a layer of single terms has no E-."""
    if not isinstance(operand, LinearOperand) or operand.single:
        return _single(operand, p), _single(operand, n)
    kernel = operand.kernel
    parts = (None, None) if kernel is None else (ops.maximum(kernel, 0), ops.minimum(kernel, 0))
    return (
        _excited(operand, p, 1, parts) + _excited(operand, n, -1, parts),
        _excited(operand, n, 1, parts) + _excited(operand, p, -1, parts),
    )


def _excited(operand, rows, part, kernels):
    """E+ (part = 1) or E- (part = -1): the coefficients whose product with x has o''s sign, or the opposite one."""
    signed = backend.flip_signs(rows, operand.out, 1)
    # Rows at an o' of zero are halved: there the two parts are equivalent.
    ahead, against = (rows + part * signed) / 2, (rows - part * signed) / 2
    plus, minus = kernels
    positive = backend.keep_positive(_transposed(operand, ahead, plus, against, minus), operand.x, 1)
    if operand.nonnegative:
        return positive
    return positive + backend.keep_positive(_transposed(operand, against, plus, ahead, minus), -operand.x, 1)


def _transposed(operand, a, plus, b, minus):
    """a times the part of W above zero, plus b times the part below it; fixed coefficients have none below."""
    bare = replace(operand.as_single(), masks_sum=False, masks_difference=False)
    if plus is None:
        return _single(bare, a)
    return _single(replace(bare, kernel=plus), a) + _single(replace(bare, kernel=minus), b)


def _single(operand, rows):
    # With room for everything no row is divided by a power of two on the way, as in the paper.
    return operand.pull(closing(rows[None], room=_UNLIMITED)).sum.mantissa
