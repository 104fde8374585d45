"""One call of a layer or operation: its rule is looked up, given its arguments, and its piece is run on a record."""

from dataclasses import replace

import keras
from keras import ops, tree

from pane_keras import backend
from pane_keras.errors import ModelError, UnsupportedLayerError
from pane_keras.registry import rule_for


def emit(record, arguments, name, rule=None):
    """Runs one call and returns the slots of what it emits, structured as the call's own outputs.

    An operation whose every tensor is held, such as the arithmetic of masks, is held itself and needs no rule.

    Args:
        record: Where the excitations go.
        arguments: The call's `Arguments`.
        name: Name of the call in the model, for messages.
        rule: Its `Rule`, if it is known already.

    Raises:
        UnsupportedLayerError: No rule, or one that does not take what the call passes.
        ModelError: The layer is not built.
    """
    operation = arguments.operation
    if not isinstance(operation, keras.Layer) and not arguments.live:
        return tree.map_structure(lambda value: record.slot(value, held=True), arguments.function()())
    rule = rule or rule_for(operation, name)
    raw = arguments
    if not rule.whole:
        arguments = arguments.mapped(lambda slot: floating(slot, record))
    piece = _piece(rule, arguments, name)
    if not callable(piece) or backend.is_tensor(piece):
        raise UnsupportedLayerError(
            f"The rule of layer {name!r} is expected to return a piece of pane_keras.pieces. "
            f"Received: {type(piece).__name__}."
        )
    emitted = piece(record, *(arguments.data if isinstance(operation, keras.Layer) else arguments.live))
    if raw is not arguments and not isinstance(operation, keras.Layer):
        _refuse_overflow(raw, emitted, name)
    return emitted


def _piece(rule, arguments, name):
    operation = arguments.operation
    if isinstance(operation, keras.Layer) and not rule.takes_arguments and arguments.masked:
        _refuse_mask(arguments, name)
    try:
        if not isinstance(operation, keras.Layer):
            return rule.function(operation, arguments)
        if rule.takes_arguments:
            return rule.function(operation, arguments.inputs, arguments)
        return rule.function(operation, arguments.inputs)
    except AttributeError:
        if getattr(operation, "built", True):
            raise
    raise ModelError(
        f"Layer {name!r} is not built. Call layer.build(input_shape), or use it in a model, first."
    ) from None


def _refuse_mask(arguments, name):
    """A mask changes what a layer computes only if its `call` takes one."""
    if arguments.takes("mask"):
        raise UnsupportedLayerError(
            f"Layer {name!r} of class {type(arguments.operation).__name__} is called with a mask, which its rule does "
            "not take. Register a rule with a third parameter, the call's arguments: their mask(name) is the mask."
        )


def _refuse_overflow(raw, emitted, name):
    """Integers that wrap around are not what the same arithmetic gives in floats."""
    if all(is_float(slot.lazy.dtype) for slot in raw.live) or any(backend.is_symbolic(slot.value) for slot in raw.live):
        return
    own = tree.flatten(raw.function()(*(slot.value for slot in raw.live)))
    for value, slot in zip(own, tree.flatten(emitted)):
        if not bool(ops.all(ops.equal(ops.cast(value, slot.value.dtype), slot.value))):
            raise UnsupportedLayerError(
                f"The operation {name!r} computes in {keras.backend.standardize_dtype(value.dtype)}, and what it emits "
                "is not the sum or product of its inputs but what is left after overflow. Cast to float32 first."
            )


def is_float(dtype):
    """Returns whether a dtype is that of floating point numbers."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(dtype))


def floating(slot, record):
    """Returns a slot with its value as floats: coefficients multiply integers and booleans as Keras's layers do."""
    if is_float(slot.lazy.dtype):
        return slot
    return replace(slot, lazy=ops.cast(slot.value, record.dtype))
