"""A classifier as a list of steps up to its logits, and as a Keras model made of such steps.

Libraries that look for layers in `model.layers`, or replace their activations, miss what is inside nested models and
cannot change a shared layer without changing the user's model. Here every step is one call, on the model's own weights.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import activations, layers, tree

from pane_keras import backend
from pane_keras.errors import ModelError, UnknownLayerError
from pane_keras.evaluation.heads import _kind, _last_call, logits_of
from pane_keras.evaluation.linear_part import LinearPart, has_linear_part
from pane_keras.graph import Value
from pane_keras.keras_internals import same_names
from pane_keras.reading import read_graph
from pane_keras.wrapping import PaneModel


@dataclass(frozen=True)
class Step:
    """One call of a layer or operation.

    Attributes:
        name: As in a trace of the model; the linear part of a layer with a fused activation has `(linear)` behind it.
        operation: The user's layer or operation, its `LinearPart`, or a function that stands for its activation.
        inputs, outputs: Indices of the tensors that it reads and writes; 0 is the image.
        run: Function of the list of tensors that it reads -> list of those that it writes.
        shapes: Static shape of each output, with the batch as None.
    """

    name: str
    operation: object
    inputs: tuple
    outputs: tuple
    run: Callable
    shapes: tuple


@dataclass(frozen=True)
class Flat:
    """A classifier's steps.

    Attributes:
        shape, dtype: Of the image, without the batch.
        steps: In an order in which they can run.
        output: Index of the logits.
    """

    shape: tuple
    dtype: str
    steps: tuple
    output: int

    def model(self):
        """Returns a Keras model of images -> logits with one layer for each step, and {step's name: layer's name}.

        The weights are the user's model's own, and none of its layers takes part in the graph. A step that is already a
        layer made for this model (see `guided`) stands in it as it is.
        """
        names = {}
        with same_names():
            tensors = {0: keras.Input(self.shape, dtype=self.dtype, name="image")}
            for number, step in enumerate(self.steps):
                layer = step.operation if isinstance(step.operation, OwnLayer) else None
                layer = layer.layer if layer else _Call(step, f"step{number}")
                names[step.name] = layer.name
                given = [tensors[i] for i in step.inputs]
                emitted = layer(given[0]) if isinstance(step.operation, OwnLayer) else layer(given)
                tensors.update(zip(step.outputs, tree.flatten(emitted)))
            return FlatModel([tensors[0]], tensors[self.output], name="flat"), names


class OwnLayer:
    """Marks an operation that is a layer of ours, of one tensor: no user's model has it.

    Attributes:
        layer: The Keras layer.
    """

    def __init__(self, layer):
        self.layer = layer


class FlatModel(keras.Model):
    """A Keras model of one input and one output that predicts without a progress bar, from one compiled function."""

    def predict(self, x, batch_size=32, **_):
        """Returns the outputs, an array (n, classes), for an array (n, *shape) or a list of one."""
        images = x[0] if isinstance(x, (list, tuple)) else x
        if not hasattr(self, "_compiled"):
            self._compiled = backend.any_batch(lambda some: self([some], training=False))
        starts = range(0, len(images), batch_size)
        return np.concatenate([np.asarray(self._compiled(images[k : k + batch_size])) for k in starts])


class _Call(layers.Layer):
    """One step as a layer. The user's layer is held where Keras does not track it: it keeps its place in its model."""

    def __init__(self, step, name):
        # The user's layer casts what it is given; here it has to get what the step before it emitted.
        super().__init__(name=name, autocast=False, trainable=False)
        self._held = lambda: step

    def call(self, tensors):
        emitted = self._held().run(tensors)
        return emitted[0] if len(emitted) == 1 else emitted


def flat(model, split=False):
    """Returns the `Flat` of a classifier.

    Args:
        model: As for `heads.logits_of`, of one picture (height, width, channels).
        split: Whether a layer with a fused activation is two steps.

    Raises:
        ModelError: It is no classifier of pictures.
    """
    model = model.model if isinstance(model, PaneModel) else model
    # It refuses what is no classifier.
    logits_of(model)
    graph = read_graph(model)
    shape = tuple(graph.specs[0].shape[1:])
    if len(shape) != 3 or None in shape:
        raise ModelError(
            f"Expected a classifier of pictures of a fixed size, (height, width, channels). Received: model "
            f"{model.name!r} with the input {shape}."
        )
    counter = itertools.count(1 + max((i for call in graph.calls for i in _written(call)), default=0))
    last = _last_call(graph)
    final = last and _kind(last, model)[1]
    steps = []
    for call in graph.calls:
        if call is last and final:
            steps.append(_headless(call, final))
        else:
            steps += _split(call, counter) if split and _is_fused(call.operation) else [_whole(call)]
    return Flat(shape, str(graph.specs[0].dtype), tuple(steps), tree.flatten(graph.outputs)[0].index)


def spatial_layer(steps, name=None):
    """Returns the `Step` whose output a class activation map is taken over.

    Args:
        steps: The steps of a classifier.
        name: Name of a layer; by default the last one with spatial axes, (height, width, channels) of more than one
            pixel, that does not pool: for VGG-16 the last convolution with its activation, as in the paper (V).

    Raises:
        UnknownLayerError: There is no such layer, or it has no spatial axes.
    """
    spatial = [step for step in steps if len(step.shapes) == 1 and _is_spatial(step.shapes[0])]
    chosen = [step for step in spatial if (step.name == name if name else not _pools(step.operation))]
    if chosen:
        return chosen[-1]
    has = ", ".join(repr(step.name) for step in spatial[-5:]) or "none"
    raise UnknownLayerError(
        f"A class activation map lies over a layer with spatial axes, (height, width, channels). Received: "
        f"{'a model without one' if name is None else repr(name)}. The model's last such layers: {has}."
    )


def _written(call):
    return tuple(value.index for value in tree.flatten(call.outputs))


def _whole(call):
    template = (call.args, call.kwargs)

    def run(tensors):
        known = dict(zip(call.inputs, tensors))
        args, kwargs = tree.map_structure(lambda a: known[a.index] if isinstance(a, Value) else a, template)
        return tree.flatten(call.operation(*args, **kwargs))

    return Step(call.name, call.operation, call.inputs, _written(call), run, call.shapes)


def _headless(call, final):
    """The last call without its softmax or sigmoid: the linear part of its layer, or nothing."""
    operation = final if isinstance(final, LinearPart) else activations.linear
    return Step(call.name, operation, call.inputs[:1], _written(call), lambda t: [operation(t[0])], call.shapes)


def _is_fused(operation):
    return has_linear_part(operation) and operation.activation is not activations.linear


def _split(call, counter):
    linear, activation, between = LinearPart(call.operation), call.operation.activation, (next(counter),)
    return [
        Step(f"{call.name} (linear)", linear, call.inputs, between, lambda t: [linear(t[0])], call.shapes),
        Step(call.name, activation, between, _written(call), lambda t: [activation(t[0])], call.shapes),
    ]


def _is_spatial(shape):
    return len(shape) == 4 and None not in shape[1:3] and shape[1] * shape[2] > 1


def _pools(operation):
    return "Pooling" in type(operation).__name__
