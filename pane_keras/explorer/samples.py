"""The samples to choose from: each has a name, a picture and the trace that it lies in."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pane_keras.errors import InputError
from pane_keras.explorer.grid import Grid
from pane_keras.explorer.upstream import signal
from pane_keras.trace import Trace

_COLOURS = (3, 4)


@dataclass(frozen=True)
class Sample:
    """One sample.

    Attributes:
        name: What it is called in the list.
        picture: Array (height, width) or (height, width, channels) to look at, or None for the model's first input.
        trace: Function without arguments that returns its `Trace`.
        index: Its place in the batch.
    """

    name: str
    picture: np.ndarray | None
    trace: Callable[[], Trace]
    index: int = 0

    def looks(self, channel_axis=-1):
        """Returns what to look at: the picture, or the input as a picture, or as one row of numbers.

        Args:
            channel_axis: Of the input.

        Returns:
            Array (height, width), (height, width, channels) or (length,).
        """
        if self.picture is not None:
            return self.picture
        values = _signal(self.trace())[self.index]
        if values.ndim == 3 and values.shape[channel_axis] in _COLOURS:
            return np.moveaxis(values, channel_axis, -1)
        grid = Grid.of(values.shape, channel_axis)
        plane = grid.plane(values)
        return plane[0] if grid.is_line else plane


def samples_of(traces, pictures=None, names=None):
    """Returns the `Sample`s of one trace or of several.

    Args:
        traces: A `Trace`, or a list of them.
        pictures: One picture for each sample of all traces; by default the values of the model's first input.
        names: One name for each sample; by default "sample 1", "sample 2", ...

    Raises:
        InputError: Something else than traces, or another number of pictures or names.
        ReleasedError: A trace was released.
    """
    traces = _checked(traces)
    places = [(trace, index) for trace in traces for index in range(len(_signal(trace)))]
    names = [f"sample {k + 1}" for k in range(len(places))] if names is None else list(names)
    pictures = [None] * len(places) if pictures is None else [_picture(picture) for picture in pictures]
    for word, given in (("pictures", pictures), ("names", names)):
        if len(given) != len(places):
            raise InputError(f"Expected {word} for each of the {len(places)} samples. Received: {len(given)} {word}.")
    return [
        Sample(name, picture, lambda trace=trace: trace, index)
        for name, picture, (trace, index) in zip(names, pictures, places)
    ]


def _checked(traces):
    given = traces if isinstance(traces, (list, tuple)) else [traces]
    wrong = [type(trace).__name__ for trace in given if not isinstance(trace, Trace)]
    if wrong or not given:
        raise InputError(
            "explore() takes a trace, as pane.trace(inputs) returns it, or a list of traces. "
            f"Received: {wrong[0] if wrong else 'an empty list'}."
        )
    return given


def _picture(picture):
    picture = np.asarray(picture)
    if picture.ndim not in (2, 3) or not picture.size or picture.dtype.kind not in "buif":
        raise InputError(
            "A picture has the shape (height, width) or (height, width, channels). "
            f"Received: {picture.dtype} of shape {picture.shape}."
        )
    return picture


def _signal(trace):
    return np.asarray(signal(trace, trace.input_names[0], of_target=False))
