"""Which units of a layer a query asks for, turned into rows of weights that close the layer's leg."""

from collections.abc import Iterable, Sized
from typing import NamedTuple

import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from pane_keras import backend
from pane_keras.errors import TargetError
from pane_keras.indices import checked_channel, checked_region, checked_unit, on_host

LISTED = 8
"""How many units or classes are listed where a map says what it explains; of more it says how many."""


class Selection(NamedTuple):
    """What of a layer a query asks for: one of its fields, or a channel within a region.

    Attributes:
        units: One unit, a tuple with an index for each axis (or an int, in a layer with one axis); or a list of units.
        weights: Weights of the layer's shape, with or without the batch axis; or a list of arrays of weights.
        channel: An index of the channel axis: all its units, each with weight 1; or an iterable of indices.
        region: Boolean array of the layer's shape, or of its shape without the channel axis; or a list of arrays.
        per_sample: A list holds one selection for each sample of the batch instead of several for all samples.
        channel_axis: Which axis of a sample the channels are.
    """

    units: object = None
    weights: object = None
    channel: object = None
    region: object = None
    per_sample: bool = False
    channel_axis: int = -1

    def rows(self, tensor, layer, word):
        """Returns (rows, several): weights (rows, batch, *shape), and whether there are several selections.

        The rows are a tensor, or `UnitRows`: both have a shape, and are sliced along the rows.

        Args:
            tensor: The layer's output, (batch, *shape).
            layer, word: Its name, and "target" or "source", for the messages.

        Raises:
            TargetError: The selection does not fit the layer, or there is none, or more than one.
        """
        ways = [self.units is not None, self.weights is not None, self.channel is not None or self.region is not None]
        if sum(ways) != 1:
            raise TargetError(
                f"Expected either {word}=, weights=, or channel= and region=, to say which units of {layer!r} are "
                "meant."
            )
        rows, several = self._rows(tensor, layer)
        return (_one_a_sample(rows, tensor, layer), False) if self.per_sample else (rows, several)

    def _rows(self, tensor, layer):
        if self.units is not None:
            return unit_rows(self.units, tensor, layer)
        if self.weights is not None:
            return _each(self.weights, lambda w: weight_rows(w, tensor, layer), _is_list_of_arrays(self.weights))
        return self._areas(tensor, layer)

    def _areas(self, tensor, layer):
        """Channels and regions are 0/1 weights; of a list of each, every channel meets the region of its own number."""
        channels, several = _channels(self.channel, layer)
        regions = self.region if _is_list_of_arrays(self.region) else [self.region]
        several = several or regions is self.region
        count = max(len(channels), len(regions))
        if {len(channels), len(regions)} - {1, count}:
            raise TargetError(
                f"Expected as many channels as regions of layer {layer!r}, or one of either. "
                f"Received: {len(channels)} and {len(regions)}."
            )
        areas = [
            self._area(channels[k % len(channels)], regions[k % len(regions)], tensor, layer) for k in range(count)
        ]
        return ops.concatenate([weight_rows(area, tensor, layer) for area in areas]), several

    def _area(self, channel, region, tensor, layer):
        shape = tuple(tensor.shape[1:])
        if not -len(shape) <= self.channel_axis < len(shape):
            raise TargetError(f"Layer {layer!r} of shape {shape} has no axis {self.channel_axis} for its channels.")
        axis = self.channel_axis % len(shape)
        chosen = np.ones(shape, bool)
        if channel is not None:
            index = checked_channel(channel, shape[axis], layer)
            chosen &= np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))]) == index
        return chosen if region is None else chosen & checked_region(region, shape, axis, layer)


def unit_rows(units, tensor, layer):
    """Returns (rows, several) for one unit (a tuple, or an int in a layer with one axis) or an iterable of units.

    Args:
        units: The selection.
        tensor: The layer's output, (batch, *shape).
        layer: Its name, for the messages.

    Returns:
        `UnitRows`, and whether there are several.

    Raises:
        TargetError: An index has the wrong length or lies outside.
    """
    shape, units = tuple(tensor.shape[1:]), on_host(units, "unit", layer)
    # One index of a layer with several axes is a tuple; as an array it could be a list of units as well.
    unclear = isinstance(units, np.ndarray) and units.ndim < len(shape[:2])
    several = isinstance(units, Iterable) and not isinstance(units, (tuple, str, dict)) and not unclear
    units = [_plain(on_host(unit, "unit", layer)) for unit in units] if several else [units]
    indices = [checked_unit(unit, shape, layer) for unit in units]
    if not indices:
        raise TargetError(f"Expected at least one unit of layer {layer!r}. Received: an empty list.")
    flat = np.ravel_multi_index(np.array(indices).T, shape) if shape else np.zeros(len(indices), int)
    return UnitRows(flat, tensor), several


class UnitRows:
    """One-hot rows (n, batch, *shape), not yet tensors: n of them can be more than memory holds.

    Args:
        flat: Array (n,) of flat indices of units.
        tensor: The layer's output, (batch, *shape).

    Attributes:
        flat: As given.
        shape: Of the rows as a tensor.
    """

    def __init__(self, flat, tensor):
        self.flat, self._tensor = flat, tensor
        self.shape = (len(flat), *tensor.shape)

    def __getitem__(self, part):
        return UnitRows(self.flat[part], self._tensor)

    def closing(self):
        """Returns (weights, units): the rows as a tensor, and the flat index of the unit that each selects."""
        return one_hot_rows(self.flat, self._tensor), self.flat


def units_text(units, count):
    """Returns the units in brackets; of more than a few, and of an iterator that is used up, only how many they are."""
    if units is None:
        return ""
    units = np.asarray(units).tolist() if backend.is_tensor(units) or isinstance(units, np.ndarray) else units
    few = count <= LISTED and (isinstance(units, Sized) or not isinstance(units, Iterable))
    return f"[{units}]" if few else f"[{count} units]"


def closing_of(rows):
    """Returns (weights, units) of rows: tensors select no single units."""
    return rows.closing() if isinstance(rows, UnitRows) else (rows, None)


def one_hot_rows(flat, tensor):
    """Returns the rows (n, batch, *shape) that select units by their flat index, the same for every sample."""
    size = int(np.prod(tensor.shape[1:]))
    rows = ops.one_hot(ops.convert_to_tensor(flat), size, dtype=tensor.dtype)
    rows = ops.reshape(rows, (len(flat), 1, *tensor.shape[1:]))
    return ops.broadcast_to(rows, (len(flat), *backend.dims(tensor)))


def class_rows(classes, tensor, layer):
    """Returns the rows (1, batch, units) for a class: None is each sample's top one, an int, or one int a sample.

    Inside a graph the host cannot look at classes that are tensors: the row of one that lies outside is zero.

    Raises:
        TargetError: A class lies outside, or there is not one for each sample.
    """
    chosen = ops.argmax(tensor, axis=-1) if classes is None else checked_classes(classes, tensor.shape, layer)
    rows = ops.one_hot(chosen, tensor.shape[-1], dtype=tensor.dtype)
    return ops.broadcast_to(rows, backend.dims(tensor))[None]


def weight_rows(weights, tensor, layer):
    """Returns the rows (1, batch, *shape) for weights of the layer's shape, with or without the batch axis.

    Raises:
        TargetError: The weights have another shape, or are not finite.
    """
    weights = _real(weights, tensor.dtype, layer)
    shape, wanted = tuple(weights.shape), tuple(tensor.shape)
    if shape not in (wanted, wanted[1:], (1, *wanted[1:])):
        raise TargetError(f"Weights on layer {layer!r} expect the shape {wanted[1:]} or {wanted}. Received: {shape}.")
    if not backend.is_symbolic(weights) and not bool(ops.all(ops.isfinite(weights))):
        raise TargetError(f"Weights on layer {layer!r} expect finite numbers. Received: a NaN or an infinity.")
    return ops.broadcast_to(weights, backend.dims(tensor))[None]


def _plain(unit):
    """A row of an array of indices is a unit too."""
    return tuple(unit.tolist()) if isinstance(unit, np.ndarray) and unit.ndim == 1 else unit


def _each(value, rows, several):
    return (ops.concatenate([rows(one) for one in value]), True) if several else (rows(value), False)


def _is_list_of_arrays(value):
    return isinstance(value, (list, tuple)) and bool(value) and all(len(getattr(one, "shape", ())) > 0 for one in value)


def _one_a_sample(rows, tensor, layer):
    count, batch = rows.shape[0], tensor.shape[0]
    if count != batch:
        raise TargetError(
            f"Expected one selection of layer {layer!r} for each of {batch} samples. Received: {count}. Pass a list of "
            "selections. Weights with the batch axis need no per_sample=True."
        )
    return ops.stack([closing_of(rows[k : k + 1])[0][0, k] for k in range(batch)])[None]


def _channels(channel, layer):
    """Returns (list of channels, whether there are several)."""
    channel = on_host(channel, "channel", layer)
    channel = channel.tolist() if isinstance(channel, np.ndarray) else channel
    several = isinstance(channel, Iterable) and not isinstance(channel, (str, dict))
    channels = [on_host(one, "channel", layer) for one in channel] if several else [channel]
    if not channels:
        raise TargetError(f"Expected at least one channel of layer {layer!r}. Received: channel={channel!r}.")
    return channels, several


def _real(weights, dtype, layer):
    if backend.is_tensor(weights):
        return ops.cast(weights, dtype)
    try:
        array = np.asarray(weights)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "buif":
        raise TargetError(f"Weights on layer {layer!r} expect an array of real numbers. Received: {weights!r}.")
    return ops.convert_to_tensor(array, dtype=dtype)


def said_classes(classes):
    """Returns which classes were asked for, in a few words."""
    if classes is None:
        return "top class"
    shape = classes.shape if backend.is_tensor(classes) else np.shape(classes)
    few = len(shape) == 0 or (shape[0] is not None and shape[0] <= LISTED)
    return f"class {classes}" if few else "one class for each sample"


def checked_classes(classes, shape, layer):
    """Returns classes as a tensor of indices that are not negative.

    Args:
        classes: An int, or one int for each sample.
        shape: Of the logits, (batch, classes).
        layer: Name of the layer, for the messages.

    Raises:
        TargetError: A class lies outside, where the host can see it, or there is not one for each sample.
    """
    (batch, count), symbolic = shape, backend.is_symbolic(classes)
    chosen = classes if symbolic else _array(classes)
    if not standardize_dtype(chosen.dtype).startswith(("int", "uint")) or len(chosen.shape) > 1:
        raise TargetError(f"A class is an int, or one int for each sample. Received: {classes!r}.")
    if len(chosen.shape) == 1 and None not in (batch, chosen.shape[0]) and chosen.shape[0] != batch:
        raise TargetError(f"Expected one class for each of the {batch} samples. Received: {chosen.shape[0]} classes.")
    chosen = ops.cast(chosen, "int64") if symbolic else chosen.astype("int64")
    if not symbolic and not ((-count <= chosen) & (chosen < count)).all():
        raise TargetError(f"Class {classes!r} lies outside {layer!r}, which has {count} classes: 0 to {count - 1}.")
    # What lies outside without being seen must not become another class, as a remainder would.
    return ops.where(chosen < 0, chosen + count, chosen)


def _array(classes):
    try:
        array = np.asarray(classes)
    except ValueError:
        array = np.asarray(0.0)
    return array if array.dtype.kind in "iu" else np.asarray(0.0)
