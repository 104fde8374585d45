"""Reading the graph of a model: a Functional or Sequential one without running user code, another one symbolically."""

import inspect
import itertools
import warnings
from functools import cache

import keras
from keras import tree

from pane_keras.errors import ModelError, UnsupportedLayerError
from pane_keras.graph import Call, Graph, Value
from pane_keras.keras_internals import same_names
from pane_keras.masks import Entry
from pane_keras.symbolic import functional, model_specs


def read_graph(model):
    """Returns the `Graph` of a model.

    A subclassed model is called once on symbolic tensors, which leaves no trace on its layers.

    Raises:
        ModelError: `model` is not a Keras model, or is not built.
        UnsupportedLayerError: A subclassed model's `call` cannot be read as a graph.
    """
    _check(model)
    if _calls_its_graph(type(model)):
        with same_names():
            return read_functional(as_functional(model), output_names=getattr(model, "output_names", None))
    args, kwargs = model_specs(model)
    return functional(model, model.call, args, kwargs, model.name, read_functional)


def read_functional(model, output_names=None):
    """Returns the `Graph` of a Functional model.

    Args:
        model: The model.
        output_names: Names of its outputs, unless they are those of the layers that emit them.
    """
    reader = _Reader()
    specs = tree.flatten(model.input)
    structure = tree.map_structure(lambda spec: reader.value(), model.input)
    outputs = reader.walk(model, structure, "")
    return Graph(
        inputs=tuple(spec.name for spec in specs),
        specs=tuple(specs),
        structure=structure,
        calls=tuple(reader.calls),
        outputs=outputs,
        output_names=tuple(model.output_names if output_names is None else output_names),
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
            values = self.record(operation, args, kwargs, known, symbolic, prefix)
            known.update(zip(map(id, tree.flatten(symbolic)), tree.flatten(values)))
            return symbolic

        with warnings.catch_warnings():
            # The inputs have names of ours, which Keras compares with the keys of a dict.
            warnings.simplefilter("ignore")
            clone = keras.models.clone_model(
                model, input_tensors=fresh, clone_function=lambda layer: layer, call_function=spy
            )
        return tree.map_structure(lambda t: known[id(t)], clone.output)

    def record(self, operation, args, kwargs, known, symbolic, prefix):
        name = self.unique(prefix + operation.name)
        if is_nested(operation):
            return self.nested(operation, args, kwargs, known, name)
        outputs = tree.map_structure(lambda t: self.value(), symbolic)
        shapes = tuple(tuple(t.shape) for t in tree.flatten(symbolic))
        self.calls.append(Call(name, operation, _named(args, known), _named(kwargs, known), outputs, shapes))
        return outputs

    def nested(self, model, args, kwargs, known, name):
        refuse_training(name, model, kwargs)
        kwargs = dict(kwargs)
        masks = tree.flatten(kwargs.pop("mask", None))
        given = [t for t in tree.flatten((args, kwargs)) if isinstance(t, keras.KerasTensor)]
        inner = as_functional(model)
        masks = masks if len(masks) == len(given) else [None] * len(given)
        entered = [self.enter(*each, known, name) for each in zip(given, tree.flatten(inner.input), masks)]
        return self.walk(inner, tree.pack_sequence_as(inner.input, entered), name + "/")

    def enter(self, tensor, spec, mask, known, name):
        value = known[id(tensor)]
        if tensor.dtype == spec.dtype and len(tensor.shape) == len(spec.shape) and mask is None:
            return value
        operation = Entry(spec.shape, spec.dtype)
        kwargs = {} if mask is None else {"mask": known.get(id(mask), mask)}
        shape = (tuple(spec.shape),)
        self.calls.append(Call(self.unique(name + "/entry"), operation, (value,), kwargs, self.value(), shape))
        return self.calls[-1].outputs

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
            f"Expected a built keras.Model. Received: {type(model).__name__}. Load or build the Keras model first."
        )
    if _calls_its_graph(type(model)) and (not model.built or not getattr(model, "inputs", None)):
        raise ModelError(
            f"Expected a built model. Received: {model.name!r}, whose input shape is not known yet. "
            "Add a keras.Input as its first layer, or call model.build((None, ...)), then wrap it."
        )


def refuse_training(name, operation, kwargs):
    """Raises for a call that was recorded with `training=True`: it draws noise or reads statistics of the batch.

    Keras records its own default too: layers that only change pictures for training have `training=True`, and are told
    otherwise at inference.

    Args:
        name: The call's name.
        operation: What is called.
        kwargs: The keyword arguments it was recorded with.
    """
    if kwargs.get("training") and not _trains_by_default(type(operation)):
        raise UnsupportedLayerError(
            f"Layer {name!r} is called with training=True inside the model, so what it emits depends on chance or on "
            "the rest of the batch. Rebuild the model without training=True at this layer."
        )


@cache
def _trains_by_default(cls):
    parameter = inspect.signature(cls.call).parameters.get("training")
    return parameter is not None and parameter.default is True
