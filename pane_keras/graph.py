"""The graph of a Keras model, read with public API and without running user code: a list of calls."""

import itertools
from dataclasses import dataclass
from functools import cache

import keras
from keras import tree

from pane_keras.errors import ModelError, UnsupportedLayerError


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

    def __init__(self, specs, number):
        super().__init__(name=f"pane_probe_{number}")
        self.specs = specs

    def call(self, *args, **kwargs):
        raise NotImplementedError("a probe only describes its outputs")

    def compute_output_spec(self, *args, **kwargs):
        # A name of their own, or the automatic names of what the user builds next would move on.
        return tree.map_structure(lambda s: keras.KerasTensor(s.shape, dtype=s.dtype, name="pane_value"), self.specs)


class _Originals(dict):
    """The model's own symbolic tensors, by the id of the tensor that stands for each while the model is cloned."""

    def specs(self, operation, args, kwargs):
        """Returns specs of what `operation` emits, without running any of its code where that is possible."""
        mine = [self.get(id(t)) for t in tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]
        if is_nested(operation):
            functional = as_functional(operation)
            own, given = tree.flatten(functional.input), tree.flatten((args, kwargs))
            if [t.shape for t in own] == [t.shape for t in given if isinstance(t, keras.KerasTensor)]:
                return functional.output
        elif mine and _same(mine, _first_call(operation, "input")):
            return _first_call(operation, "output")
        return operation.compute_output_spec(*args, **kwargs)

    def follow(self, symbolic, specs):
        """Notes which of the model's tensors each of `symbolic` stands for; the specs are these tensors or copies."""
        self.update(zip(map(id, tree.flatten(symbolic)), tree.flatten(specs)))


def _first_call(operation, attribute):
    try:
        return getattr(operation, attribute)
    except (AttributeError, ValueError):
        return None


def _same(tensors, others):
    others = tree.flatten(others)
    return len(tensors) == len(others) and all(a is b for a, b in zip(tensors, others))


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
        number = itertools.count()
        fresh = tree.map_structure(
            lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=f"pane_input_{next(number)}"), model.input
        )
        known = dict(zip(map(id, tree.flatten(fresh)), tree.flatten(inputs)))
        originals = _Originals(zip(map(id, tree.flatten(fresh)), tree.flatten(model.input)))
        alive = [fresh]

        def spy(operation, *args, **kwargs):
            specs = originals.specs(operation, args, kwargs)
            symbolic = _Probe(specs, len(alive))(*args, **kwargs)
            alive.append(symbolic)
            originals.follow(symbolic, specs)
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
        if len(tree.flatten(symbolic)) != 1:
            raise UnsupportedLayerError(
                f"Layer {name!r} of class {type(operation).__name__} emits several tensors, which no rule describes. "
                "Split it into layers that emit one tensor each."
            )
        values = tree.map_structure(lambda t: self.value(), symbolic)
        outputs = tuple(v.index for v in tree.flatten(values))
        self.calls.append(Call(name, operation, args, kwargs, outputs))
        return values

    def nested(self, model, args, kwargs, name):
        refuse_training(name, kwargs)
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
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


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
            f"Expected a built model. Received: {model.name!r}, whose input shape is not known yet. "
            "Add a keras.Input as its first layer, or call model.build((None, ...)), then wrap it."
        )


def refuse_training(name, kwargs):
    """Raises for a call that was recorded with `training=True`: it draws noise or reads statistics of the batch.

    Args:
        name: The call's name.
        kwargs: The keyword arguments it was recorded with.
    """
    if kwargs.get("training"):
        raise UnsupportedLayerError(
            f"Layer {name!r} is called with training=True inside the model, so what it emits depends on chance or on "
            "the rest of the batch. Rebuild the model without training=True at this layer."
        )
