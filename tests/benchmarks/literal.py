"""The paper's double chain as it is written: four products a layer, P and N in float32, no scales.

Kept for comparison of speed and precision only. It walks the operands of a trace from the logits to the input.
"""

from keras import ops

from pane_keras import backend
from pane_keras.block import closing
from pane_keras.linear_operand import LinearOperand


def literal_chain(trace):
    """Returns (P, N) of each sample's top logit over the input, composed by eq. (17) in float32."""
    record = trace._record
    target = trace._logits_slot(None)
    logits = record.slots[target].value
    row = ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1])
    arrived = {target: (row, ops.zeros_like(row))}
    stages = {stage.output: stage for stage in record.stages}
    for slot in range(target, -1, -1):
        if slot not in arrived or slot not in stages:
            continue
        rows = arrived.pop(slot)
        for edge in stages[slot].edges:
            pulled = _pull(edge.operand, *rows)
            known = arrived.get(edge.source)
            arrived[edge.source] = pulled if known is None else tuple(a + b for a, b in zip(known, pulled))
    return arrived[trace._input_slots[0]]


def _pull(operand, p, n):
    if not isinstance(operand, LinearOperand) or operand.single:
        return _single(operand, p), _single(operand, n)
    kernel = operand.kernel
    plus, minus = (None, None) if kernel is None else (ops.maximum(kernel, 0), ops.minimum(kernel, 0))

    def excite(rows, part):
        """E+ (part = 1) or E- (part = -1): the part of the kernel whose product with x has that sign times o''s."""
        signed = backend.flip_signs(rows, operand.out, 1)
        ahead = (rows + part * signed) / 2
        against = (rows - part * signed) / 2
        return _by_sign_of_input(operand, ahead, against, plus, minus)

    return excite(p, 1) + excite(n, -1), excite(n, 1) + excite(p, -1)


def _by_sign_of_input(operand, ahead, against, plus, minus):
    positive = backend.keep_positive(_transposed(operand, ahead, plus, against, minus), operand.x, 1)
    if operand.nonnegative:
        return positive
    return positive + backend.keep_positive(_transposed(operand, against, plus, ahead, minus), -operand.x, 1)


def _transposed(operand, a, plus, b, minus):
    if plus is None:
        return operand._transposed(a, None)
    return operand._transposed(a, plus) + operand._transposed(b, minus)


def _single(operand, rows):
    return operand.pull(closing(rows[None])).sum.mantissa
