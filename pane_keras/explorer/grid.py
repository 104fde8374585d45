"""How the units of a layer lie on a picture: places in rows and columns, and channels at each place."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """The places of a layer.

    A vector has a place for each unit and no channels; a series, steps in one row; a volume, its slices one below
    the other.

    Attributes:
        shape: Of one sample of the layer's output.
        channel_axis: Axis of the channels, or None where each unit has a place of its own.
    """

    shape: tuple
    channel_axis: int | None = -1

    @classmethod
    def of(cls, shape, channel_axis=-1, picture=None):
        """Returns the grid of a layer; one of two axes is a picture if it has the size of the sample's picture."""
        gray = picture is not None and len(shape) == 2 and tuple(picture.shape[:2]) == tuple(shape)
        return cls(tuple(shape), None if gray or len(shape) < 2 else channel_axis % len(shape))

    @property
    def space(self):
        """The shape without the channels."""
        return tuple(size for axis, size in enumerate(self.shape) if axis != self.channel_axis)

    @property
    def rows(self):
        """How many rows of places there are."""
        return math.prod(self.space[:-1])

    @property
    def columns(self):
        """How many places a row has."""
        return self.space[-1] if self.space else 1

    @property
    def channels(self):
        """How many channels each place has; 1 where there are none."""
        return 1 if self.channel_axis is None else self.shape[self.channel_axis]

    @property
    def is_line(self):
        """Whether the places lie in one row, to be drawn as bars."""
        return len(self.space) < 2

    @property
    def is_vector(self):
        """Whether the layer is a list of units, such as logits."""
        return len(self.shape) < 2

    def unit(self, row, column, channel=0):
        """Returns the index of a unit."""
        index = [int(i) for i in np.unravel_index(row * self.columns + column, self.space)] if self.space else []
        if self.channel_axis is not None:
            index.insert(self.channel_axis, int(channel))
        return tuple(index)

    def place(self, unit):
        """Returns (row, column, channel) of a unit."""
        index = list(unit)
        channel = 0 if self.channel_axis is None else index.pop(self.channel_axis)
        flat = int(np.ravel_multi_index(index, self.space)) if self.space else 0
        return flat // self.columns, flat % self.columns, channel

    def plane(self, values, channel=None):
        """Returns values (rows, columns) of one channel of a sample, or of all channels summed."""
        values = np.asarray(values, dtype="float64")
        if self.channel_axis is not None:
            moved = np.moveaxis(values, self.channel_axis, -1)
            values = moved.sum(axis=-1) if channel is None else moved[..., channel]
        return values.reshape(self.rows, self.columns)

    def totals(self, values):
        """Returns the sum over all places of each channel, or each unit's value where there are no channels."""
        values = np.asarray(values, dtype="float64")
        if self.channel_axis is None:
            return values.reshape(-1)
        return np.moveaxis(values, self.channel_axis, 0).reshape(self.channels, -1).sum(axis=1)

    def at(self, values, row, column):
        """Returns the values of all channels at a place."""
        values = np.asarray(values)
        if self.channel_axis is None:
            return values.reshape(-1)[[row * self.columns + column]]
        return np.moveaxis(values, self.channel_axis, -1).reshape(-1, self.channels)[row * self.columns + column]
