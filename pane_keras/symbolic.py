"""Python code over Keras layers, turned into a Functional model by running it once on symbolic tensors."""

import inspect
import itertools
import threading
import warnings

import keras
from keras import tree

from pane_keras.errors import ModelError, UnsupportedLayerError
from pane_keras.keras_internals import hang_mask, same_names, same_nodes, symbolic_variables

# Symbolic calls add nodes to shared layers until they are taken back, so two threads may not read one model at once.
_ONE_AT_A_TIME = threading.RLock()


def functional(owner, function, args, kwargs, name, read):
    """Returns `read(model)` of the Functional model of what `function(*args, **kwargs)` computes.

    The model lives only as long as `read` runs: afterwards its nodes are taken back from the layers of `owner`.

    Args:
        owner: Layer or model whose sublayers the function calls.
        function: Function of symbolic tensors.
        args, kwargs: Its arguments, with a `Spec` where a tensor stands.
        name: Of the model.
        read: Function model -> anything.

    Raises:
        UnsupportedLayerError: The function needs more than the shapes of its tensors, or leaves the graph of Keras.
    """
    with _ONE_AT_A_TIME, same_names(), same_nodes(owner), symbolic_variables(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(_model(function, args, kwargs, name))


def model_specs(model):
    """Returns (args, kwargs) with `Spec`s for the `call` of a subclassed model, as it was built.

    Raises:
        ModelError: It is not built, or not with shapes that Keras remembers.
    """
    config = (model.get_build_config() if model.built else None) or {}
    known = getattr(model, "input_shape", None) if getattr(model, "inputs", None) else None
    shapes = config.get("shapes_dict") or {"inputs": config.get("input_shape") or known}
    if any(shape is None for shape in shapes.values()) and model.built:
        raise UnsupportedLayerError(
            f"{model.name!r} cannot be read as a graph of layers: on symbolic tensors its call did not run when Keras "
            f"built it. Write {type(model).__name__} with Keras layers and keras.ops only, without branches on values, "
            "or build it functionally: keras.Model(inputs, outputs)."
        )
    if any(shape is None for shape in shapes.values()):
        raise ModelError(
            f"Expected a built model. Received: {model.name!r} of class {type(model).__name__}, whose input shape is "
            "not known yet. Call it once on a sample, or model.build((None, ...)), then wrap it."
        )
    specs = [_spec_structure(shape, model.input_dtype, name) for name, shape in shapes.items()]
    if len(specs) == 1:
        return (specs[0],), _inference(model.call)
    return (), {**dict(zip((key.removesuffix("_shape") for key in shapes), specs)), **_inference(model.call)}


class Spec:
    """Stands for a tensor (batch, *shape) of a symbolic call.

    Attributes:
        shape: Static shape, None for the batch.
        dtype: Its dtype.
        mask: Spec of the mask that Keras would find on it, or None.
        name: Of the input, or None.
    """

    def __init__(self, shape, dtype, mask=None, name=None):
        self.shape, self.dtype, self.mask, self.name = tuple(shape), dtype, mask, name

    @property
    def key(self):
        """What a graph depends on."""
        return self.shape, self.dtype, self.mask and self.mask.key


def _model(function, args, kwargs, name):
    number, masks = itertools.count(), []

    def symbolic(leaf):
        if not isinstance(leaf, Spec):
            return leaf
        tensor = keras.Input(batch_shape=leaf.shape, dtype=leaf.dtype, name=leaf.name or f"pane_input_{next(number)}")
        if leaf.mask is not None:
            masks.append(keras.Input(batch_shape=leaf.mask.shape, dtype="bool", name=f"pane_mask_{next(number)}"))
            hang_mask(tensor, masks[-1])
        return tensor

    given = tree.map_structure(symbolic, (args, kwargs))
    inputs = [t for t in tree.flatten(given) if isinstance(t, keras.KerasTensor)]
    try:
        outputs = function(*given[0], **given[1])
        structured = given[0][0] if len(given[0]) == 1 and not masks else None
        whole = structured is not None and len(tree.flatten(structured)) == len(inputs)
        return keras.Model(structured if whole else [*inputs, *masks], outputs, name=name)
    except Exception as error:  # whatever the user's code raises on symbolic tensors
        raise UnsupportedLayerError(
            f"{name!r} cannot be read as a graph of layers: on symbolic tensors it raises {type(error).__name__}: "
            f"{_first_line(error)} Write it with Keras layers and keras.ops only, without branches on values, or "
            "register a rule for it: @pane_keras.register(Class)."
        ) from None


def _first_line(error):
    line = next(iter(str(error).strip().splitlines()), "")
    return f"{line.rstrip('.')}."


def _spec_structure(shape, dtype, name):
    if isinstance(shape, dict):
        return {key: _spec_structure(value, dtype, key) for key, value in shape.items()}
    if shape and isinstance(shape[0], (list, tuple)):
        return [_spec_structure(value, dtype, f"{name}_{k}") for k, value in enumerate(shape)]
    return Spec((None, *shape[1:]), dtype, name=name.removesuffix("_shape"))


def _inference(call):
    return {"training": False} if "training" in inspect.signature(call).parameters else {}
