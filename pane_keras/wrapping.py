"""`wrap(model)`: a model in which every call of a layer is an `ExcitationLayer` that shares the original's weights."""

import copy

import keras
from keras import ops, tree

from pane_keras import backend
from pane_keras import rules as _rules  # noqa: F401  registers the rules of Keras's layers
from pane_keras.errors import ModelError, ReadOnlyError, SaveError, UnsupportedLayerError
from pane_keras.excitation import views
from pane_keras.graph import Value, read_graph, refuse_training
from pane_keras.inputs import prepare_inputs, refuse_nonfinite_outputs, weight_gain
from pane_keras.record import Record
from pane_keras.registry import rule_for
from pane_keras.trace import Emitted, Trace


def wrap(model):
    """Returns a `PaneModel` around a Keras model, which is left as it was.

    Args:
        model: A built Functional or Sequential `keras.Model`.

    Raises:
        ModelError: `model` has no graph of layers to read.
        UnsupportedLayerError: A layer has no excitation rule.
        NonFiniteError: A weight holds a NaN or an infinity.
    """
    return PaneModel(model)


class ExcitationLayer(keras.layers.Layer):
    """One call of a layer, with the excitation of what it emits.

    It shares the weights of the layer it stands for. Called, it emits what that layer emits; `excite` emits the
    triple (output, E+, E-).

    Args:
        operation: The user's layer or operation.
        name: Its name in the model, unique for each call. Shown by `label`.
        kwargs: Keyword arguments of the call, which may not ask for training.
        model_name: The model it belongs to, for messages.
    """

    def __init__(self, operation, name=None, kwargs=None, model_name=None):
        label = name or operation.name
        super().__init__(name=label.replace("/", ".") + "_excitation", trainable=operation_trainable(operation))
        self.operation = operation
        self.label = label
        self.rule = rule_for(operation, label)
        self.gain = weight_gain(operation, model_name or label)
        refuse_training(label, kwargs or {})

    def call(self, *args, **kwargs):
        """Returns what the layer itself emits."""
        return self.operation(*args, **kwargs)

    @backend.as_written
    def excite(self, x):
        """Returns `(output, positive, negative)` of this one layer at `x`.

        Args:
            x: Tensor (batch, *shape), or a list of tensors for a layer with several inputs.

        Returns:
            The output, and lazy views of E+ and E- (eqs. 4 and 6), each (batch, *output shape, *input shape); lists
            with one view an input where there are several.
        """
        several = isinstance(x, (list, tuple))
        values = [ops.convert_to_tensor(v) for v in (x if several else [x])]
        record = Record(name=self.label)
        slots = [record.slot(value) for value in values]
        output = self.emit(record, slots, several)
        return (output.value, *views(record, [s.index for s in slots], output.index, self.label, several))

    def emit(self, record, slots, several):
        """Runs the layer once on slots of a record and returns the slot of its output.

        Args:
            record: Where the excitation goes.
            slots: The slots that the layer reads.
            several: Whether its rule takes a list of inputs.
        """
        record.name, record.gain = self.label, self.gain
        values = [slot.value for slot in slots]
        piece = self._piece(values if several else values[0])
        if not callable(piece) or backend.is_tensor(piece):
            raise UnsupportedLayerError(
                f"The rule of layer {self.label!r} is expected to return a piece of pane_keras.pieces. "
                f"Received: {type(piece).__name__}."
            )
        return piece(record, *slots)

    def _piece(self, inputs):
        try:
            return self.rule(self.operation, inputs)
        except AttributeError:
            if getattr(self.operation, "built", True):
                raise
        raise ModelError(
            f"Layer {self.label!r} is not built. Call layer.build(input_shape), or use it in a model, first."
        )


class PaneModel(keras.Model):
    """A Keras model that also tells what excites and what inhibits each of its units. Made by `wrap`.

    `pane(x)` and `pane.predict(x)` are the user's model's own results. `pane.trace(x)` is one forward pass in which
    every layer emits (output, E+, E-).

    Attributes:
        model: The user's model.
        graph: Its calls.
        excitations: One `ExcitationLayer` for each call.
    """

    def __init__(self, model, **kwargs):
        graph = read_graph(model)
        # The dtype only keeps Keras from casting what the user's model standardises itself.
        dtype = "float64" if any(spec.dtype == "float64" for spec in graph.specs) else "float32"
        super().__init__(name=kwargs.pop("name", f"pane_{model.name}"), dtype=dtype, **kwargs)
        self._held = _Untracked((model, graph))
        self.excitations = [ExcitationLayer(c.operation, c.name, c.kwargs, model.name) for c in graph.calls]
        self.built = True

    @property
    def model(self):
        """The user's model, untouched."""
        return self._held.content[0]

    @property
    def graph(self):
        """The calls of the user's model."""
        return self._held.content[1]

    def call(self, inputs, training=None, mask=None):
        """Returns exactly what the user's model returns."""
        masks = {} if all(m is None for m in tree.flatten([mask])) else {"mask": mask}
        return self.model(inputs, training=training, **masks)

    @backend.as_written
    def trace(self, inputs):
        """Runs one eager forward pass and returns its `Trace`.

        Args:
            inputs: What the user's model takes: an array or tensor (batch, *shape), or a list or dict of them.

        Raises:
            InputError: Wrong shape, dtype, structure or number of inputs.
            NonFiniteError: A NaN or an infinity in the input, or coming out of the model (looked for where the host
                has the values).
        """
        record = Record()
        slots = dict(enumerate(map(record.slot, prepare_inputs(self.graph, self.model.name, inputs))))
        input_slots, emitted = [slot.index for slot in slots.values()], []
        for call, layer in zip(self.graph.calls, self.excitations):
            reads = [slots[i] for i in call.inputs]
            slots[call.outputs[0]] = slot = layer.emit(record, reads, _takes_list(call))
            emitted.append(Emitted(call.name, tuple(s.index for s in reads), slot.index))
        outputs = tuple(slots[v.index].index for v in tree.flatten(self.graph.outputs))
        refuse_nonfinite_outputs(self.model, record, emitted, outputs)
        return Trace(record, emitted, self.graph.inputs, input_slots, outputs, self.graph.output_names)

    @property
    def trainable(self):
        """Whether the user's model is trainable; set it there."""
        held = getattr(self, "_held", None)
        return held.content[0].trainable if held else True

    @trainable.setter
    def trainable(self, value):
        if getattr(self, "_held", None) and value != self.model.trainable:
            raise ReadOnlyError("Set `trainable` on the model that was wrapped: a PaneModel shares its layers.")

    def __reduce__(self):
        return wrap, (self.model,)

    def __deepcopy__(self, memo):
        return wrap(copy.deepcopy(self.model, memo))

    def save(self, *args, **kwargs):
        """Raises SaveError: the excitations are rebuilt from the model in no time, so only the model needs saving."""
        raise SaveError("A PaneModel is not saved: save the model itself, `pane.model.save(path)`, and wrap it again.")

    def get_config(self):
        """Raises SaveError, as `save`."""
        return self.save()


class _Untracked:
    """Keeps an object away from Keras's tracking of attributes."""

    def __init__(self, content):
        self.content = content


def operation_trainable(operation):
    """Returns whether a layer is trainable; operations have no weights of their own."""
    return getattr(operation, "trainable", True)


def _takes_list(call):
    first = call.args[0] if call.args else next(iter(call.kwargs.values()), None)
    return not isinstance(first, Value)
