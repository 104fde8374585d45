"""The pieces that figures are made of: a picture, a map, a colour bar."""

import numpy as np

from pane_keras.plotting.style import COLOURS, in_units, matplotlib

ROOM = 120
_LONG = 4
"""How many times as long as wide a map may be before its pixels are stretched."""


def draw_picture(ax, picture, name, size=10, room=ROOM):
    """Draws a picture with entries from 0 to 1, or a vector as grey bars. Arguments are those of `draw_map`."""
    ax.set_title(name, fontsize=size)
    if picture.ndim == 1:
        ax.vlines(np.arange(picture.size), 0, picture, color="0.4", linewidth=_line_width(picture, room))
        ax.tick_params(labelsize=7)
        return
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect=aspect(picture))
    _frame(ax)


def draw_map(ax, values, top, name, size=10, room=ROOM):
    """Draws a map, blue below zero and red above, and returns what a colour bar reads.

    Args:
        ax: matplotlib axes.
        values: Array over one axis, drawn as bars, or over two.
        top: The value at which colours saturate.
        name: The title.
        size: Of the title.
        room: Points that all bars together are wide.
    """
    ax.set_title(name, fontsize=size)
    norm = matplotlib("colors").Normalize(-top, top)
    if values.ndim == 1:
        return _draw_bars(ax, values, norm, room)
    image = ax.imshow(np.clip(values, -top, top), cmap=COLOURS, norm=norm, aspect=aspect(values))
    _frame(ax)
    return image


def colour_bar(ax, colours, log2_scale, quantity, ticks=5, size=7):
    """Draws the colour bar of a map into axes of its own, with its unit where that is not 1."""
    bar = ax.figure.colorbar(colours, cax=ax, orientation="horizontal")
    bar.ax.tick_params(labelsize=size)
    bar.ax.xaxis.get_offset_text().set_fontsize(size)
    bar.locator = matplotlib("ticker").MaxNLocator(ticks, symmetric=True)
    bar.formatter.set_powerlimits((-3, 4))
    bar.update_ticks()
    bar.set_label(in_units(quantity, log2_scale), fontsize=size + 1)
    return bar


def level(axes):
    """Gives bars the same heights: those of maps that share a scale."""
    axes = [ax for ax in axes if not ax.images]
    heights = [height for ax in axes for height in ax.get_ylim()]
    for ax in axes:
        ax.set_ylim(min(heights), max(heights))


def aspect(values):
    """Returns "equal" for square pixels, unless the map is so long that they would be a line."""
    height, width = values.shape[:2]
    return "equal" if max(height, width) <= _LONG * min(height, width) else "auto"


def _frame(ax):
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("0.8")


def _draw_bars(ax, values, norm, room):
    lines = ax.vlines(np.arange(values.size), 0, values, linewidth=_line_width(values, room))
    lines.set(array=values, cmap=COLOURS, norm=norm)
    ax.axhline(0, color="0.6", linewidth=0.6)
    ax.set_facecolor("0.85")
    ax.tick_params(labelsize=7)
    ax.yaxis.get_offset_text().set_fontsize(7)
    return lines


def _line_width(values, room):
    return max(0.6, room / values.size)
