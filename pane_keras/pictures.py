"""Pictures from files, turned into what a model takes: mode, size, pixels of 0 to 255."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pane_keras.errors import LoadError
from pane_keras.extras import needed

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_WORDS = {"L": "grayscale", "RGB": "RGB", "RGBA": "RGB with transparency"}


def channels_first(shape):
    """Returns whether a sample of this shape looks like a picture with its channels in front: (3, height, width)."""
    first, *_, last = shape
    return first in _MODES and (last is None or last > max(_MODES))


@dataclass(frozen=True)
class Picture:
    """A picture as a model takes it.

    Attributes:
        pixels: uint8 array (height, width, channels).
        notices: What was changed to make it fit, in words.
    """

    pixels: np.ndarray
    notices: tuple = ()


def read_picture(path, channels=3, size=None):
    """Returns the `Picture` in a file.

    Args:
        path: The file, in any format that Pillow reads.
        channels: 1 for grayscale, 3 for RGB, 4 for RGB with transparency.
        size: (height, width) to resize to, or None. An entry that is None keeps the picture's own.

    Raises:
        LoadError: No such file, not a picture, or a number of channels that pictures do not have.
    """
    refuse_channels(channels)
    notices = []
    image = _eight_bits(_opened(Path(path), notices), notices)
    image = _converted(image, _MODES[channels], notices)
    image = _resized(image, size or (None, None), notices)
    pixels = np.asarray(image, dtype="uint8")
    return Picture(pixels.reshape(*pixels.shape[:2], channels), tuple(notices))


def refuse_channels(channels):
    """Raises LoadError for a number of channels that pictures do not have."""
    if channels not in _MODES:
        raise LoadError(f"Pictures have 1, 3 or 4 channels. The model expects {channels}.")


def cropped(pixels, size):
    """Returns the largest square in the middle of a picture, resized with antialiasing.

    Args:
        pixels: uint8 array (height, width, channels).
        size: Height and width of the result.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = _pillow("Image").fromarray(pixels[top : top + side, left : left + side])
    return np.asarray(square.resize((size, size), _pillow("Image").Resampling.BICUBIC))


def _pillow(module):
    return needed(f"PIL.{module}", "Pillow", "plot")


def _opened(path, notices):
    if not path.is_file():
        raise LoadError(f"No picture at {str(path)!r}: {'it is no file' if path.exists() else 'no such file'}.")
    pillow = _pillow("Image")
    try:
        with pillow.open(path) as image:
            image.load()
            if (frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":  # phones' JPEGs with a preview
                notices.append(f"the first of {frames} frames")
            return _pillow("ImageOps").exif_transpose(image)
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise LoadError(f"{str(path)!r} is not a picture that can be read: {error}.") from None


def _eight_bits(image, notices):
    """Sixteen bits and real numbers become eight; Pillow's own conversion would clip everything over 255."""
    if image.mode.startswith("I"):
        return _grayscale(np.clip(np.asarray(image), 0, 65535) // 257)
    if image.mode == "F":
        return _grayscale(_spread(np.asarray(image), notices))
    return image


def _grayscale(values):
    return _pillow("Image").fromarray(values.astype("uint8"))


def _spread(values, notices):
    """Real numbers say nothing of what black and white are, so the lowest and the highest are taken for them."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    notices.append(f"real numbers, spread from {low:g} for black to {high:g} for white")
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / ((high - low) or 1))
    return np.rint(scaled)


def _converted(image, mode, notices):
    gray, other_space = image.mode in ("1", "L", "LA"), image.mode in ("CMYK", "HSV", "LAB")
    if mode != "RGBA" and _is_transparent(image):
        image = image.convert("RGBA")
        white = _pillow("Image").new("RGBA", image.size, "white")
        image = _pillow("Image").alpha_composite(white, image)
        notices.append("laid on white where it is transparent")
    if gray != (mode == "L") or other_space:
        notices.append(f"converted to {_WORDS[mode]}")
    return image.convert(mode)


def _is_transparent(image):
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return False
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return lowest < 255


def _resized(image, size, notices):
    height, width = (wanted or own for wanted, own in zip(size, (image.height, image.width)))
    if (height, width) == (image.height, image.width):
        return image
    notices.append(f"resized from {image.width} x {image.height} to {width} x {height}")
    return image.resize((width, height), _pillow("Image").Resampling.BICUBIC)
