"""`pane-keras layers`: the layers of a model, their shapes and what kind of excitation each has."""

import numpy as np

from pane_keras.errors import InputError
from pane_keras.loading import load_model
from pane_keras.wrapping import wrap

_FREE_SIZE = 64


def run(arguments):
    """Prints the table of a model's layers.

    Args:
        arguments: The parsed argument `model`.
    """
    pane = wrap(load_model(arguments.model))
    shapes = {spec.name: _sample_shape(spec) for spec in pane.graph.specs}
    trace = pane.trace(_constant(pane, shapes))
    rows = [("layer", "class", "output shape", "excitation")]
    for layer in pane.excitations:
        shape = tuple(trace[layer.label].output.shape[1:])
        rows.append((layer.label, type(layer.operation).__name__, str(shape), kinds(trace, layer.label)))
    print(f"{pane.model.name}: {', '.join(f'input {name!r} {shape}' for name, shape in shapes.items())}")
    print(table(rows))


def kinds(trace, name):
    """Returns the kinds of a layer's excitations, stage after stage, in words."""
    stages = [stage for stage in trace._record.stages if stage.name == name]
    words = [_kind(stage, trace) for stage in stages]
    return " + ".join(dict.fromkeys(words)) or "identity"


def table(rows):
    """Returns rows of strings as lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _kind(stage, trace):
    kind = stage.edges[0].operand.kind
    return f"{kind} (left out: maps explain the logits)" if stage.head and stage.output in trace._outputs else kind


def _sample_shape(spec):
    if len(spec.shape) < 2:
        raise InputError(f"Input {spec.name!r} expects a batch axis and at least one more. Received: {spec.shape}.")
    return tuple(size or _FREE_SIZE for size in spec.shape[1:])


def _constant(pane, shapes):
    values = {name: np.full((1, *shape), 0.5, "float32") for name, shape in shapes.items()}
    return values if len(values) > 1 else next(iter(values.values()))
