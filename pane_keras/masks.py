"""Keras's masks: they hang on tensors, are made by some layers and taken off by others."""

import warnings

import keras
from keras import ops, tree

from pane_keras import backend
from pane_keras.graph import Value
from pane_keras.keras_internals import hang_mask, mask_of


def masks_of(graph, values, hung=()):
    """Returns, for each call, the masks that Keras finds on its arguments: (args, kwargs) with a mask or None.

    None for a call without any. Masks hang on tensors, are made by some layers and taken off by others, so the
    calls are replayed; where nothing makes a mask there is none, and nothing runs.

    Args:
        graph: The `Graph`.
        values: Tensors of the inputs.
        hung: The masks that hang on them, or None for each.
    """
    hung = hung or [None] * len(values)
    if not any(map(_makes_mask, graph.calls)) and all(mask is None for mask in hung):
        return [None] * len(graph.calls)
    tensors, found = {k: _masked(value, mask) for k, (value, mask) in enumerate(zip(values, hung))}, []
    for call in graph.calls:
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
