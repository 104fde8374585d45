"""What a model of pictures takes: layout, size and the numbers that pixels become."""

from dataclasses import dataclass

import keras
import numpy as np

from pane_keras.errors import InputError
from pane_keras.loading import preprocessing_of
from pane_keras.pictures import channels_first

_LAYERS = (keras.layers.Rescaling, keras.layers.Normalization)


@dataclass(frozen=True)
class PictureInput:
    """The input of a model of one picture.

    Attributes:
        size: (height, width), None where the model takes any.
        channels: How many.
        axis: Axis of the channels in a sample: -1, 0 for channels first, None for grayscale without such an axis.
    """

    size: tuple
    channels: int
    axis: int | None

    def batch(self, values):
        """Returns values (height, width, channels) as the model takes them, with a batch of one."""
        if self.axis is None:
            return values[None, ..., 0]
        return np.moveaxis(values, -1, self.axis)[None]


def picture_input(pane):
    """Returns the `PictureInput` of a `PaneModel`.

    Raises:
        InputError: It has several inputs, or one that is no picture.
    """
    shapes = [tuple(spec.shape) for spec in pane.graph.specs]
    if len(shapes) != 1 or len(shapes[0]) not in (3, 4):
        raise InputError(
            "Expected a model of one picture, (batch, height, width, channels). Received inputs: "
            f"{', '.join(map(str, shapes))}."
        )
    _, *shape = shapes[0]
    if len(shape) == 2:
        return PictureInput(tuple(shape), 1, None)
    if channels_first(shape):
        return PictureInput(tuple(shape[1:]), shape[0], 0)
    return PictureInput(tuple(shape[:2]), shape[-1], -1)


class Preprocessing:
    """How pixels of 0 to 255 become what the model takes.

    Args:
        pane: The `PaneModel`.
        channels: Of its pictures.
        arguments: The parsed arguments `model`, `scale` and `offset`.

    Attributes:
        said: What is done, in words.

    Raises:
        InputError: Not one number, or one for each channel.
    """

    def __init__(self, pane, channels, arguments):
        self._given = arguments.scale is not None or arguments.offset is not None
        self.scale = _per_channel(1.0 if arguments.scale is None else arguments.scale, channels, "--scale")
        self.offset = _per_channel(arguments.offset or 0.0, channels, "--offset")
        self._function, module = (None, None) if self._given else preprocessing_of(arguments.model)
        self.said = self._words([e.label for e in pane.excitations if isinstance(e.operation, _LAYERS)], module)

    def __call__(self, pixels):
        """Returns pixels, uint8 (height, width, channels), as float32 in the model's own units."""
        values = pixels.astype("float32")
        return values * self.scale + self.offset if self._function is None else np.asarray(self._function(values))

    def _words(self, layers, module):
        if self._given:
            formula = f"pixel * {_numbers(self.scale)} + {_numbers(self.offset)}"
            return formula + (f", and then the model's own layer {layers[0]!r}" if layers else "")
        if layers:
            return f"0 to 255, preprocessed by the model's own layer {layers[0]!r}"
        if module:
            return f"as {module}.preprocess_input makes them"
        return (
            "0 to 255 as they are, since the model has no Rescaling or Normalization layer and nothing was said. If it "
            "was trained on other values, say --scale and --offset"
        )


def _per_channel(values, channels, option):
    array = np.asarray(values, "float32")
    if array.ndim and len(array) != channels:
        raise InputError(
            f"Expected {option} to be one number, or one for each of the model's {channels} channels. Received: "
            f"{len(array)} numbers."
        )
    return array


def _numbers(array):
    return f"{array:g}" if not array.ndim else f"({', '.join(f'{value:g}' for value in array)})"


def scale_and_offset(arguments, channels):
    """Returns how `evaluate` makes what the model takes of pixels: (scale, offset, whether blue comes first).

    Scale and offset are None for nothing, and stand in the order of the model's channels.

    Args:
        arguments: The parsed arguments `model`, `scale` and `offset`.
        channels: Of the model's pictures.

    Raises:
        InputError: An architecture was trained on pixels that no scale and offset make.
    """
    function, module = preprocessing_of(arguments.model)
    if function is None or arguments.scale is not None or arguments.offset is not None:
        return arguments.scale, arguments.offset, False
    pixels = np.array([[0] * channels, [255] * channels, 50 * np.arange(channels)], "float32")
    black, white, colour = np.asarray(function(pixels.reshape(3, 1, 1, channels).copy())).reshape(3, channels)
    scale = (white - black) / 255
    for turned in (False, True):
        if np.allclose(colour, pixels[2][:: -1 if turned else 1] * scale + black, atol=1e-4):
            return scale, black, turned
    raise InputError(
        f"{arguments.model} takes pixels as {module}.preprocess_input makes them, which no scale and offset do. Put "
        "that in front of it as layers and save it: a .keras file that takes pixels of 0 to 255."
    )
