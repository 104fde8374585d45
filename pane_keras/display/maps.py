"""What maps show: each part's range, its share, and the power of two that it is in units of."""

from itertools import islice

import numpy as np

from pane_keras import backend
from pane_keras.display.tables import Share, Table, note, page, title

SHOWN = 4
"""Maps of a batch, or of a list of units, whose numbers are shown."""
_ABOUT = "share: of sum |POS| + |NEG|. units: 1 where nothing stands. `.plot()` draws the maps."
_PARTS = {"positive": "POS", "negative": "NEG", "sum": "POS+NEG"}


def maps_text(maps):
    """Returns `ExcitationMap`s as their line and a table of numbers; inside a graph there are no numbers."""
    table, more = _table(maps)
    return "\n".join([repr(maps), *([table.text()] if table.rows else []), *([more] if more else [])])


def maps_html(maps):
    """Returns `ExcitationMap`s as HTML."""
    table, more = _table(maps)
    axes, shape = ", ".join(maps.axes), tuple(maps.sum.shape)
    said = f"{maps.quantity}s of {maps.of}, over {maps.over}, axes ({axes}), shape {shape}"
    if not table.rows:
        return page(title(type(maps).__name__, said), note(more or "No samples."))
    remarks = [note(more)] if more else []
    return page(title(type(maps).__name__, said), table.html(), *remarks, note(_ABOUT))


def _table(maps):
    """The table of the first maps, and in words what it leaves out."""
    head = (" ".join(maps.axes[: len(maps.log2_scale.shape)]), "part", "smallest", "largest", "share", "units")
    if any(map(backend.is_symbolic, (maps.sum, maps.positive, maps.log2_scale))):
        return Table(head, ()), "Inside a graph, values are not known."
    scales = np.asarray(maps.log2_scale)
    places = list(islice(np.ndindex(scales.shape), SHOWN))
    rows = [row for place in places for row in _rows(maps, place)]
    left = scales.size - len(places)
    return Table(head, tuple(rows), (2, 3, 4, 5)), f"... {left} more maps ..." if left else ""


def _rows(maps, place):
    parts = {name: np.asarray(getattr(maps, name)[place], "float64") for name in _PARTS}
    sizes = {name: np.abs(parts[name]).sum() for name in ("positive", "negative")}
    whole = sum(sizes.values())
    for name, values in parts.items():
        scale = int(np.asarray(maps.sum_log2_scale if name == "sum" else maps.log2_scale)[place])
        share = Share.of(sizes[name] / whole if name in sizes and whole else None)
        ends = [f"{end:.3g}" for end in (values.min(), values.max())] if values.size else ["", ""]
        yield (", ".join(map(str, place)), _PARTS[name], *ends, share, f"2^{scale}" if scale and values.any() else "")
