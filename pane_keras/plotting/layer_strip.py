"""One unit's map over layer after layer, from the logits down to the input."""

import numpy as np

from pane_keras.errors import InputError, NoPathError
from pane_keras.plotting.choosing import readable_layers, strongest_unit, unit_words
from pane_keras.plotting.drawing import colour_bar, draw_map, draw_picture, level
from pane_keras.plotting.shown import as_pictures, sample_of, shown
from pane_keras.plotting.side_by_side import NAMES, split_note
from pane_keras.plotting.style import caption, explained, limit, new_figure, power, wrapped

_WIDTH, _HEIGHT, _LETTERS, _ROOM = 1.8, 1.8, 11, 65
_LIMITS = "Every layer has limits of its own; POS and NEG share theirs."
_ROWS = ("output", "positive", "negative", "bar", "sum", "sum bar")


def strip(trace, layers=None, unit=None, *, target="logits", sample=0, contribution=False, split_below=None,
          title=None, note=None, channel_axis=-1):  # fmt: skip
    """Returns a matplotlib Figure with a column for each layer: its output, and POS, NEG and POS+NEG of one unit.

    Every layer has limits of its own: maps grow and shrink by many orders of magnitude on the way down. One query of
    the trace for each layer.

    Args:
        trace: The `Trace`.
        layers: Names, drawn from left to right; by default at most 8 with space axes, about one for each resolution,
            from the target down to the input.
        unit: Of the target: a tuple with an index for each axis, or an int where it has one axis. By default the
            unit with the largest output; of logits, the top class.
        target: The layer of the unit.
        sample: Index into the batch.
        contribution: Whether to show coefficient times signal instead of the coefficient.
        split_below: As in `Excitation.map`.
        title: By default what is explained, in words.
        note: Lines to add to the caption.
        channel_axis: Axis of the channels in a sample: -1, or 0 for `channels_first`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: There is no such sample, no layer to draw, or a layer with too many axes.
        PaneError: As `Trace.between` and `Excitation.map`.
    """
    pairs = _pairs(trace, layers, target, channel_axis)
    output = np.asarray(pairs[0].output)
    sample = sample_of(output, sample)
    unit = strongest_unit(output[sample], target) if unit is None else unit
    found = [pair.map(target=unit, split_below=split_below).samples(slice(sample, sample + 1)) for pair in pairs]
    found = [maps.contribution() if contribution else maps for maps in found]
    figure = new_figure(_WIDTH * len(found) + 0.4, _HEIGHT * 4 + 1.6)
    title = unit_words(target, unit, output[sample]) if title is None else title
    figure.suptitle(wrapped(f"{title}, layer by layer", _WIDTH * len(found), _LETTERS), fontsize=11)
    axes = figure.subplots(len(_ROWS), len(found), height_ratios=(10, 10, 10, 0.7, 10, 0.7), squeeze=False)
    for column, maps in zip(axes.T, found):
        _draw(dict(zip(_ROWS, column)), maps, channel_axis)
    for row, name in (("output", "output"), *NAMES.items()):
        axes[_ROWS.index(row), 0].set_ylabel(name, fontsize=9)
    explained(figure, caption(found[0].quantity), _LIMITS, split_note(split_below), note)
    return figure


def _pairs(trace, layers, target, channel_axis):
    if isinstance(layers, str):
        layers = [layers]
    if layers is not None:
        pairs = [trace.between(name, target) for name in layers]
    else:
        names = readable_layers(trace, target, channel_axis)
        pairs = [pair for pair in (_pair(trace, name, target) for name in names) if pair is not None]
    if not pairs:
        raise InputError(f"Expected the name of at least one layer below {target!r}. Received: layers={layers!r}.")
    return pairs


def _pair(trace, name, target):
    try:
        return trace.between(name, target)
    except NoPathError:
        return None


def _draw(axes, maps, channel_axis):
    (row,), (picture,) = shown(maps, channel_axis), as_pictures(maps.signal, True, channel_axis)
    shape = " × ".join(map(str, maps.signal.shape[1:]))
    title = "\n".join((wrapped(maps.over, _WIDTH, _LETTERS), shape))
    draw_picture(axes["output"], picture, title, size=8, room=_ROOM)
    both = limit(row.positive, row.negative)
    for name, top in (("positive", both), ("negative", both), ("sum", limit(row.sum))):
        values, scale = row.part(name)
        colours = draw_map(axes[name], values, top, "", room=_ROOM)
        if name != "positive":
            bar = axes["bar" if name == "negative" else "sum bar"]
            colour_bar(bar, colours, 0, power(scale).strip(), ticks=2, size=6)
    level([axes["positive"], axes["negative"]])
