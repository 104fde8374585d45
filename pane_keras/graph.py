"""The graph of a Keras model: a list of calls. A Functional or Sequential model is read without running user code."""

import inspect
import itertools
import warnings
from dataclasses import dataclass
from functools import cache

import keras
from keras import ops, tree

from pane_keras import backend
from pane_keras.errors import ModelError, UnsupportedLayerError
from pane_keras.keras_internals import hang_mask, mask_of, same_names
from pane_keras.symbolic import functional, model_specs


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

    def masks(self, values, hung=()):
        """Returns, for each call, the masks that Keras finds on its arguments: (args, kwargs) with a mask or None.

        None for a call without any. Masks hang on tensors, are made by some layers and taken off by others, so the
        calls are replayed; where nothing makes a mask there is none, and nothing runs.

        Args:
            values: Tensors of the inputs.
            hung: The masks that hang on them, or None for each.
        """
        hung = hung or [None] * len(values)
        if not any(map(_makes_mask, self.calls)) and all(mask is None for mask in hung):
            return [None] * len(self.calls)
        tensors, found = {k: _masked(value, mask) for k, (value, mask) in enumerate(zip(values, hung))}, []
        for call in self.calls:
            given = (call.args, call.kwargs)
            given = tree.map_structure(lambda a: tensors[a.index] if isinstance(a, Value) else a, given)
            masks = tree.map_structure(mask_of, given)
            found.append(masks if any(m is not None for m in tree.flatten(masks)) else None)
            emitted = _replayed(call.operation, *given)
            tensors.update(zip((v.index for v in tree.flatten(call.outputs)), tree.flatten(emitted)))
        return found


class Entry(keras.Operation):
    """What a nested model does to a tensor that enters it: one axis more or less, a cast, a mask hung on it."""

    def __init__(self, shape, dtype):
        super().__init__(name="pane_entry")
        self.rank, self.dtype = len(shape), dtype

    def call(self, x, mask=None):
        if len(x.shape) != self.rank:
            x = ops.squeeze(x, axis=-1) if len(x.shape) > self.rank else ops.expand_dims(x, axis=-1)
        x = ops.cast(x, self.dtype)
        return _masked(x, mask)


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
            return read_functional(as_functional(model), output_names=getattr(model, "output_names", ()))
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


def _makes_mask(call):
    """Whether a call hangs a mask on what it emits where its input has none: by a layer, or one inside a wrapper."""
    layer = getattr(call.operation, "layer", call.operation)
    own = isinstance(layer, keras.Layer) and type(layer).compute_mask is not keras.Layer.compute_mask
    known = type(layer).__module__.split(".")[0] == "keras"
    return (
        isinstance(layer, keras.layers.Masking)
        or bool(getattr(layer, "mask_zero", False))
        or (own and not known)
        or (isinstance(layer, Entry) and "mask" in call.kwargs)
    )


def _replayed(operation, args, kwargs):
    """Calls an operation at inference, leaving seeds of dropout and states of recurrence as they are."""
    changing = [v for v in getattr(operation, "non_trainable_variables", ()) if "moving_" not in v.path]
    before = [backend.snapshot(v) for v in changing]
    with warnings.catch_warnings():
        # Keras warned of masks that a layer drops when the model was built.
        warnings.simplefilter("ignore")
        emitted = operation(*args, **({**kwargs, "training": False} if kwargs.get("training") else kwargs))
    for variable, value in zip(changing, before):
        variable.assign(value)
    return emitted


def _masked(tensor, mask):
    if mask is None:
        return tensor
    tensor = ops.copy(tensor)
    hang_mask(tensor, mask)
    return tensor


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
