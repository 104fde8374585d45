"""What a pair of layers and its channel-to-channel excitation show."""

import numpy as np

from pane_keras import backend
from pane_keras.display.tables import Table, counted, note, number, page, title
from pane_keras.record import Gone
from pane_keras.sizes import size

STRONGEST = 6
"""Pairs of channels that are shown."""


def pair_html(pair):
    """Returns an `Excitation` as HTML: both ends, what lies between them, and what queries cost. Nothing is queried."""
    rows = [
        ("source", repr(pair.source), str(pair.source_shape)),
        ("target", repr(pair.target), str(pair.target_shape)),
    ]
    table = Table(("", "layer", "shape of a sample"), tuple(rows)).html()
    if isinstance(pair.record.slots, Gone):
        return page(title("Excitation", "of a trace that was released"), table)
    return page(title("Excitation", f"{pair.source!r} -> {pair.target!r}"), table, *map(note, _facts(pair)))


def channels_text(channels):
    """Returns a `ChannelExcitation` as its line and the strongest pairs of channels."""
    table = _strongest(channels)
    return f"{channels!r}\n{table.text()}" if table.rows else repr(channels)


def channels_html(channels):
    """Returns a `ChannelExcitation` as HTML with the strongest pairs of channels of the first sample."""
    table = _strongest(channels)
    what = "contributions" if channels.contribution else "coefficients"
    said = f"{what} of {channels.source!r} in {channels.target!r}, shape {tuple(channels.sum.shape)}"
    ask = note(
        "The strongest pairs by the sum, of the first sample. `.top(k, channel=...)` asks for one target channel."
    )
    return page(title("ChannelExcitation", said), table.html() + ask if table.rows else "")


class Rows(list):
    """A list of dicts with the same keys that shows as a table."""

    def __repr__(self):
        return self._table().text() if self else "[]"

    def _repr_html_(self):
        return self._table().html()

    def _table(self):
        head = tuple(self[0]) if self else ()
        rows = tuple(tuple(_cell(row[word]) for word in head) for row in self)
        return Table(head, rows, tuple(range(len(head))))


def _facts(pair):
    composition = pair.composition()
    operands = [operand for chain in composition.chains for operand in chain.operands]
    names = list(dict.fromkeys(operand.name for operand in operands))
    yield (
        f"{counted(len(names), 'layer')} on {counted(len(composition.chains), 'chain')} between junctions; one unit of "
        f"one sample takes about {number(2 * composition.work)} FLOPs."
    )
    if None not in (*pair.source_shape, *pair.target_shape):
        yield f"All coefficients take {size(pair.dense_bytes)}: `.dense()`, or `.dense(out=folder)` in files."
    yield "`.map(unit)`, `.effect(unit)` and `.channels()` ask it; `.expression()` shows its tensor network."


def _strongest(channels):
    """The pairs with the largest sum in size, of the first sample."""
    head = ("target", "source", "positive", "negative", "sum")
    if backend.is_symbolic(channels.sum) or not np.size(channels.sum):
        return Table(head, ())
    parts = [_first(channels.positive, channels.log2_scale), _first(channels.negative, channels.log2_scale)]
    parts.append(_first(channels.sum, channels.sum_log2_scale))
    order = np.argsort(-np.abs(parts[-1]), axis=None, kind="stable")[:STRONGEST]
    places = zip(*np.unravel_index(order, parts[-1].shape))
    rows = [(str(t), str(s), *(_cell(part[t, s]) for part in parts)) for t, s in places if parts[-1][t, s]]
    return Table(head, tuple(rows), (0, 1, 2, 3, 4))


def _first(mantissa, scale):
    """The true values of the first sample, (target channels, source channels), as float64."""
    return np.ldexp(np.asarray(mantissa)[0].astype("float64"), np.asarray(scale)[0][:, None])


def _cell(value):
    return str(value) if isinstance(value, (int, str)) else f"{value:.3g}"
