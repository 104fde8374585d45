"""What figures show of maps: one flat array for each part of each sample, and the picture that stands beside it."""

from dataclasses import dataclass

import numpy as np

from pane_keras.errors import InputError


@dataclass(frozen=True, eq=False)
class Shown:
    """The map of one unit at one sample, as it is drawn.

    Attributes:
        positive, negative, sum: float64 arrays over one or two axes, channels summed, in units of 2**scale.
        log2_scale: int, of `positive` and `negative`.
        sum_log2_scale: int.
    """

    positive: np.ndarray
    negative: np.ndarray
    sum: np.ndarray
    log2_scale: int
    sum_log2_scale: int

    def part(self, name):
        """Returns (values, log2_scale) of "positive", "negative" or "sum"."""
        return getattr(self, name), self.sum_log2_scale if name == "sum" else self.log2_scale


def shown(maps, channel_axis=-1):
    """Returns a `Shown` for each sample of an `ExcitationMap`, or for each sample and unit.

    Args:
        maps: The maps.
        channel_axis: Axis of the channels in a sample: -1, or 0 for `channels_first`.

    Raises:
        InputError: The maps have too many axes.
    """
    units = np.ndim(maps.log2_scale) == 2
    parts = [_flat(part, units) for part in (maps.positive, maps.negative, maps.sum)]
    scales = [np.ravel(scale) for scale in (maps.log2_scale, maps.sum_log2_scale)]
    return [
        Shown(*(summed(part, channel_axis) for part in one), *(int(scale) for scale in of))
        for *one, of in zip(*parts, zip(*scales))
    ]


def beside(maps, pictures, count, channel_axis=-1):
    """Returns the picture beside each of `count` maps, from 0 to 1, or Nones where there is none.

    Args:
        maps: The maps, whose signal is shown where no pictures are given.
        pictures: Array (batch, height, width) or (batch, height, width, channels), or None.
        count: A multiple of the number of pictures.
        channel_axis: As in `shown`.

    Raises:
        InputError: The pictures have another shape, or do not go into `count`.
    """
    pixels = maps.signal if pictures is None else pictures
    if pixels is None:
        return [None] * count
    pixels = as_pictures(pixels, pictures is None, channel_axis)
    if not len(pixels) or count % len(pixels):
        raise InputError(f"Expected a picture for each sample, {count} in all. Received: {len(pixels)} pictures.")
    return list(np.repeat(pixels, count // len(pixels), axis=0))


def summed(values, channel_axis=-1):
    """Returns a map of one sample as it is drawn: channels summed, a series of one channel as a vector.

    Raises:
        InputError: It has no axis, or more than three.
    """
    if values.ndim not in (1, 2, 3):
        raise InputError(
            f"Maps are drawn over 1, 2 or 3 axes, channels included. Received: a map of shape {values.shape}. "
            "Draw a slice of it, as an ExcitationMap of its own."
        )
    if values.ndim == 3 or _is_series(values.shape, channel_axis):
        return values.sum(axis=channel_axis)
    return values


def as_pictures(pictures, is_signal, channel_axis=-1):
    """Returns pictures with entries from 0 to 1; a layer's output, unless it has 3 channels, as their mean.

    Args:
        pictures: Array (batch, ...).
        is_signal: Whether they are a layer's output, with channels at `channel_axis`.
        channel_axis: As in `shown`.

    Raises:
        InputError: They have another shape.
    """
    pictures = np.asarray(pictures)
    if not 2 <= pictures.ndim <= 4:
        raise InputError(f"Pictures have the shape (batch, height, width, channels). Received: {pictures.shape}.")
    if pictures.ndim == 2:
        return pictures
    if pictures.ndim == 3 and is_signal and _is_series(pictures.shape[1:], channel_axis):
        return pictures.reshape(len(pictures), -1)
    if pictures.ndim == 4 and is_signal:
        pictures = np.moveaxis(pictures, channel_axis if channel_axis < 0 else channel_axis + 1, -1)
    # The fourth channel of a picture may be how opaque it is; that of a layer is not.
    coloured = pictures.ndim == 4 and pictures.shape[-1] in ((3,) if is_signal else (3, 4))
    pictures = pictures if coloured or pictures.ndim == 3 else pictures.mean(axis=-1)
    as_pixels = coloured or not is_signal
    return np.stack([_from_zero_to_one(picture.astype("float64"), as_pixels) for picture in pictures])


def sample_of(array, sample, what="sample"):
    """Returns the index of a sample as a number from 0.

    Raises:
        InputError: There is no such sample.
    """
    count = len(array)
    if not isinstance(sample, (int, np.integer)) or not -count <= sample < count:
        raise InputError(f"Expected a sample from 0 to {count - 1}. Received: {what}={sample!r}.")
    return int(sample) % count


def in_one_unit(arrays, scales):
    """Returns (arrays, log2_scale): mantissas of several scales as multiples of one power of two.

    Args:
        arrays: float64 arrays of any shape.
        scales: int arrays that broadcast against them.

    Returns:
        The arrays in units of the largest power of two that any entry other than zero has; 2**0 where all are zero.
    """
    used = [np.broadcast_to(scale, array.shape)[array != 0] for array, scale in zip(arrays, scales)]
    used = np.concatenate(used)
    unit = int(used.max()) if used.size else 0
    return [np.ldexp(array, np.minimum(scale - unit, 0)) for array, scale in zip(arrays, scales)], unit


def _flat(part, units):
    part = np.asarray(part, dtype="float64")
    return part.reshape(-1, *part.shape[2:]) if units else part


def _is_series(shape, channel_axis):
    return len(shape) == 2 and shape[channel_axis] == 1 and max(shape) > 1


def _from_zero_to_one(picture, as_pixels):
    low, high = picture.min(), picture.max()
    if as_pixels and low >= 0 and high <= 255:
        return picture / (255 if high > 1 else 1)
    return (picture - low) / ((high - low) or 1)
