"""Which map explains a picture, in numbers and in words: of a class or a unit, over the pixels or a layer."""

from dataclasses import dataclass

import numpy as np

from pane_keras.commands.class_names import named
from pane_keras.commands.output import ranked
from pane_keras.errors import InputError


@dataclass(frozen=True)
class Explained:
    """A map and what it explains.

    Attributes:
        maps: The `ExcitationMap`.
        words: What is explained.
        facts: The same for JSON: target, unit, value, over.
        top: The classes with the highest logits as (class, logit), best first, or None.
        remark: What was chosen for the user, or None.
    """

    maps: object
    words: str
    facts: dict
    top: list | None = None
    remark: str | None = None


def explained(trace, arguments, names=None):
    """Returns the `Explained` of a trace of one picture.

    Args:
        trace: The `Trace`.
        arguments: The parsed arguments `target`, `source`, `layer` and `unit`.
        names: Of the classes, or None.

    Raises:
        PaneError: There is no such class, layer or unit, or the model's output is not one number a class.
    """
    return _class(trace, arguments, names) if arguments.layer is None else _unit(trace, arguments)


def _class(trace, arguments, names):
    logits = _class_logits(trace)
    top = ranked(logits)
    chosen = top[0][0] if arguments.target is None else arguments.target
    maps = trace.saliency(chosen) if arguments.source is None else _over(trace, arguments, "logits", (chosen,))
    chosen %= len(logits)
    words = f"the logit {logits[chosen]:.3g} of {named(chosen, names)}{_from(arguments)}"
    return Explained(maps, words, _facts(arguments, "logits", (chosen,), logits), top)


def _class_logits(trace):
    if len(trace.output_names) > 1:
        raise InputError(f"The model has the outputs {list(trace.output_names)}: say with --layer which one is meant.")
    logits = np.asarray(trace.logits())[0]
    if logits.ndim != 1:
        raise InputError(
            f"The model's output has the shape {logits.shape}, not one number a class: say --layer and --unit."
        )
    return logits


def _unit(trace, arguments):
    output, unit, remark = np.asarray(trace[arguments.layer].output)[0], arguments.unit, None
    if unit is None:
        unit = tuple(map(int, np.unravel_index(np.argmax(np.abs(output)), output.shape)))
        remark = f"unit {_comma(unit)} of layer {arguments.layer!r} is its strongest; --unit chooses another"
    maps = _over(trace, arguments, arguments.layer, unit)
    words = f"unit {_comma(unit)} of layer {arguments.layer!r} (output {output[unit]:.3g}){_from(arguments)}"
    return Explained(maps, words, _facts(arguments, arguments.layer, unit, output), remark=remark)


def _over(trace, arguments, target, unit):
    return trace.between(arguments.source or "input", target).map(target=unit)


def _facts(arguments, target, unit, values):
    return {"target": target, "unit": list(unit), "value": float(values[unit]), "over": arguments.source or "input"}


def _from(arguments):
    return "" if arguments.source is None else f", over layer {arguments.source!r}"


def _comma(unit):
    return ",".join(map(str, unit))
