"""What a trace, what one of its layers emitted, and the views of E+ and E- show."""

import math

from pane_keras import backend
from pane_keras.check import local_facts
from pane_keras.display.reports import residual_of
from pane_keras.display.tables import Share, Table, note, number, page, shape_of, title
from pane_keras.record import Gone

ROWS = 20
"""Layers shown as plain text; more are folded in the middle. HTML shows all."""
CHEAP_STAGES, CHEAP_WORK = 40, 2e8
"""A trace of no more stages and multiply-adds is measured when it is shown, which takes less than half a second."""
CHEAP_LAYER = 5e8
"""Multiply-adds up to which one layer is measured when it is shown."""
_HEAD = ("layer", "kind", "output shape", "E+ share", "residual")
_KINDS = 3
_SHARE = "E+ share: of all |coefficient x signal| that adds up to a layer's output, what goes towards its own sign."
_LATER = "The E+ share and the residual stand here once `trace.check()` was called."


class TraceDisplay:
    """What a trace shows, also after it was released.

    Args:
        record: What the forward pass recorded.
        emitted: One `Emitted` for each output of a layer, in order.
        inputs: {name: shape} of the inputs.

    Attributes:
        report: What `Trace.check` found, once it was called.
    """

    def __init__(self, record, emitted, inputs):
        self._record, self._emitted, self._inputs = record, tuple(emitted), inputs
        self.report, self._kept = None, None

    def release(self):
        """Keeps the words that are read off the record, which is about to be emptied."""
        self._kept = self._rows()

    def text(self):
        """Returns a line, and a table of the layers with what `check` found, if it was called."""
        table = self._table(self._checked()) if self.report else Table(_HEAD[:3], self._rows())
        return f"Trace({self._sentence()})\n{table.text(ROWS)}"

    def html(self):
        """Returns a table of the layers, with E+ share and residual if `check` was called, or if they take no time."""
        facts = self._checked() or self._cheap()
        later = "" if facts or self._kept else _LATER
        remark = note(f"{_SHARE} {later}")
        said = f"{self._sentence()}{', released' if self._kept else ''}"
        return page(title("Trace", said), self._table(facts).html(), remark)

    def _rows(self):
        """(name, kinds, shape of the output) of each layer."""
        if self._kept:
            return self._kept
        kinds = {}
        for stage in self._record.stages:
            kinds.setdefault(stage.name, {}).update(dict.fromkeys(edge.operand.kind for edge in stage.edges))
        slots = self._record.slots
        return tuple((e.name, _words(kinds.get(e.layer, ())), shape_of(slots[e.output].value)) for e in self._emitted)

    def _table(self, facts):
        cells = [(*row, *facts.get(one.layer, ("", ""))) for row, one in zip(self._rows(), self._emitted)]
        return Table(_HEAD, tuple(cells), (3, 4))

    def _sentence(self):
        shapes = [str(shape) for shape in self._inputs.values()]
        if len(shapes) > 1:
            shapes = [f"{name!r} {shape}" for name, shape in self._inputs.items()]
        return f"{len(self._emitted)} layers, input {', '.join(shapes)}"

    def _checked(self):
        report = self.report
        if report is None:
            return {}
        return {
            name: (Share.of(report.shares.get(name)), residual_of(value, report.tolerance))
            for name, value in report.layers.items()
        }

    def _cheap(self):
        if self._kept or len(self._record.stages) > CHEAP_STAGES:
            return {}
        return _cells(self._record, self._record.stages, CHEAP_WORK)


def emission_text(emission):
    """Returns an `Emission` as a line."""
    name, views = _name_and_views(emission)
    shapes = ", ".join(str(view.shape) for view in views)
    return f"Emission({name!r}: output {shape_of(emission.output)}, positive and negative {shapes})"


def emission_html(emission):
    """Returns an `Emission` as HTML: shapes of the output and of E+ and E-, and the share of E+ where it is cheap."""
    name, views = _name_and_views(emission)
    rows = [("output", shape_of(emission.output), "")]
    for k, view in enumerate(views):
        over = f" from input {k}" if len(views) > 1 else ""
        rows += [(f"{sign}{over}", str(view.shape), _entries(view)) for sign in ("E+", "E-")]
    table = Table(("", "shape", "coefficients"), tuple(rows), (2,))
    ask = note("`positive.map(unit)` is one row of E+, `positive.dense()` all of it.")
    return page(title("Layer", repr(name)), table.html(), _measured(views[0].excitation), ask)


def view_html(view):
    """Returns an `ExcitationView` as HTML; no coefficient is computed."""
    pair = view.excitation
    sign = {"positive": "E+", "negative": "E-"}[view.part]
    over = pair.source.split(" of ")[0]
    said = f"of {pair.target!r} over its {over}: shape {view.shape}, {_entries(view)} coefficients"
    ask = note("Not computed until asked: `.map(unit)` is one row, `.dense()` or `numpy.asarray` all of it.")
    return page(title(sign, said), ask)


def _measured(pair):
    """The facts of one layer in a sentence, or nothing where they are not known or take long."""
    record, released = pair.record, isinstance(pair.record.slots, Gone)
    stages = [] if released else [stage for stage in record.stages if stage.name == pair.target]
    share, residual = next(iter(_cells(record, stages, CHEAP_LAYER).values()), ("", ""))
    if not share:
        return ""
    return note(f"E+ makes up {share} of what adds up to its output without the bias; residual {residual}.")


def _cells(record, stages, limit):
    """{layer: (share, residual)}, or nothing where that takes more multiply-adds than the limit, or inside a graph."""
    values = [record.slots[stage.output].value for stage in stages]
    operands = [edge.operand for stage in stages for edge in stage.edges]
    if any(map(backend.is_symbolic, values)) or sum(o.work * o.shape[1] for o in operands) > limit:
        return {}
    facts = local_facts(record, stages)
    return {name: (Share.of(one.share), f"{one.residual:.1e}") for name, one in facts.items()}


def _name_and_views(emission):
    views = emission.positive if isinstance(emission.positive, list) else [emission.positive]
    return views[0].excitation.target, views


def _entries(view):
    known = [n for n in view.shape if n is not None]
    return number(math.prod(known)) if len(known) == len(view.shape) else ""


def _words(kinds):
    shown = ", ".join(list(kinds)[:_KINDS])
    return f"{shown}, ..." if len(kinds) > _KINDS else shown or "held"
