"""PNGs of maps and pictures, and numbers in words: blue to red through white at zero, as in the plots."""

import io
import math
from functools import cache

import numpy as np

from pane_keras.extras import needed
from pane_keras.plotting import COLOURS

_BAR_ROWS = 64


def map_png(plane, top, as_bars=False):
    """Returns the PNG of a signed map.

    Args:
        plane: Array (rows, columns).
        top: Value of the strongest colours, above zero.
        as_bars: Whether to draw its one row as bars up and down from zero.
    """
    share = np.clip(np.asarray(plane) / top, -1, 1)
    return _png(_bars(share[0]) if as_bars else _table()[_index(share)])


def picture_png(pixels):
    """Returns the PNG of a picture, (height, width) or (height, width, channels), in colour where it has 3 or 4."""
    pixels = np.asarray(pixels, dtype="float64")
    if pixels.ndim == 3 and pixels.shape[-1] not in (3, 4):
        pixels = pixels.mean(axis=-1)
    return _png(np.round(255 * _from_zero_to_one(pixels)).astype("uint8"))


def scale_png(width=128):
    """Returns the PNG of the colour scale, from the lowest value to the highest."""
    return map_png(np.linspace(-1, 1, width)[None], 1)


def number(value, log2_scale=0):
    """Returns `value * 2**log2_scale` in three digits, also where no float holds it."""
    if not value or not log2_scale:
        return f"{value:.3g}"
    exponent = math.log10(abs(value)) + log2_scale * math.log10(2)
    whole = math.floor(exponent)
    digits = f"{10 ** (exponent - whole):.3g}"
    digits, whole = ("1", whole + 1) if digits == "10" else (digits, whole)
    return f"{'-' if value < 0 else ''}{digits}e{whole:+03d}"


def _from_zero_to_one(pixels):
    low, high = pixels.min(), pixels.max()
    if low >= 0 and high <= 255:
        return pixels / (255 if high > 1 else 1)
    return (pixels - low) / ((high - low) or 1)


@cache
def _table():
    colours = needed("matplotlib", "matplotlib", "plot").colormaps[COLOURS].resampled(257)(np.arange(257))
    return np.round(255 * colours[:, :3]).astype("uint8")


def _index(share):
    """Of 257 colours, so that zero is exactly the white in the middle."""
    return np.round(128 + 128 * share).astype(int)


def _bars(share):
    """Bars on light grey, so that short ones near white are seen too."""
    height = np.linspace(1, -1, _BAR_ROWS)[:, None]
    filled = np.where(share > 0, (height >= 0) & (height <= share), (height <= 0) & (height >= share))
    filled &= (share != 0)[None]
    return np.where(filled[..., None], _table()[_index(share)][None], np.uint8(224)).astype("uint8")


def _png(pixels):
    file = io.BytesIO()
    image = needed("PIL.Image", "Pillow", "plot").fromarray(pixels)
    image.save(file, format="PNG", compress_level=1)
    return file.getvalue()
