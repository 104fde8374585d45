"""The graph of a Keras model, read with public API and without running user code: a list of calls."""

from dataclasses import dataclass
from functools import cache

import keras
from keras import tree

from pane_keras.errors import ModelError


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
        outputs: Indices of the tensors that it emits, flattened.
    """

    name: str
    operation: keras.Operation
    args: tuple
    kwargs: dict
    outputs: tuple

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


def read_graph(model):
    """Returns the `Graph` of a Functional or Sequential model.

    Raises:
        ModelError: `model` is not a Keras model, is not built, or is subclassed and so has no graph.
    """
    _check(model)
    functional = as_functional(model)
    reader = _Reader()
    specs = tree.flatten(functional.input)
    structure = tree.map_structure(lambda spec: reader.value(), functional.input)
    outputs = reader.walk(functional, structure, "")
    names = tuple(model.output_names) if hasattr(model, "output_names") else ()
    return Graph(
        inputs=tuple(spec.name for spec in specs),
        specs=tuple(specs),
        structure=structure,
        calls=tuple(reader.calls),
        outputs=outputs,
        output_names=names,
    )


class _Probe(keras.Operation):
    """Stands for one call while a model is cloned: its outputs are fresh symbolic tensors with the same specs."""

    def __init__(self, specs):
        super().__init__()
        self.specs = specs

    def call(self, *args, **kwargs):
        raise NotImplementedError("a probe only describes its outputs")

    def compute_output_spec(self, *args, **kwargs):
        return tree.map_structure(lambda s: keras.KerasTensor(s.shape, dtype=s.dtype), self.specs)


class _Reader:
    def __init__(self):
        self.count = 0
        self.calls = []
        self.names = {}

    def value(self):
        self.count += 1
        return Value(self.count - 1)

    def walk(self, model, inputs, prefix):
        """Records the calls of `model`, whose inputs are the `Value`s `inputs`, and returns its outputs as `Value`s."""
        fresh = tree.map_structure(lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype), model.input)
        known = dict(zip(map(id, tree.flatten(fresh)), tree.flatten(inputs)))
        alive = [fresh]

        def spy(operation, *args, **kwargs):
            symbolic = _Probe(operation_specs(operation, args, kwargs))(*args, **kwargs)
            alive.append(symbolic)
            values = self.record(operation, _named(args, known), _named(kwargs, known), symbolic, prefix)
            known.update(zip(map(id, tree.flatten(symbolic)), tree.flatten(values)))
            return symbolic

        clone = keras.models.clone_model(
            model, input_tensors=fresh, clone_function=lambda layer: layer, call_function=spy
        )
        return tree.map_structure(lambda t: known[id(t)], clone.output)

    def record(self, operation, args, kwargs, symbolic, prefix):
        name = self.unique(prefix + operation.name)
        if is_nested(operation):
            return self.nested(operation, args, kwargs, name)
        values = tree.map_structure(lambda t: self.value(), symbolic)
        outputs = tuple(v.index for v in tree.flatten(values))
        self.calls.append(Call(name, operation, args, kwargs, outputs))
        return values

    def nested(self, model, args, kwargs, name):
        inputs = args[0] if args else next(iter(kwargs.values()))
        functional = as_functional(model)
        inputs = tree.pack_sequence_as(functional.input, tree.flatten(inputs))
        return self.walk(functional, inputs, name + "/")

    def unique(self, name):
        self.names[name] = self.names.get(name, 0) + 1
        return name if self.names[name] == 1 else f"{name}#{self.names[name]}"


def as_functional(model):
    """Returns an uncompiled Functional model over the same layers, which adds no node to them."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return keras.Model(model.input, model.output)


def operation_specs(operation, args, kwargs):
    """Returns the specs of what `operation` emits for symbolic arguments."""
    return operation.compute_output_spec(*args, **kwargs)


def is_nested(operation):
    """Returns whether `operation` is a model whose own graph is its `call`."""
    return isinstance(operation, keras.Model) and _calls_its_graph(type(operation))


def _calls_its_graph(cls):
    return cls.call in (_functional_class().call, keras.Sequential.call)


@cache
def _functional_class():
    """The class of a functional model has no public name; a model has it as its type."""
    tensor = keras.Input((1,), name="pane_probe_input")
    return type(keras.Model(tensor, tensor, name="pane_probe"))


def _named(arguments, known):
    return tree.map_structure(lambda a: known[id(a)] if isinstance(a, keras.KerasTensor) else a, arguments)


def _check(model):
    if not isinstance(model, keras.Model):
        raise ModelError(
            "Expected a built Functional or Sequential keras.Model. "
            f"Received: {type(model).__name__}. Load or build the Keras model first."
        )
    if not _calls_its_graph(type(model)):
        raise ModelError(
            f"Expected a Functional or Sequential model, whose layers form a graph. Received: {model.name!r} of class "
            f"{type(model).__name__}, which defines `call` itself. Build it functionally: "
            "inputs = keras.Input(shape); model = keras.Model(inputs, outputs)."
        )
    if not model.built or not getattr(model, "inputs", None):
        raise ModelError(
            f"Expected a built model. Received: {model.name!r}, whose input shape is not known yet. Add a keras.Input as its first "
            "layer, or call model.build((None, ...)), then wrap it."
        )
