"""`report(model)`: what every layer of a model will be treated as, before anything runs."""

from dataclasses import dataclass, replace
from typing import Any

import keras

from pane_keras import rules as _rules  # noqa: F401  registers the rules of Keras's layers
from pane_keras.composite import live_calls
from pane_keras.display.models import model_report_html, treatments
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
    shape: tuple | list
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
    layers: tuple[Treatment, ...]

    @property
    def unsupported(self) -> list[Treatment]:
        """The treatments of what `wrap` refuses."""
        return [layer for layer in self.layers if layer.group == UNSUPPORTED]

    @property
    def ok(self) -> bool:
        """Whether `wrap` takes the model."""
        return not self.unsupported

    def __str__(self):
        return f"{treatments(self.layers).text()}\n{self._verdict()}"

    __repr__ = __str__

    def _repr_html_(self):
        return model_report_html(self, self._verdict())

    def _verdict(self):
        if self.ok:
            return f"{self.model}: {len(self.layers)} layers, all supported"
        return f"{self.model}: {len(self.unsupported)} of {len(self.layers)} layers are unsupported"


def report(model: Any) -> ModelReport:
    """Returns the `ModelReport` of a Keras model, in which unsupported layers are listed instead of raised.

    Args:
        model: A built `keras.Model`, as for `wrap`, or a `PaneModel`.

    Raises:
        ModelError: `model` is not a Keras model, or is not built.
        UnsupportedLayerError: A subclassed model's `call` cannot be read as a graph.
    """
    model = _unwrapped(model)
    graph = read_graph(model)
    live = live_calls(graph, strict=False)
    return ModelReport(model.name, tuple(_treatment(*each) for each in zip(graph.calls, live)))


def _unwrapped(model):
    # A `PaneModel`, whose module imports this one.
    inner = getattr(model, "model", None)
    return inner if hasattr(model, "excitations") and isinstance(inner, keras.Model) else model


def _treatment(call, live):
    if not live:
        return _treated(call, None)
    try:
        refuse_training(call.name, call.operation, call.kwargs)
        rule = rule_for(call.operation, call.name)
    except UnsupportedLayerError as error:
        return replace(_treated(call, None), group=UNSUPPORTED, note=str(error))
    return _treated(call, rule)


def treatments_of(pane):
    """Returns the `Treatment`s of the layers of a `PaneModel`."""
    return [_treated(call, layer.rule) for call, layer in zip(pane.graph.calls, pane.excitations)]


def _treated(call, rule):
    """The treatment of a call by its rule, or by None: nothing that it reads can be excited."""
    group = HELD if rule is None or rule.holds else rule.group
    note = "arithmetic of masks and indices" if rule is None else rule.summary
    shape = call.shapes[0] if len(call.shapes) == 1 else list(call.shapes)
    return Treatment(call.name, type(call.operation).__name__, shape, group, note)
