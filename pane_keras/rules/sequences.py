"""Pieces that take a sequence (batch, time, ...) apart into steps and put steps together again."""

from keras import ops

from pane_keras import pieces
from pane_keras.rules.merging import placed


def steps(record, slot):
    """Returns a slot for each step of a sequence."""
    cut = lambda t: pieces.nonnegative(lambda x: x[:, t], copies=True, kind="step")  # noqa: E731
    return [cut(t)(record, slot) for t in range(slot.value.shape[1])]


def stacked(record, slots):
    """Returns the slot of the sequence of steps."""
    parts = [_at(t, len(slots)) for t in range(len(slots))]
    total = lambda *xs: ops.stack(xs, axis=1)  # noqa: E731
    return pieces.nonnegative_sum(total, parts, copies=True, kind="sequence")(record, *slots)


def kept(record, mask, new, old):
    """Returns the slot that is `new` where a mask (batch,) is true, and `old` elsewhere."""
    shape = (-1, *[1] * (len(new.value.shape) - 1))
    first = ops.cast(ops.reshape(mask, shape), new.value.dtype) + ops.zeros_like(new.value)
    function = lambda a, b: ops.where(first > 0, a, b)  # noqa: E731
    return pieces.choice(function, lambda *_: [first, 1 - first], "kept state")(record, new, old)


def _at(t, total):
    forward, back = placed(1, t, 1, total)
    return (lambda x: forward(ops.expand_dims(x, 1))), (lambda rows, shape: ops.reshape(back(rows, None), shape))
