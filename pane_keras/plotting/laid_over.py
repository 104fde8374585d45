"""A map laid over its picture in grey: red and blue where it is large, clear where it is zero."""

import numpy as np

from pane_keras.errors import InputError
from pane_keras.plotting.drawing import aspect, colour_bar
from pane_keras.plotting.shown import beside, shown
from pane_keras.plotting.side_by_side import NAMES, checked_titles
from pane_keras.plotting.style import caption, explained, limit, matplotlib, new_figure, wrapped

_BLUE, _RED = "#2166ac", "#b2182b"
_STRONGEST = 0.9
_GREY = 0.35, 0.65
"""The darkest grey of a picture, and how much lighter it gets: on black, blue could not be told from clear."""
_WIDTH, _HEIGHT, _COLUMNS = 4.6, 5.2, 3


def overlay(maps, pictures=None, part="sum", *, cell=1, contribution=False, titles=None, note=None, channel_axis=-1):
    """Returns a matplotlib Figure of each map over its picture: the larger an entry, the less of the picture is seen.

    Args:
        maps: An `ExcitationMap` over two space axes.
        pictures: Array (batch, height, width) or (batch, height, width, channels), of any height and width; by default
            the signal at which the maps were taken.
        part: "positive", "negative" or "sum".
        cell: Entries are added up over squares of so many places each way: the sum of a noisy map can be seen where
            single pixels cannot.
        contribution: Whether to show coefficient times signal instead of the coefficient.
        titles: One string for each sample, or for each sample and unit; by default what is explained, in words.
        note: Lines to add to the caption.
        channel_axis: Axis of the channels in a sample of the maps: -1, or 0 for `channels_first`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: The maps, pictures or titles do not fit together, there is nothing to lay the maps over, or there is
            no such part or cell.
    """
    maps = maps.contribution() if contribution else maps
    rows = shown(maps, channel_axis)
    pixels = beside(maps, pictures, len(rows), channel_axis)
    _check(rows, pixels, part, cell)
    titles = checked_titles(titles, maps, len(rows))
    columns = min(_COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(_WIDTH * columns, _HEIGHT * lines)
    panels = figure.subfigures(lines, columns, squeeze=False).ravel()
    for row, picture, title, panel in zip(rows, pixels, titles, panels):
        panel.suptitle(wrapped(f"{NAMES[part]} of {title}", _WIDTH, 11), fontsize=11)
        values, log2_scale = row.part(part)
        _draw(panel, picture, values, cell, log2_scale, maps.quantity)
    squares = f", and squares of {cell} × {cell} places" if cell > 1 else ""
    explained(figure, caption(maps.quantity, f"Channels{squares} are summed."), note)
    return figure


def fading():
    """Returns the colours of an overlay: blue, clear at zero, red."""
    colours = matplotlib("colors")
    ends = [colours.to_rgb(colour) for colour in (_BLUE, _RED)]
    steps = [k / 128 - 1 for k in range(257)]
    return colours.ListedColormap([(*ends[step > 0], _STRONGEST * abs(step)) for step in steps], "fading")


def _draw(figure, picture, values, cell, log2_scale, quantity):
    ax, bar = figure.subplots(2, 1, height_ratios=(30, 1))
    cells = in_cells(values, cell)
    # Map and picture fill one frame, whatever their sizes; cells at the border may reach out of it.
    height, width = (cell * count / size for count, size in zip(cells.shape, values.shape))
    ax.imshow(_lightened(picture), cmap="gray", vmin=0, vmax=1, extent=(0, 1, 1, 0))
    norm = matplotlib("colors").Normalize(-limit(cells), limit(cells), clip=True)
    colours = ax.imshow(cells, cmap=fading(), norm=norm, extent=(0, width, height, 0), interpolation="none")
    ax.set(xlim=(0, 1), ylim=(1, 0), aspect=_frame_aspect(picture))
    ax.set_axis_off()
    colour_bar(bar, colours, log2_scale, quantity)


def in_cells(values, cell):
    """Returns a map added up over squares of `cell` places each way; what lies outside it counts as zero."""
    padded = np.pad(values, [(0, -size % cell) for size in values.shape])
    height, width = (size // cell for size in padded.shape)
    return padded.reshape(height, cell, width, cell).sum(axis=(1, 3))


def _frame_aspect(picture):
    return "auto" if aspect(picture) == "auto" else picture.shape[0] / picture.shape[1]


def _lightened(picture):
    grey = picture if picture.ndim == 2 else picture[..., :3] @ (0.299, 0.587, 0.114)
    return _GREY[0] + _GREY[1] * grey


def _check(rows, pixels, part, cell):
    if part not in NAMES:
        raise InputError(f"Expected part='positive', 'negative' or 'sum'. Received: part={part!r}.")
    if not isinstance(cell, (int, np.integer)) or cell < 1:
        raise InputError(f"Expected cell as an int from 1 up. Received: cell={cell!r}.")
    values, picture = rows[0].sum, pixels[0]
    if picture is None:
        raise InputError("There is nothing to lay these maps over: they have no signal. Pass pictures=.")
    if values.ndim != 2 or picture.ndim < 2:
        raise InputError(
            f"A map is laid over a picture of height and width. Received: a map of shape {values.shape} and a picture "
            f"of shape {picture.shape}. Draw it with plot(), as bars."
        )
