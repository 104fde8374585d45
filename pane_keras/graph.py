"""The graph of a Keras model as plain data: calls of layers and operations, in an order in which they can run."""

from dataclasses import dataclass

import keras
from keras import tree


@dataclass(frozen=True)
class Value:
    """A static reference to a tensor of the graph."""

    index: int


@dataclass(frozen=True)
class Call:
    """One call of an operation: a shared layer has one for each time it is called.

    Attributes:
        name: Unique name; nested models prefix it, `backbone/conv1`, and further calls get `#2`, `#3`.
        operation: The user's own layer or operation.
        args, kwargs: Its arguments, with `Value` where a tensor stands.
        outputs: What it emits: a `Value`, or a structure of them.
        shapes: Static shape of each output, flattened.
    """

    name: str
    operation: keras.Operation
    args: tuple
    kwargs: dict
    outputs: object
    shapes: tuple = ()

    @property
    def inputs(self):
        """Indices of the tensors that it reads, in the order of its arguments."""
        return tuple(v.index for v in tree.flatten((self.args, self.kwargs)) if isinstance(v, Value))


@dataclass(frozen=True)
class Graph:
    """The calls of a model in an order in which they can run.

    Attributes:
        inputs: Names of the inputs; tensor k is input k.
        specs: Symbolic tensors of the inputs.
        structure: The inputs as the model nests them, with `Value` leaves.
        calls: All calls.
        outputs: The model's output structure with `Value` leaves.
        output_names: A name for each output, flattened.
    """

    inputs: tuple
    specs: tuple
    structure: object
    calls: tuple
    outputs: object
    output_names: tuple
