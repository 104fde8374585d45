"""Indices, channels and regions as they are given: what stands for one unit, and what does not fit a layer's shape."""

import numpy as np

from pane_keras import backend
from pane_keras.errors import TargetError


def on_host(value, word, layer):
    """Returns a tensor as an array, and an array without axes as its number.

    Which units are meant decides what a graph looks like, so they are known before it runs.

    Args:
        value: What was given, tensor or not.
        word: "unit", "channel" or "region", for the message.
        layer: Name of the layer, for the message.

    Raises:
        TargetError: The tensor has no value: it stands in a graph that is being made.
    """
    if backend.is_symbolic(value):
        raise TargetError(
            f"A {word} of layer {layer!r} has to be known while a graph is made. Received: {value!r}. Pass Python or "
            "NumPy values, or weights=, which may be such a tensor."
        )
    value = np.asarray(value) if backend.is_tensor(value) else value
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def checked_unit(unit, shape, layer):
    """Returns a unit of a layer as a tuple of ints from 0. Raises TargetError."""
    index = (unit,) if is_int(unit) else unit
    if _has_booleans(unit):
        raise TargetError(
            f"A unit of layer {layer!r} is a tuple of {len(shape)} ints. Received: booleans. Pass a mask as region=."
        )
    if not isinstance(index, tuple) or not all(map(is_int, index)):
        raise TargetError(
            f"A unit of layer {layer!r} is a tuple of {len(shape)} ints, and several units are a list of tuples. "
            f"Received: {unit!r}."
        )
    if len(index) != len(shape) or not all(-n <= i < n for i, n in zip(index, shape)):
        raise TargetError(
            f"Unit {tuple(map(int, index))} lies outside layer {layer!r}, whose shape is {shape}: "
            "expected one index for each axis."
        )
    return tuple(int(i) % n for i, n in zip(index, shape))


def checked_channel(channel, count, layer):
    """Returns a channel as an int from 0. Raises TargetError."""
    if not is_int(channel) or not -count <= channel < count:
        advice = " Pass a mask as region=." if _has_booleans(channel) else ""
        raise TargetError(f"Layer {layer!r} has the channels 0 to {count - 1}. Received: channel={channel!r}.{advice}")
    return int(channel) % count


def checked_region(region, shape, axis, layer):
    """Returns a region as a boolean array that broadcasts over a layer's shape. Raises TargetError.

    Args:
        region: Booleans of the shape, or of the shape without the channels.
        shape: Of a sample.
        axis: Of the channels, from 0.
        layer: Name of the layer, for the messages.
    """
    mask = np.asarray(on_host(region, "region", layer))
    space = tuple(size for k, size in enumerate(shape) if k != axis)
    if mask.dtype != bool or mask.shape not in (shape, space):
        each = " For one region a sample pass a list, region=[...], and per_sample=True."
        raise TargetError(
            f"A region of layer {layer!r} is a boolean array of shape {shape} or {space}. "
            f"Received: {mask.dtype} of shape {mask.shape}.{each if mask.shape[1:] in (shape, space) else ''}"
        )
    if not mask.any():
        raise TargetError(f"A region of layer {layer!r} holds at least one unit. Received: an empty one.")
    return mask if mask.shape == shape else np.expand_dims(mask, axis)


def is_int(value):
    """Returns whether a value is an int of Python or NumPy; a boolean is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _has_booleans(value):
    if isinstance(value, (list, tuple)):
        return any(map(_has_booleans, value))
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) == "bool"
