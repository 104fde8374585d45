"""The channel-to-channel excitation of a pair of layers as heat maps, with the strongest pairs marked and named."""

from dataclasses import dataclass

import numpy as np

from pane_keras.errors import InputError
from pane_keras.plotting.drawing import colour_bar, draw_map
from pane_keras.plotting.shown import in_one_unit, sample_of
from pane_keras.plotting.side_by_side import NAMES
from pane_keras.plotting.style import caption, explained, limit, matplotlib, new_figure, power, wrapped

MOST_CHANNELS = 64
_PANEL, _WORDS, _TICKS = 3.6, 3.1, 12
_INK, _TITLE_PAD = "black", 11
_ROOMY = 0.12
"""Inches of an entry that a number fits into."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """The entries that are drawn.

    Attributes:
        values: Dict "positive", "negative", "sum" -> float64 array (rows, columns), in units of 2**log2_scale.
        scales: Dict of the same names -> log2_scale.
        rows, columns: Numbers of the target and source channels that are drawn, ascending.
        whole: (target channels, source channels) before the cut.
        strongest: Indices (row, column) of the pairs with the largest sum, the strongest first.
    """

    values: dict
    scales: dict
    rows: np.ndarray
    columns: np.ndarray
    whole: tuple
    strongest: list


def channels(excitation, k=8, *, sample=0, most=MOST_CHANNELS, title=None, note=None):
    """Returns a matplotlib Figure of a `ChannelExcitation`: POS, NEG and POS+NEG, target channels by source channels.

    The k pairs with the largest POS+NEG are numbered in the figure, and named in words beside it.

    Args:
        excitation: What `Excitation.channels` returned.
        k: How many pairs to name.
        sample: Index into the batch.
        most: Largest number of rows and columns. Of more, those with the largest entries of POS+NEG are drawn.
        title: By default the two layers, in words.
        note: Lines to add to the caption.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: There is no such sample, or k or `most` is too small.
    """
    matrix = matrix_of(excitation, k, sample, most)
    quantity = "contribution" if excitation.contribution else "coefficient"
    height, width = _size(matrix)
    figure = new_figure(3 * width + _WORDS, height)
    title = f"channels of {excitation.source!r} in channels of {excitation.target!r}" if title is None else title
    figure.suptitle(wrapped(title, 3 * width + _WORDS, 11), fontsize=11)
    grid = figure.add_gridspec(2, 4, height_ratios=(30, 1), width_ratios=(width, width, width, _WORDS))
    axes = dict(zip(NAMES, (figure.add_subplot(grid[0, column]) for column in range(3))))
    colours = _draw(axes, matrix)
    for name, ax in axes.items():
        _name_axes(ax, matrix, excitation, first=name == "positive")
        _mark(ax, matrix.strongest, inside=min(height / len(matrix.rows), width / len(matrix.columns)) > _ROOMY)
    for name, below in (("negative", grid[1, :2]), ("sum", grid[1, 2])):
        colour_bar(figure.add_subplot(below), colours[name], matrix.scales[name], quantity)
    _write(figure.add_subplot(grid[0, 3]), matrix)
    explained(figure, _legend(quantity), _cut(matrix), note)
    return figure


def matrix_of(excitation, k=8, sample=0, most=MOST_CHANNELS):
    """Returns the `Matrix` of a sample. Arguments and errors are those of `channels`."""
    for name, value in (("k", k), ("most", most)):
        if not isinstance(value, (int, np.integer)) or value < (name == "most"):
            raise InputError(f"Expected {name} as an int from {int(name == 'most')} up. Received: {name}={value!r}.")
    sample = sample_of(excitation.sum, sample)
    arrays = {name: np.asarray(getattr(excitation, name), "float64")[sample] for name in NAMES}
    shared, total = (np.asarray(s)[sample][:, None] for s in (excitation.log2_scale, excitation.sum_log2_scale))
    (positive, negative), scale = in_one_unit([arrays["positive"], arrays["negative"]], [shared, shared])
    (entries,), sum_scale = in_one_unit([arrays["sum"]], [total])
    rows, columns = (_largest(np.abs(entries).max(axis=axis), most) for axis in (1, 0))
    values = {"positive": positive, "negative": negative, "sum": entries}
    values = {name: value[np.ix_(rows, columns)] for name, value in values.items()}
    scales = {"positive": scale, "negative": scale, "sum": sum_scale}
    return Matrix(values, scales, rows, columns, entries.shape, _strongest(values["sum"], k))


def _largest(sizes, most):
    """The numbers of the largest, in their own order."""
    return np.sort(np.argsort(-sizes, kind="stable")[:most])


def _strongest(entries, k):
    order = np.argsort(-np.abs(entries), axis=None, kind="stable")[:k]
    pairs = [tuple(map(int, np.unravel_index(flat, entries.shape))) for flat in order]
    return [pair for pair in pairs if entries[pair] != 0]


def _size(matrix):
    """Inches of a panel: as high as its rows need, within reason."""
    ratio = len(matrix.rows) / len(matrix.columns)
    return 1.6 + _PANEL * min(1.6, max(0.6, ratio)), _PANEL


def _draw(axes, matrix):
    """Draws the three parts and returns what their colour bars read."""
    both, colours = limit(matrix.values["positive"], matrix.values["negative"]), {}
    for name, ax in axes.items():
        values = matrix.values[name]
        colours[name] = draw_map(ax, values, limit(values) if name == "sum" else both, "")
        ax.set_title(NAMES[name], fontsize=10, pad=_TITLE_PAD)
    return colours


def _name_axes(ax, matrix, excitation, first):
    # Few rows beside many columns would be lines.
    ax.set_aspect("auto")
    for axis, numbers in ((ax.xaxis, matrix.columns), (ax.yaxis, matrix.rows)):
        at = np.arange(0, len(numbers), -(-len(numbers) // _TICKS))
        axis.set_ticks(at, [str(numbers[k]) for k in at], fontsize=7)
    ax.set_xlabel(wrapped(f"source channel of {excitation.source}", _PANEL, 14), fontsize=8)
    if first:
        ax.set_ylabel(wrapped(f"target channel of {excitation.target}", _PANEL, 14), fontsize=8)


def _mark(ax, pairs, inside):
    """Frames the pairs, with their numbers inside where there is room, else at the upper right corner."""
    patches, effects = matplotlib("patches"), matplotlib("patheffects")
    for number, (row, column) in enumerate(pairs, 1):
        ax.add_patch(patches.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=_INK, linewidth=1))
        at, shift, how = (column, row), (0, 0), {"ha": "center", "va": "center"}
        if not inside:
            at, shift, how = (column + 0.5, row - 0.5), (1.5, 0.5), {}
        text = ax.annotate(str(number), at, shift, textcoords="offset points", fontsize=7, **how)
        text.set_path_effects([effects.withStroke(linewidth=2, foreground="white")])


def _write(ax, matrix):
    ax.set_axis_off()
    head = wrapped("The strongest pairs by POS + NEG, source channel first", _WORDS, 13)
    lines = [head if matrix.strongest else "All pairs are zero.", ""]
    for number, pair in enumerate(matrix.strongest, 1):
        value = matrix.values["sum"][pair]
        source, target = matrix.columns[pair[1]], matrix.rows[pair[0]]
        does = "raises" if value > 0 else "lowers"
        size = f"{value:+.3g}{power(matrix.scales['sum'])}"
        lines.append(f"{number}.  {source} {does} {target}  ({size})")
    ax.text(0, 1, "\n".join(lines), va="top", fontsize=8.5, linespacing=1.6, transform=ax.transAxes)


def _legend(quantity):
    place = "Every entry is added up over all units of the two channels."
    return caption(quantity, place).replace("the explained unit", "each unit of the target channel")


def _cut(matrix):
    shown = len(matrix.rows), len(matrix.columns)
    if shown == matrix.whole:
        return ""
    return (
        f"Drawn are the {shown[0]} of {matrix.whole[0]} target channels and the {shown[1]} of {matrix.whole[1]} source "
        "channels with the largest entries of POS + NEG."
    )
