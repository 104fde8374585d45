"""`ExcitationLayer`: one call of a layer, with the excitation of what it emits."""

from typing import Any

import keras
from keras import ops, tree

from pane_keras import backend
from pane_keras import rules as _rules  # noqa: F401  registers the rules of Keras's layers
from pane_keras.arguments import Arguments
from pane_keras.emission import emit
from pane_keras.inputs import weight_gain
from pane_keras.reading import refuse_training
from pane_keras.record import Record
from pane_keras.registry import rule_for
from pane_keras.views import views


class ExcitationLayer(keras.layers.Layer):
    """One call of a layer, with the excitation of what it emits.

    It shares the weights of the layer it stands for. Called, it emits what that layer emits; `excite` emits the
    triple (output, E+, E-).

    Args:
        operation: The user's layer or operation.
        name: Its name in the model, unique for each call. Shown by `label`.
        kwargs: Keyword arguments of the call, which may not ask for training.
        model_name: The model it belongs to, for messages.
        live: Whether anything that it reads can be excited; arithmetic of masks and indices needs no rule.

    Attributes:
        rule: The `Rule` of the layer, or None.
    """

    def __init__(self, operation, name=None, kwargs=None, model_name=None, live=True):
        label = name or operation.name
        super().__init__(name=label.replace("/", ".") + "_excitation", trainable=operation_trainable(operation))
        self.operation = operation
        self.label = label
        self.rule = rule_for(operation, label) if live else None
        self.gain = weight_gain(operation, model_name or label)
        refuse_training(label, operation, kwargs or {})

    def call(self, *args, **kwargs):
        """Returns what the layer itself emits."""
        return self.operation(*args, **kwargs)

    @backend.as_written
    def excite(self, x: Any) -> tuple:
        """Returns `(output, positive, negative)` of this one layer at `x`.

        Args:
            x: Tensor (batch, *shape), a list of tensors for a layer that takes one, or a dict of tensors by the names
                of the layer's parameters, such as `{"query": ..., "value": ...}`.

        Returns:
            The output, and lazy views of E+ and E- (eqs. 4 and 6), each (batch, *output shape, *input shape); lists
            with one view an input where there are several, and lists of these for a layer with several outputs.
        """
        record = Record(name=self.label)
        given = tree.map_structure(lambda v: record.slot(ops.convert_to_tensor(v)), x)
        emitted = self.emit(record, *called_with(given))
        inputs = [slot.index for slot in tree.flatten(given)]
        several = isinstance(x, (list, tuple, dict))
        outputs = tree.flatten(emitted)
        parts = [views(record, inputs, slot.index, self.label, several) for slot in outputs]
        if not tree.is_nested(emitted):
            return (emitted.value, *parts[0])
        return (tree.map_structure(lambda slot: slot.value, emitted), *map(list, zip(*parts)))

    def emit(self, record, args, kwargs=None, masks=None):
        """Runs the layer once on slots of a record and returns the slots of its outputs, structured as they are.

        Args:
            record: Where the excitation goes.
            args, kwargs: The arguments of the call, with slots where tensors stand.
            masks: (args, kwargs) with Keras's mask where there is one, or None.
        """
        record.name, record.gain = self.label, self.gain
        return emit(record, Arguments(self.operation, args, kwargs or {}, masks), self.label, self.rule)


def called_with(x):
    """Returns (args, kwargs) for a tensor, a list that is one argument, or a dict of arguments by name."""
    return ((), x) if isinstance(x, dict) else ((x,), {})


def operation_trainable(operation):
    """Returns whether a layer is trainable; operations have no weights of their own."""
    return getattr(operation, "trainable", True)
