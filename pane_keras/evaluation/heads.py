"""Logits and probabilities of any classifier: the model up to its final softmax or sigmoid, with shared weights."""

import inspect
from contextlib import ExitStack
from dataclasses import dataclass

import keras
from keras import activations, layers, ops, tree

from pane_keras.errors import ModelError
from pane_keras.evaluation.linear_part import LinearPart, has_linear_part
from pane_keras.graph import Value
from pane_keras.keras_internals import same_nodes
from pane_keras.reading import read_graph
from pane_keras.symbolic import Spec, functional
from pane_keras.wrapping import PaneModel

# Each gives probabilities, or their logarithms, from logits. The logits are what it is given.
_HEADS = {
    activations.softmax: "softmax",
    activations.log_softmax: "softmax",
    activations.sigmoid: "sigmoid",
    activations.log_sigmoid: "sigmoid",
    ops.softmax: "softmax",
    ops.log_softmax: "softmax",
    ops.sigmoid: "sigmoid",
    ops.log_sigmoid: "sigmoid",
}
_OPERATIONS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid", "LogSigmoid": "sigmoid"}
_KNOWN = {function for function in vars(activations).values() if inspect.isfunction(function)}
# These look like probabilities, and no logits give them.
_NO_LOGITS = (activations.hard_sigmoid, activations.sparse_sigmoid, activations.sparsemax)
_PASSING = (layers.Flatten, layers.Reshape, layers.Identity, layers.Dropout)


@dataclass(frozen=True)
class Head:
    """How a classifier ends.

    Attributes:
        logits: `keras.Model` images -> logits, (batch, classes). It shares the layers, and so the weights, of the model
            it was made of, has nested models flattened, and left no node on any layer. Its layers do not know
            it as theirs: for `layer.output` of an inner layer, take `keras.models.clone_model` of it.
        activation: "softmax" or "sigmoid": what makes probabilities of logits.
    """

    logits: keras.Model
    activation: str


def logits_of(model):
    """Returns the `keras.Model` images -> logits (V.C.5): exactly what the final softmax or sigmoid is given.

    Args:
        model: A built Keras model or a `PaneModel`, with one output (batch, classes) that ends with a softmax or
            sigmoid (fused into the last layer, or a layer or operation of its own), or with the logits themselves.

    Raises:
        ModelError: It has no graph of layers, or its head cannot be read.
        UnsupportedLayerError: A subclassed model's `call` cannot be read as a graph.
    """
    return read_head(model).logits


def probabilities_of(model):
    """Returns the function images -> probabilities, (batch, classes); a model that ends with logits gets a softmax.

    Args:
        model: As for `logits_of`.

    Raises:
        PaneError: As `logits_of`.
    """
    head = read_head(model)
    activation = getattr(ops, head.activation)
    return lambda images: activation(head.logits(images, training=False))


def read_head(model):
    """Returns the `Head` of a model; arguments and errors as for `logits_of`."""
    model = model.model if isinstance(model, PaneModel) else model
    graph = read_graph(model)
    _check_ends(model, graph)
    call = _last_call(graph)
    kind, final = (None, None) if call is None else _kind(call, model)
    return Head(_up_to(model, graph, final), kind or "softmax")


_REMEDY = {
    True: "Make a model of one output: keras.Model(model.input, model.outputs[0]).",
    False: "Make a keras.Model of the picture alone, whose call passes constants for the other inputs.",
}


def _check_ends(model, graph):
    outputs, inputs = tree.flatten(graph.outputs), graph.specs
    if len(outputs) != 1 or len(inputs) != 1:
        raise ModelError(
            f"Expected a classifier with one input and one output. Received: model {model.name!r} with the inputs "
            f"{list(graph.inputs)} and the outputs {list(graph.output_names)}. {_REMEDY[len(inputs) == 1]}"
        )


def _last_call(graph):
    """The call that ends the model, behind whatever only passes its values on; None for a model without any."""
    writes = {v.index: call for call in graph.calls for v in tree.flatten(call.outputs)}
    call = writes.get(tree.flatten(graph.outputs)[0].index)
    while call is not None and _passes(call.operation) and call.inputs[0] in writes:
        call = writes[call.inputs[0]]
    return call


def _passes(operation):
    own = type(operation) in _PASSING
    return own or (type(operation) is layers.Activation and operation.activation is activations.linear)


def _kind(call, model):
    """Returns ("softmax" or "sigmoid", what stands for the call without it), or (None, None)."""
    operation = call.operation
    kind = _layer_kind(operation, model) if isinstance(operation, keras.Layer) else _OPERATIONS.get(_class(operation))
    if kind is None:
        return None, None
    if kind == "softmax":
        _check_axis(operation, call, model)
    if not isinstance(operation, keras.Layer) or type(operation) in (layers.Activation, layers.Softmax):
        return kind, _first
    if not has_linear_part(operation):
        raise ModelError(
            f"Model {model.name!r} ends with layer {operation.name!r} of class {_class(operation)}, whose fused {kind} "
            f"cannot be taken off. Build it with activation=None and add keras.layers.Activation({kind!r})."
        )
    return kind, LinearPart(operation)


def _layer_kind(layer, model):
    """Which head a layer is, or has as its activation."""
    if isinstance(layer, layers.Softmax):
        return "softmax"
    function = getattr(layer, "activation", None)
    if isinstance(function, layers.Activation | layers.Softmax):
        return _layer_kind(function, model)
    if function in _NO_LOGITS or not (function is None or function in _KNOWN or function in _HEADS):
        raise ModelError(
            f"Model {model.name!r} ends with the activation {getattr(function, '__name__', function)} (layer "
            f"{layer.name!r}): no logits are known to stand behind it. End it with a softmax or a sigmoid of "
            "keras.activations, or with the logits themselves."
        )
    return _HEADS.get(function)


def _check_axis(operation, call, model):
    shape, axis = call.shapes[0], getattr(operation, "axis", -1)
    if axis not in (-1, len(shape) - 1) or any(size != 1 for size in shape[1:-1]):
        raise ModelError(
            f"Model {model.name!r} ends with a softmax over axis {axis} of {shape}. Expected one over the classes: the "
            "last axis, and nothing but 1 between it and the batch."
        )


def _class(operation):
    return type(operation).__name__


def _first(x, *_, **__):
    return x


def _up_to(model, graph, final):
    """Returns the Functional model of the graph, with `final` in place of its last call unless that is None."""
    last = _last_call(graph)
    spec = graph.specs[0]
    one = Spec((None, *spec.shape[1:]), spec.dtype, name=spec.name)
    with ExitStack() as nodes:

        def replayed(x):
            for operation in {id(call.operation): call.operation for call in graph.calls}.values():
                nodes.enter_context(same_nodes(operation))
            return _run(graph, x, {id(last): final} if final else {})

        def read(built):
            nodes.close()
            return built

        logits = functional(model, replayed, (one,), {}, f"{model.name}_logits", read)
    if len(logits.output.shape) != 2:
        raise ModelError(
            f"Expected a classifier with the output (batch, classes). Received: model {model.name!r} with the output "
            f"{tuple(logits.output.shape)}."
        )
    return logits


def _run(graph, x, instead):
    """Runs the calls on a symbolic tensor, some of them replaced, and returns the output."""
    known = {0: x}
    for call in graph.calls:
        args, kwargs = tree.map_structure(
            lambda a: known[a.index] if isinstance(a, Value) else a, (call.args, call.kwargs)
        )
        emitted = instead.get(id(call), call.operation)(*args, **kwargs)
        known.update(zip((v.index for v in tree.flatten(call.outputs)), tree.flatten(emitted)))
    return known[tree.flatten(graph.outputs)[0].index]
