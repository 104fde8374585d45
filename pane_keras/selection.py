"""Which units of a layer a query asks for, turned into rows of weights that close the layer's leg."""

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.errors import TargetError


def unit_rows(units, tensor, layer):
    """Returns (rows, several) for one unit (a tuple, or an int in a layer with one axis) or a list of units.

    Args:
        units: The selection.
        tensor: The layer's output, (batch, *shape).
        layer: Its name, for the messages.

    Returns:
        One-hot tensor (rows, batch, *shape), and whether there are several.

    Raises:
        TargetError: An index has the wrong length or lies outside.
    """
    several = isinstance(units, list)
    shape = tuple(tensor.shape[1:])
    indices = [_index(unit, shape, layer) for unit in (units if several else [units])]
    if not indices:
        raise TargetError(f"Expected at least one unit of layer {layer!r}. Received: an empty list.")
    return one_hot_rows(np.ravel_multi_index(np.array(indices).T, shape), tensor), several


def one_hot_rows(flat, tensor):
    """Returns the rows (n, batch, *shape) that select units by their flat index, the same for every sample."""
    size = int(np.prod(tensor.shape[1:]))
    rows = ops.one_hot(ops.convert_to_tensor(flat), size, dtype=tensor.dtype)
    rows = ops.reshape(rows, (len(flat), 1, *tensor.shape[1:]))
    return ops.broadcast_to(rows, (len(flat), *backend.dims(tensor)))


def class_rows(classes, tensor, layer):
    """Returns the rows (1, batch, units) for a class: None is each sample's top one, an int, or one int a sample.

    Raises:
        TargetError: A class lies outside, or there is not one for each sample.
    """
    chosen = ops.argmax(tensor, axis=-1) if classes is None else _classes(classes, tensor, layer)
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


def _index(unit, shape, layer):
    index = (unit,) if isinstance(unit, (int, np.integer)) else unit
    if not isinstance(index, tuple) or not all(isinstance(i, (int, np.integer)) for i in index):
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


def _classes(classes, tensor, layer):
    if backend.is_symbolic(classes):
        return classes
    try:
        chosen = np.asarray(classes)
    except ValueError:
        chosen = np.asarray(0.0)
    if chosen.dtype.kind not in "iu" or chosen.ndim > 1:
        raise TargetError(f"A class is an int, or one int for each sample. Received: {classes!r}.")
    count, batch = tensor.shape[-1], tensor.shape[0]
    if chosen.ndim == 1 and batch is not None and len(chosen) != batch:
        raise TargetError(f"Expected one class for each of the {batch} samples. Received: {len(chosen)} classes.")
    if not ((-count <= chosen) & (chosen < count)).all():
        raise TargetError(f"Class {classes!r} lies outside {layer!r}, which has {count} classes: 0 to {count - 1}.")
    return ops.convert_to_tensor(chosen % count)
