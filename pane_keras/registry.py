"""Which rule belongs to which class of layer, and which pieces to which activation function."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import keras

from pane_keras.errors import UnsupportedLayerError

_RULES: dict = {}
_NAMED: dict = {}
_ACTIVATIONS: dict = {}

F = TypeVar("F", bound=Callable)

EXCITED, TRANSPARENT, REFUSED = "excited", "transparent", "refused"


@dataclass(frozen=True)
class Rule:
    """How a class of layers is treated.

    Attributes:
        function: (layer, inputs) -> piece, or (layer, inputs, arguments) -> piece.
        group: EXCITED, TRANSPARENT (nothing changes at inference) or REFUSED.
        whole: Integers and booleans reach it as they are; other rules get them as floats.
        holds: What it emits is held: nothing excites it.
    """

    function: Callable
    group: str = EXCITED
    whole: bool = False
    holds: bool = False

    @cached_property
    def takes_arguments(self):
        """Whether it is given the call's `Arguments` too."""
        return len(inspect.signature(self.function).parameters) > 2

    @property
    def summary(self):
        """The first line of its docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]


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


def register(*classes: type) -> Callable[[F], F]:
    """Registers a rule for layers, as a decorator.

    The rule takes the layer and its inputs (a tensor, or a list of tensors for a layer with several) and returns
    pieces of `pane_keras.pieces`: what the layer computes at this input, one stage after the other. A rule with a
    third parameter also gets the call's `Arguments`: slots, constants and masks by name.

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
    return register_as(*classes)


def register_as(*classes, **fields):
    """Registers a rule of Keras's own layers, as a decorator: `register` with the other fields of a `Rule`.

    Args:
        *classes: Layer classes, or the names of classes that Keras does not export: operations of `keras.ops`, and
            layers that only `keras.applications` uses.
        **fields: Those of a `Rule`.
    """

    def decorate(function):
        rule = Rule(function, **fields)
        for cls in classes:
            (_NAMED if isinstance(cls, str) else _RULES)[cls] = rule
        return function

    return decorate


def refuse(*classes, reason):
    """Registers that layers have no deterministic linear form at a sample.

    Args:
        *classes: Layer classes; their subclasses are not meant.
        reason: Why, as a clause for people: "it draws random numbers".
    """

    def refused(layer, inputs):
        raise NotImplementedError(reason)

    refused.__doc__ = reason
    register_as(*classes, group=REFUSED)(refused)


def exported(*names):
    """Returns the classes of `keras.layers` with these names; older versions of Keras 3 lack some."""
    return [getattr(keras.layers, name) for name in names if hasattr(keras.layers, name)]


def register_activation(*functions: Any) -> Callable[[F], F]:
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
    """Returns the rules of classes, {class: Rule}, and of classes known by name, {name: Rule}, as new dicts."""
    return dict(_RULES), dict(_NAMED)


def rule_for(layer, name):
    """Returns the `Rule` of a layer.

    Args:
        layer: Keras layer or operation.
        name: Its name in the model, for the message.

    Raises:
        UnsupportedLayerError: No class that it inherits from is registered, or it redefines what the rule relies on.
    """
    for depth, cls in enumerate(type(layer).__mro__):
        rule = _RULES.get(cls) or _named_rule(cls)
        if rule is not None and (rule.group != REFUSED or not depth):
            if rule.group == REFUSED:
                raise UnsupportedLayerError(_refusal(layer, name, rule))
            # A model is read as a graph, whatever its `call` is.
            if cls is not keras.Model:
                _refuse_redefinition(layer, name, cls, type(layer).__mro__[:depth])
            return rule
    raise UnsupportedLayerError(_no_rule(layer, name))


def known(layer):
    """Returns whether a class that the layer inherits from is registered, be it that the layer redefines it."""
    return any((cls in _RULES and _RULES[cls].group != REFUSED) or _named_rule(cls) for cls in type(layer).__mro__)


def _named_rule(cls):
    """Keras does not export the classes of its operations, so their names stand for them."""
    return _NAMED.get(cls.__name__) if cls.__module__.split(".")[0] == "keras" else None


def _refusal(layer, name, rule):
    cls = type(layer).__name__
    return (
        f"Layer {name!r} of class {cls} cannot be explained: {rule.summary}. Leave it out of the model, or register a "
        f"rule for what it computes here: @pane_keras.register({cls})."
    )


def _no_rule(layer, name):
    cls = type(layer).__name__
    if not isinstance(layer, keras.Layer):
        return (
            f"The operation {name!r} (keras.ops, class {cls}) has no excitation rule. Write it with operations that "
            "have one, or put it into a layer of your own and register that."
        )
    return (
        f"Layer {name!r} of class {cls} has no excitation rule. Register one: @pane_keras.register({cls}) over a "
        "function (layer, inputs) that returns pieces of pane_keras.pieces. If its call is made of Keras layers and "
        f"keras.ops: pane_keras.register({cls})(pane_keras.pieces.graph)."
    )


def activation_piece(activation, name):
    """Returns the piece of an activation function, None for the identity.

    Raises:
        UnsupportedLayerError: The function is not registered.
    """
    if isinstance(activation, keras.Layer):
        rule = rule_for(activation, name)
        return rule.function(activation, *[None] * (2 if rule.takes_arguments else 1))
    if activation is None:
        return None
    if activation in _ACTIVATIONS:
        return _ACTIVATIONS[activation](activation)
    raise UnsupportedLayerError(
        f"Layer {name!r} has the activation {getattr(activation, '__name__', activation)!r}, which has no excitation "
        "rule. Register it: @pane_keras.register_activation(function) over a function of the activation that returns "
        "a piece of pane_keras.pieces, such as pieces.elementwise."
    )


def _refuse_redefinition(layer, name, base, subclasses):
    changed = sorted({key for cls in subclasses for key in vars(cls) if key not in _HARMLESS and hasattr(base, key)})
    changed += ["call"] if "call" in vars(layer) else []
    if changed:
        raise UnsupportedLayerError(
            f"Layer {name!r} of class {type(layer).__name__} redefines {', '.join(changed)} of {base.__name__}, whose "
            f"rule may not hold for it. Register its own: @pane_keras.register({type(layer).__name__})."
        )
