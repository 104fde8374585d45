"""What a user passes to a model, checked and turned into the tensors that the model computes with."""

import math

import keras
import numpy as np
from keras import ops, tree

from pane_keras import backend
from pane_keras.errors import InputError, NonFiniteError
from pane_keras.scaled import USUAL_GAIN


def prepare_inputs(graph, model_name, inputs, dtype):
    """Returns the flat list of input tensors, each cast to its input's dtype, or to `dtype` where that is a float.

    Args:
        graph: Graph of the model.
        model_name: For the messages.
        inputs: A tensor or array, or a list or dict of them, structured as the model's inputs.
        dtype: What the trace computes in.

    Raises:
        InputError: Wrong structure, number, dtype or shape.
        NonFiniteError: An input holds a NaN or an infinity.
    """
    flat = _flatten(graph, model_name, inputs)
    return [_tensor(value, spec, model_name, dtype) for value, spec in zip(flat, graph.specs)]


def weight_gain(layer, model_name):
    """Returns the bits by which a layer's weights may change the size of what they multiply.

    Raises:
        NonFiniteError: A weight holds a NaN or an infinity; the message has its path.
    """
    return max([USUAL_GAIN, *(_bits(variable, model_name) for variable in getattr(layer, "variables", ()))])


def _bits(variable, model_name):
    value = backend.snapshot(variable)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype)) or backend.is_symbolic(value):
        return 0
    largest = float(ops.max(ops.abs(value))) if math.prod(value.shape) else 0.0
    if not math.isfinite(largest):
        raise NonFiniteError(
            f"Weight {variable.path!r} of model {model_name!r} holds a NaN or an infinity, so no map of it would mean "
            "anything. Load or train the weights again."
        )
    terms = math.log2(max(math.prod(value.shape[:-1]), 1))
    return math.ceil(abs(math.log2(largest)) + terms) if largest else 0


def refuse_nonfinite_outputs(model, record, emitted, outputs):
    """Raises NonFiniteError where the model's outputs are not finite, with the weight or layer at fault.

    Args:
        model: The user's model.
        record: What its forward pass recorded.
        emitted: Its layers with the slots they wrote, in order.
        outputs: Slots of its outputs.
    """
    values = [record.slots[slot].value for slot in outputs]
    if any(backend.is_symbolic(v) for v in values) or all(map(_finite, values)):
        return
    weight_gain(model, model.name)
    culprit = next(e.name for e in emitted if not _finite(record.slots[e.output].value))
    raise NonFiniteError(
        f"Layer {culprit!r} of model {model.name!r} emits a NaN or an infinity for this input, though its weights are "
        "finite. Scale the input as the model was trained with."
    )


def _flatten(graph, model_name, inputs):
    if _same_nesting(graph.structure, inputs):
        return tree.flatten(inputs)
    if isinstance(inputs, dict) and not isinstance(graph.structure, dict):
        inputs = _by_name(graph, model_name, inputs)
    flat = inputs if isinstance(inputs, (list, tuple)) and _is_structure(graph, inputs) else None
    if flat is None:
        flat = tree.flatten(inputs) if isinstance(inputs, dict) else [inputs]
    if isinstance(graph.structure, dict) and (not isinstance(inputs, dict) or set(inputs) != set(graph.structure)):
        raise InputError(
            f"Model {model_name!r} expects a dict with the keys {sorted(graph.structure)}. "
            f"Received: {sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__}."
        )
    if len(flat) != len(graph.specs):
        raise InputError(
            f"Model {model_name!r} expects {len(graph.specs)} input(s): {', '.join(graph.inputs)}. "
            f"Received: {len(flat)}."
        )
    return flat


def _same_nesting(structure, inputs):
    """Whether inputs are nested more than one level deep, and just as the model's are."""
    children = list(structure.values()) if isinstance(structure, dict) else structure
    if not isinstance(children, (list, tuple)) or not any(map(tree.is_nested, children)):
        return False
    try:
        tree.assert_same_structure(structure, inputs)
    except (ValueError, TypeError):
        return False
    return True


def _is_structure(graph, inputs):
    """Whether a list holds the inputs, rather than being the numbers of the only one."""
    rank = len(graph.specs[0].shape)
    return len(graph.specs) > 1 or (len(inputs) == 1 and len(getattr(inputs[0], "shape", ())) == rank)


def _by_name(graph, model_name, inputs):
    if set(inputs) != set(graph.inputs):
        raise InputError(
            f"Model {model_name!r} expects the inputs {list(graph.inputs)}. "
            f"Received a dict with the keys {list(inputs)}."
        )
    named = [inputs[name] for name in graph.inputs]
    return named if len(named) > 1 else named[0]


def _tensor(value, spec, model_name, dtype):
    try:
        tensor = value if backend.is_tensor(value) else backend.to_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Input {spec.name!r} of model {model_name!r} expects numbers of shape {spec.shape}. "
            f"Received: {type(value).__name__} that is no array ({error})."
        ) from None
    if spec.dtype == "string" and keras.backend.standardize_dtype(tensor.dtype) == "string":
        _check_shape(tensor, spec, model_name)
        return tensor
    if keras.backend.standardize_dtype(tensor.dtype) in ("string", "complex64", "complex128"):
        raise InputError(
            f"Input {spec.name!r} of model {model_name!r} expects real numbers. Received: dtype {tensor.dtype}."
        )
    _check_shape(tensor, spec, model_name)
    floats = keras.backend.is_float_dtype(spec.dtype)
    given, tensor = tensor, ops.cast(tensor, dtype if floats else spec.dtype)
    # A cast to floats may make an infinity; a cast to whole numbers makes some number of a NaN.
    if not backend.is_symbolic(tensor) and not _finite(tensor if floats else given):
        raise NonFiniteError(
            f"Input {spec.name!r} of model {model_name!r} holds a NaN or an infinity. Remove it first."
        )
    return tensor


def _check_shape(tensor, spec, model_name):
    shape = tuple(tensor.shape)
    fits = len(shape) == len(spec.shape) and all(
        want is None or have is None or want == have for want, have in zip(spec.shape, shape)
    )
    if not fits or 0 in shape:
        hint = " Add the batch axis: x[None]." if len(shape) + 1 == len(spec.shape) else ""
        raise InputError(
            f"Input {spec.name!r} of model {model_name!r} expects the shape {tuple(spec.shape)} "
            f"(None is any size above 0). Received: {shape}.{hint}"
        )


def _finite(tensor):
    return bool(ops.all(ops.isfinite(tensor)))
