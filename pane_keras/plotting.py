"""Figures of excitation maps: the picture, POS, NEG and POS+NEG side by side. Needs the extra `pane-keras[plot]`.

Blue to red through white at zero, readable with any colour vision. Colours saturate at a high percentile, so one
extreme pixel does not bleach the rest. POS and NEG share a scale; POS+NEG has its own, since on a deep network it is
many orders of magnitude smaller.
"""

import os
import secrets
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pane_keras.errors import InputError, SaveError
from pane_keras.extras import needed

COLOURS = "RdBu_r"
PERCENTILE = 99.5
CAPTION = (
    "positive: towards the sign of the explained unit (its value without its bias); negative: against it. "
    "Red is above zero, blue below.\nA coefficient also carries the sign of the signal that it multiplies. "
    f"Channels are summed. Colours saturate at the {PERCENTILE}th percentile of the values."
)
_WIDTH, _HEIGHT, _CAPTION_HEIGHT = 2.9, 3.8, 0.6
_LETTERS_AN_INCH = 14


def plot(maps, pictures=None, *, titles=None, note=None, quantity="coefficient", channel_axis=-1):
    """Returns a matplotlib Figure with a row for each sample: the picture, POS, NEG and POS+NEG.

    Maps over one axis are drawn as bars, over two as images, over three as images with the channels summed.

    Args:
        maps: An `ExcitationMap`.
        pictures: Array (batch, height, width) or (batch, height, width, channels) to show beside the maps; by
            default the signal at which they were taken.
        titles: One string for each sample, or for each sample and unit; by default what is explained, in words.
        note: Lines to add to the caption.
        quantity: What the colour bars measure; "contribution" for `maps.contribution()`.
        channel_axis: Axis of the channels in a sample of the maps: -1, or 0 for `channels_first`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: The maps, pictures or titles do not fit together, or have too many axes.
    """
    rows = _rows(maps, pictures, titles, channel_axis)
    columns = 3 + (rows[0].picture is not None)
    note = note and _wrapped(note, _WIDTH * columns)
    height = _HEIGHT * len(rows) + _CAPTION_HEIGHT + (0.2 * len(note.splitlines()) if note else 0)
    figure = _matplotlib("figure").Figure((_WIDTH * columns, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
    figure.supxlabel(CAPTION + (f"\n{note}" if note else ""), fontsize=8, color="0.3")
    for row, part in zip(rows, figure.subfigures(len(rows), 1, squeeze=False)[:, 0]):
        _draw(row, part, columns, quantity)
    return figure


def _wrapped(note, width):
    """Lines that fit into a figure of so many inches."""
    return "\n".join("\n".join(textwrap.wrap(line, int(_LETTERS_AN_INCH * width))) for line in note.splitlines())


def save_png(figure, path, dpi=130):
    """Writes a figure as PNG: whole or not at all.

    Args:
        figure: A matplotlib Figure.
        path: The file, whose folder exists.
        dpi: Pixels an inch.

    Raises:
        SaveError: The file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        figure.savefig(temporary, format="png", dpi=dpi)
        os.replace(temporary, path)
    except OSError as error:
        raise SaveError(f"Cannot write {str(path)!r}: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)


class _Row(NamedTuple):
    title: str
    picture: np.ndarray | None
    over: str
    parts: tuple
    scales: tuple


def _matplotlib(module):
    return needed(f"matplotlib.{module}", "matplotlib", "plot")


def _rows(maps, pictures, titles, channel_axis):
    units = np.ndim(maps.log2_scale) == 2
    parts = [_flat(part, units) for part in (maps.positive, maps.negative, maps.sum)]
    scales = [np.ravel(scale) for scale in (maps.log2_scale, maps.sum_log2_scale)]
    count = len(parts[0])
    beside = maps.signal if pictures is None else pictures
    beside = [None] * count if beside is None else _repeated(_shown(beside, pictures is None, channel_axis), count)
    titles = [f"{maps.of}, over {maps.over}"] * count if titles is None else list(titles)
    if len(titles) != count:
        raise InputError(f"Expected a title for each of the {count} maps. Received: {len(titles)} titles.")
    over = f"{maps.over or 'signal'}" if pictures is None else "picture"
    values = ([_summed(part[k], channel_axis) for part in parts] for k in range(count))
    return [_Row(titles[k], beside[k], over, tuple(v), tuple(s[k] for s in scales)) for k, v in enumerate(values)]


def _flat(part, units):
    part = np.asarray(part, dtype="float64")
    return part.reshape(-1, *part.shape[2:]) if units else part


def _repeated(pictures, count):
    if not len(pictures) or count % len(pictures):
        raise InputError(f"Expected a picture for each sample, {count} in all. Received: {len(pictures)} pictures.")
    return np.repeat(pictures, count // len(pictures), axis=0)


def _summed(values, channel_axis):
    if values.ndim not in (1, 2, 3):
        raise InputError(
            f"Maps are drawn over 1, 2 or 3 axes, channels included. Received: a map of shape {values.shape}. "
            "Draw a slice of it, as an ExcitationMap of its own."
        )
    return values.sum(axis=channel_axis) if values.ndim == 3 else values


def _shown(pictures, is_signal, channel_axis):
    """What stands beside the maps, from 0 to 1; a layer's output as the mean of its channels."""
    pictures = np.asarray(pictures)
    if not 2 <= pictures.ndim <= 4:
        raise InputError(f"Pictures have the shape (batch, height, width, channels). Received: {pictures.shape}.")
    if pictures.ndim == 2:
        return pictures
    if pictures.ndim == 4 and is_signal:
        pictures = np.moveaxis(pictures, channel_axis if channel_axis < 0 else channel_axis + 1, -1)
    coloured = pictures.ndim == 4 and pictures.shape[-1] in (3, 4)
    pictures = pictures if coloured or pictures.ndim == 3 else pictures.mean(axis=-1)
    as_pixels = coloured or not is_signal
    return np.stack([_from_zero_to_one(picture.astype("float64"), as_pixels) for picture in pictures])


def _from_zero_to_one(picture, as_pixels):
    low, high = picture.min(), picture.max()
    if as_pixels and low >= 0 and high <= 255:
        return picture / (255 if high > 1 else 1)
    return (picture - low) / ((high - low) or 1)


def _draw(row, figure, columns, quantity):
    figure.suptitle(row.title, fontsize=11)
    grid = figure.add_gridspec(2, columns, height_ratios=(30, 1))
    axes = [figure.add_subplot(grid[0, k]) for k in range(columns)]
    if row.picture is not None:
        _draw_picture(axes[0], row.picture, row.over)
    limits = _limit(*row.parts[:2]), _limit(row.parts[2])
    for ax, values, name, limit in zip(axes[-3:], row.parts, ("POS", "NEG", "POS + NEG"), (limits[0], *limits)):
        colours = _draw_map(ax, values, limit, name)
        if name != "POS":
            below, scale = (grid[1, -3:-1], row.scales[0]) if name == "NEG" else (grid[1, -1], row.scales[1])
            _colour_bar(figure.add_subplot(below), colours, scale, quantity)


def _limit(*parts):
    """A high percentile of what is not zero: of a map that is mostly zero, the plain percentile would be zero."""
    sizes = np.abs(np.concatenate([part.ravel() for part in parts]))
    sizes = sizes[sizes > 0]
    return float(np.percentile(sizes, PERCENTILE)) if sizes.size else 1.0


def _draw_picture(ax, picture, name):
    ax.set_title(name, fontsize=10)
    if picture.ndim == 1:
        ax.vlines(np.arange(picture.size), 0, picture, color="0.4", linewidth=_line_width(picture))
        ax.tick_params(labelsize=7)
        return
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect=_aspect(picture))
    ax.set_axis_off()


def _draw_map(ax, values, limit, name):
    ax.set_title(name, fontsize=10)
    norm = _matplotlib("colors").Normalize(-limit, limit)
    if values.ndim == 1:
        return _draw_bars(ax, values, norm)
    image = ax.imshow(np.clip(values, -limit, limit), cmap=COLOURS, norm=norm, aspect=_aspect(values))
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color("0.8")
    return image


def _draw_bars(ax, values, norm):
    lines = ax.vlines(np.arange(values.size), 0, values, linewidth=_line_width(values))
    lines.set(array=values, cmap=COLOURS, norm=norm)
    ax.axhline(0, color="0.6", linewidth=0.6)
    ax.set_facecolor("0.85")
    ax.tick_params(labelsize=7)
    ax.yaxis.get_offset_text().set_fontsize(7)
    return lines


def _line_width(values):
    return max(0.6, 120 / values.size)


def _aspect(values):
    """Square pixels, unless the map is so long that they would be a line."""
    height, width = values.shape[:2]
    return "equal" if max(height, width) <= 4 * min(height, width) else "auto"


def _colour_bar(ax, colours, log2_scale, quantity):
    bar = ax.figure.colorbar(colours, cax=ax, orientation="horizontal")
    bar.ax.tick_params(labelsize=7)
    bar.ax.xaxis.get_offset_text().set_fontsize(7)
    bar.locator = _matplotlib("ticker").MaxNLocator(5, symmetric=True)
    bar.update_ticks()
    bar.set_label(quantity + (f", in units of 2^{int(log2_scale)}" if log2_scale else ""), fontsize=8)
