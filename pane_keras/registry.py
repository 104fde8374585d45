"""Which rule belongs to which class of layer, and which pieces to which activation function."""

import keras

from pane_keras.errors import UnsupportedLayerError

_RULES = {}
_ACTIVATIONS = {}

# What a subclass may redefine without changing what the layer computes.
_HARMLESS = {
    "__init__",
    "__doc__",
    "__module__",
    "__qualname__",
    "__dict__",
    "__weakref__",
    "__annotations__",
    "__firstlineno__",
    "__static_attributes__",
    "build",
    "from_config",
    "get_config",
}


def register(*classes):
    """Registers a rule for layers, as a decorator.

    The rule takes the layer and its inputs (a tensor, or a list of tensors for a layer with several) and returns
    pieces of `pane_keras.pieces`: what the layer computes at this input, one stage after the other.

        @pane_keras.register(MyLayer)
        def excite(layer, inputs):
            return pieces.linear(lambda x, kernel: x @ kernel, layer.kernel, layer.bias)

    Args:
        *classes: Layer classes. Subclasses share the rule unless they redefine something the class defines.

    Returns:
        The decorator, which returns the rule as it is.

    Raises:
        TypeError: Something else than a class was given.
    """
    for cls in classes or (None,):
        if not isinstance(cls, type):
            raise TypeError(f"Expected layer classes, as in @register(MyLayer). Received: {cls!r}")

    def decorate(rule):
        _RULES.update(dict.fromkeys(classes, rule))
        return rule

    return decorate


def register_activation(*functions):
    """Registers, as a decorator, a function `activation -> piece` for activation functions, fused or as a layer.

    Raises:
        TypeError: Something else than a function was given.
    """
    for function in functions or (None,):
        if not callable(function):
            raise TypeError(f"Expected activation functions, as in @register_activation(f). Received: {function!r}")

    def decorate(rule):
        _ACTIVATIONS.update(dict.fromkeys(functions, rule))
        return rule

    return decorate


def registered():
    """Returns the classes that have a rule, as a new list."""
    return list(_RULES)


def rule_for(layer, name):
    """Returns the rule for a layer.

    Args:
        layer: Keras layer or operation.
        name: Its name in the model, for the message.

    Raises:
        UnsupportedLayerError: No class that it inherits from is registered, or it redefines what the rule relies on.
    """
    _refuse_half_precision(layer, name)
    for depth, cls in enumerate(type(layer).__mro__):
        if cls in _RULES:
            _refuse_redefinition(layer, name, cls, type(layer).__mro__[:depth])
            return _RULES[cls]
    raise UnsupportedLayerError(
        f"Layer {name!r} of class {type(layer).__name__} has no excitation rule. Register one: "
        f"@pane_keras.register({type(layer).__name__}) over a function (layer, inputs) that returns pieces of "
        "pane_keras.pieces."
    )


def activation_piece(activation, name):
    """Returns the piece of an activation function, None for the identity.

    Raises:
        UnsupportedLayerError: The function is not registered.
    """
    if isinstance(activation, keras.Layer):
        return rule_for(activation, name)(activation, None)
    if activation is None:
        return None
    if activation in _ACTIVATIONS:
        return _ACTIVATIONS[activation](activation)
    raise UnsupportedLayerError(
        f"Layer {name!r} has the activation {getattr(activation, '__name__', activation)!r}, which has no excitation "
        "rule. Register it: @pane_keras.register_activation(function) over a function of the activation that returns "
        "a piece of pane_keras.pieces, such as pieces.elementwise."
    )


def _refuse_half_precision(layer, name):
    if getattr(layer, "compute_dtype", None) in ("float16", "bfloat16"):
        raise UnsupportedLayerError(
            f"Layer {name!r} computes in {layer.compute_dtype}, where signs and sums are rounded too coarsely to tell "
            "what excites from what inhibits. Build the model under the float32 policy and load the same weights."
        )


def _refuse_redefinition(layer, name, base, subclasses):
    changed = sorted({key for cls in subclasses for key in vars(cls) if key not in _HARMLESS and hasattr(base, key)})
    changed += ["call"] if "call" in vars(layer) else []
    if changed:
        raise UnsupportedLayerError(
            f"Layer {name!r} of class {type(layer).__name__} redefines {', '.join(changed)} of {base.__name__}, whose "
            f"rule may not hold for it. Register its own: @pane_keras.register({type(layer).__name__})."
        )
