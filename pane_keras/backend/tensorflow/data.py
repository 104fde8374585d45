"""Batches of many samples, prepared while the last one is computed."""

import numpy as np
import tensorflow as tf


def batches(data, batch_size):
    """Returns (iterable of (inputs, number of samples), how many or None), or (None, None) for no data at all.

    The last batch is filled up with its last sample, so that every batch has one shape and one compiled function.

    Args:
        data: An array, a list of arrays for a model with several inputs, or a `tf.data.Dataset`.
        batch_size: Samples a batch; None for a dataset that is batched already.
    """
    if isinstance(data, tf.data.Dataset):
        data = data.map(lambda *element: element[0], num_parallel_calls=tf.data.AUTOTUNE)
        data = data if batch_size is None else data.batch(batch_size)
        total = int(data.cardinality())
        return _counted(data.prefetch(2), batch_size), total if total >= 0 else None
    arrays = data if isinstance(data, (list, tuple)) else [data]
    if not all(hasattr(array, "shape") for array in arrays) or not arrays:
        return None, None
    arrays = [array.numpy() if tf.is_tensor(array) else array for array in arrays]
    size, count = batch_size or 32, len(arrays[0])
    return _slices(arrays, count, size, isinstance(data, (list, tuple))), -(-count // size)


def ends(data):
    """Returns (shapes, arrays) that tell data apart cheaply: first and last samples, or a dataset's first element."""
    if isinstance(data, tf.data.Dataset):
        first = [np.asarray(t) for element in data.take(1) for t in tf.nest.flatten(element)]
        return [int(data.cardinality()), *(list(array.shape) for array in first)], first
    arrays = [array for array in (data if isinstance(data, (list, tuple)) else [data]) if hasattr(array, "shape")]
    return [list(array.shape) for array in arrays], [part for array in arrays for part in (array[:1], array[-1:])]


def _counted(dataset, size):
    for inputs in dataset:
        count = int(tf.shape(tf.nest.flatten(inputs)[0])[0])
        yield tf.nest.map_structure(lambda t, n=count: _filled(t, n, size or n), inputs), count


def _filled(tensor, count, size):
    return tensor if count == size else tf.gather(tensor, tf.minimum(tf.range(size), count - 1))


def _slices(arrays, count, size, several):
    for start in range(0, count, size):
        # A slice, not an index with its last entry repeated, which HDF5 does not take.
        parts = [np.asarray(array[start : start + size]) for array in arrays]
        if count > size:
            parts = [_filled_up(part, size) for part in parts]
        yield (parts if several else parts[0]), min(size, count - start)


def _filled_up(part, size):
    missing = size - len(part)
    return np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
