"""`report(model)`: what every layer of a model will be treated as, before anything runs."""

from dataclasses import dataclass

from pane_keras import rules as _rules  # noqa: F401  registers the rules of Keras's layers
from pane_keras.composite import live_calls
from pane_keras.errors import UnsupportedLayerError
from pane_keras.reading import read_graph, refuse_training
from pane_keras.registry import rule_for

HELD = "held"
UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Treatment:
    """What one call of a layer is treated as.

    Attributes:
        name: Of the call, as in a trace.
        layer: Name of its class.
        shape: Of what it emits, None for the batch; a list of shapes for several outputs.
        group: "excited", "transparent" (nothing changes at inference), "held" (arithmetic of masks and indices, which
            nothing excites) or "unsupported".
        note: The law, or why it is unsupported and what to do.
    """

    name: str
    layer: str
    shape: object
    group: str
    note: str


@dataclass(frozen=True)
class ModelReport:
    """What `wrap` would do with a model. Prints as a table, and shows as one in a notebook.

    Attributes:
        model: Name of the model.
        layers: One `Treatment` for each call of a layer, in order.
    """

    model: str
    layers: tuple

    @property
    def unsupported(self):
        """The treatments of what `wrap` refuses."""
        return [layer for layer in self.layers if layer.group == UNSUPPORTED]

    @property
    def ok(self):
        """Whether `wrap` takes the model."""
        return not self.unsupported

    def __str__(self):
        rows = [("layer", "class", "output shape", "treated as", "because")]
        rows += [(t.name, t.layer, str(t.shape), t.group, t.note) for t in self.layers]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, self._verdict()])

    def _verdict(self):
        if self.ok:
            return f"{self.model}: {len(self.layers)} layers, all supported"
        return f"{self.model}: {len(self.unsupported)} of {len(self.layers)} layers are unsupported"


def report(model):
    """Returns the `ModelReport` of a Keras model, in which unsupported layers are listed instead of raised.

    Args:
        model: A built `keras.Model`, as for `wrap`.

    Raises:
        ModelError: `model` is not a Keras model, or is not built.
        UnsupportedLayerError: A subclassed model's `call` cannot be read as a graph.
    """
    graph = read_graph(model)
    live = live_calls(graph, strict=False)
    return ModelReport(model.name, tuple(_treatment(*each) for each in zip(graph.calls, live)))


def _treatment(call, live):
    shape = call.shapes[0] if len(call.shapes) == 1 else list(call.shapes)
    cls = type(call.operation).__name__
    if not live:
        return Treatment(call.name, cls, shape, HELD, "arithmetic of masks and indices")
    try:
        refuse_training(call.name, call.operation, call.kwargs)
        rule = rule_for(call.operation, call.name)
    except UnsupportedLayerError as error:
        return Treatment(call.name, cls, shape, UNSUPPORTED, str(error))
    return Treatment(call.name, cls, shape, HELD if rule.holds else rule.group, rule.summary)
