"""What one forward pass records: values on slots, and excitations as edges between them."""

from dataclasses import dataclass, field

import keras
from keras import ops

from pane_keras import backend
from pane_keras.errors import ReleasedError
from pane_keras.operand import Operand
from pane_keras.scaled import USUAL_GAIN


@dataclass(frozen=True)
class Slot:
    """A value of the forward pass: what one stage of a layer emitted.

    Attributes:
        index: Position in topological order.
        lazy: The value, or the step put off that makes it.
        nonnegative: No entry is below zero, whatever the input.
        unit: No entry is larger than 1 in magnitude, whatever the input: a product with it does not grow.
        held: Nothing excites it: a comparison, an index, attention weights. A constant for whatever it multiplies.
        blocks_sum, blocks_difference: The S or D of every excitation into this slot is zero wherever the value is,
            so a mask on what leaves it would repeat theirs.
    """

    index: int
    lazy: object
    nonnegative: bool = False
    unit: bool = False
    held: bool = False
    blocks_sum: bool = False
    blocks_difference: bool = False

    @property
    def value(self):
        """Tensor (batch, *shape)."""
        return backend.taken(self.lazy)

    @property
    def glance(self):
        """The value for a rule, which may not look further than its shape."""
        return backend.glanced(self.lazy)


@dataclass(frozen=True, eq=False)
class Edge:
    """One excitation between two slots."""

    source: int
    target: int
    operand: Operand


@dataclass(frozen=True)
class Stage:
    """One stage of a layer: `value = sum of its edges applied to their signals + bias`.

    Attributes:
        name: The layer it belongs to.
        output: Slot that it writes.
        edges: Excitations into it.
        bias: Function without arguments that returns what does not multiply the input, or None for zero. It comes
            from parameters, f(0) or held statistics, so that completeness can be checked.
        head: A softmax or sigmoid, left out of the maps where it ends the model.
    """

    name: str
    output: int
    edges: tuple
    bias: object = None
    head: bool = False


class Gone:
    """What stands where the contents of a released trace were."""

    def _refuse(self, *_):
        raise ReleasedError("The trace was released, and its tensors with it. Make a new one: pane.trace(inputs).")

    __getitem__ = __iter__ = __len__ = __contains__ = _refuse


@dataclass
class Record:
    """Slots, edges and stages in the order in which the forward pass made them.

    Attributes:
        slots, stages: What was recorded.
        name: The layer that records at the moment.
        gain: Bits by which a stage of this layer may change the size of rows.
        graphs: Graphs of layers that were read for this pass, by what they were called with.
        compositions: What queries composed, by what they asked for, so that repeated ones share it.
        dtype: Of every value that is not a whole number, and of all coefficients: "float32" or "float64".
    """

    slots: list = field(default_factory=list)
    stages: list = field(default_factory=list)
    name: str = ""
    gain: int = USUAL_GAIN
    dtype: str = "float32"
    graphs: dict = field(default_factory=dict)
    compositions: dict = field(default_factory=dict)

    def release(self):
        """Lets go of all tensors; what is asked afterwards raises ReleasedError."""
        self.slots, self.stages, self.graphs, self.compositions = Gone(), Gone(), {}, Gone()

    def slot(self, value, **flags):
        """Adds a value, a tensor or a step put off, and returns its slot."""
        self.slots.append(Slot(len(self.slots), backend.settled(value), **flags))
        return self.slots[-1]

    def signal(self, slot):
        """Returns the value of a slot, given by its index, as numbers that coefficients multiply: 0 for words."""
        value = self.slots[slot].value
        if keras.backend.standardize_dtype(value.dtype) == "string":
            return ops.zeros(backend.dims(value), self.dtype)
        return value if keras.backend.is_float_dtype(value.dtype) else ops.cast(value, self.dtype)

    def stage(self, inputs, output, operands, bias=None, head=False):
        """Adds the stage that wrote `output` from the slots `inputs`, with one operand an input."""
        edges = tuple(Edge(i.index, output.index, o) for i, o in zip(inputs, operands, strict=True))
        self.stages.append(Stage(self.name, output.index, edges, bias, head))
        return output

    @property
    def edges(self):
        """All edges, in topological order of their targets."""
        return [edge for stage in self.stages for edge in stage.edges]
