"""What a wrapped model and the report on a model show."""

from keras import tree

from pane_keras.display.tables import Table, note, page, title

ROWS = 20
"""Layers shown as plain text; more are folded in the middle. HTML shows all."""
_HEAD = ("layer", "class", "output shape", "treated as", "because")


def treatments(layers):
    """Returns the `Table` of `Treatment`s."""
    rows = tuple((t.name, t.layer, str(t.shape), t.group, t.note) for t in layers)
    return Table(_HEAD, rows, wrapped=(4,))


def model_report_html(report, verdict):
    """Returns a `ModelReport` as HTML."""
    return page(title("Report", verdict), treatments(report.layers).html())


def pane_text(pane, layers):
    """Returns a `PaneModel` as text: a line, and a table of its layers."""
    table = treatments(layers)
    short = Table(table.head[:4], tuple(row[:4] for row in table.rows))
    return f"PaneModel({_sentence(pane)})\n{short.text(ROWS)}"


def pane_html(pane, layers):
    """Returns a `PaneModel` as HTML."""
    ask = note("`pane.trace(inputs)` is one forward pass, of which any two layers can be asked.")
    return page(title("PaneModel", _sentence(pane)), treatments(layers).html(), ask)


def _sentence(pane):
    graph = pane.graph
    shapes = {k: tuple(spec.shape) for k, spec in enumerate(graph.specs)}
    for call in graph.calls:
        shapes.update(zip((value.index for value in tree.flatten(call.outputs)), call.shapes))
    inputs = ", ".join(f"{name!r} {shapes[k]}" for k, name in enumerate(graph.inputs))
    ends = zip(graph.output_names, tree.flatten(graph.outputs))
    outputs = ", ".join(f"{name!r} {shapes.get(value.index, '')}" for name, value in ends)
    return f"{pane.model.name!r}: {len(graph.calls)} layers, {inputs} -> {outputs}"
