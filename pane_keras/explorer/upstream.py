"""Which layers can be asked about, and which of them lie before another: what the explorer offers to choose from."""

import math
from typing import NamedTuple


class Layer(NamedTuple):
    """A layer to choose from.

    Attributes:
        name: As `Trace.between` takes it.
        shape: Of one sample of its output.
    """

    name: str
    shape: tuple

    def __str__(self):
        return f"{self.name}  ({' x '.join(map(str, self.shape)) or 'one number'})"


def targets(trace):
    """Returns every `Layer` that can be explained, from the logits down."""
    names = list(reversed(list(trace)))
    names = ["logits", *names] if len(trace._outputs) == 1 else names
    return [Layer(name, _shape(trace, trace._target(name))) for name in names]


def sources(trace, target):
    """Returns every `Layer` that a path joins to the target, the nearest first, the inputs last."""
    return [Layer(name, _shape(trace, slot)) for name, slot in _upstream(trace, target)]


def source_before(trace, target):
    """Returns the name of the nearest source that a layer with a kernel separates from the target.

    Layers with places to point at are preferred. Where there is none before the target, the farthest source is
    returned, and None where nothing excites the target.
    """
    mixed, found = _mixing(trace, trace._target(target)), _upstream(trace, target)
    apart = [(name, slot) for name, slot in found if mixed[slot]]
    inner = [(name, slot) for name, slot in apart if name in trace]
    spatial = [name for name, slot in inner if len(_shape(trace, slot)) > 1]
    return next(iter([*spatial, *(name for name, _ in (*inner, *apart, *found[-1:]))]), None)


def signal(trace, name, of_target=True):
    """Returns the output of a layer, (batch, *shape); the logits for a final softmax."""
    return trace._record.signal(trace._target(name) if of_target else trace._source(name))


def size(shape):
    """Returns how many units a sample of this shape has."""
    return math.prod(shape)


def is_output(trace, name):
    """Returns whether a layer is an output of the model: its units are classes."""
    slot = trace._target(name)
    return any(slot == trace._head(output) for output in trace._outputs)


def _upstream(trace, target):
    slot = trace._target(target)
    mixed = _mixing(trace, slot)
    inner = [(name, trace._source(name)) for name in reversed(list(trace))]
    named = list(trace.input_names) if len(trace.input_names) > 1 else ["input"]
    inputs = [(name, trace._source(name)) for name in named]
    return [(name, at) for name, at in (*inner, *inputs) if at in mixed and at != slot]


def _mixing(trace, slot):
    """How many layers with a kernel lie between each slot and this one, along the path that has most of them."""
    counts = {slot: 0}
    for stage in reversed(trace._record.stages):
        for edge in stage.edges if stage.output in counts else ():
            count = counts[stage.output] + bool(edge.operand.kernels)
            counts[edge.source] = max(count, counts.get(edge.source, 0))
    return counts


def _shape(trace, slot):
    return tuple(trace._record.slots[slot].value.shape[1:])
