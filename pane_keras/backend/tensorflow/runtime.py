"""Facts about the run: graph or eager, tensors or not, memory."""

import pathlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import tensorflow as tf

from pane_keras.backend.tensorflow.host_memory import lies_on_host, on_host

F = TypeVar("F", bound=Callable)


def is_tensor(value):
    """Returns whether `value` is a tensor of the framework."""
    return isinstance(value, tf.Tensor)


def snapshot(values, dtype=None):
    """Returns a variable, or each of a list, as a tensor, which later updates of the variable leave alone.

    Args:
        values: Variables, tensors or numbers; numbers stay as they are.
        dtype: Of the tensors; by default their own, and float32 for half precision, in which sums are too coarse.
    """

    if isinstance(values, (list, tuple)):
        return [snapshot(value, dtype) for value in values]
    if isinstance(values, (int, float)):
        return values
    tensor = tf.convert_to_tensor(values)
    wanted = dtype or (tf.float32 if tensor.dtype in (tf.float16, tf.bfloat16) else tensor.dtype)
    return tensor if tensor.dtype == wanted else tf.cast(tensor, wanted)


def repeat_samples(tensor, like):
    """Returns a tensor (batch, ...) once for each row of `like`, (rows * batch, ...): the batch runs fastest."""
    if tensor.shape[0] is not None and tensor.shape[0] == like.shape[0]:
        return tensor
    times = tf.shape(like)[0] // tf.shape(tensor)[0]
    return tf.tile(tensor, tf.concat([[times], tf.ones(len(tensor.shape) - 1, tf.int32)], axis=0))


def to_tensor(array):
    """Returns a NumPy array of numbers or strings as a tensor."""
    return tf.convert_to_tensor(array)


def is_symbolic(value):
    """Returns whether `value` is a tensor inside a graph, which the host cannot read."""
    return is_tensor(value) and not hasattr(value, "numpy")


def dims(tensor):
    """Returns the shape as a tuple: ints where they are known, scalar tensors inside a graph where they are not."""
    static = tensor.shape.as_list()
    if None not in static:
        return tuple(static)
    dynamic = tf.shape(tensor)
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(static))


def with_sample_shape(tensor, shape):
    """Returns the tensor, told inside a graph that its samples have the static `shape`."""
    if is_symbolic(tensor):
        tensor.set_shape((None, *shape))
    return tensor


def static_size(size):
    """Returns a dimension as an int, 1 where it is unknown (a batch inside a graph)."""
    return int(size) if size is not None else 1


def take_channels(tensor, kept):
    """Returns some channels, the last axis, of a tensor that is no part of a graph.

    Args:
        tensor: Tensor (..., channels).
        kept: Indices (n,) on the host, or None for all channels.
    """
    if kept is None:
        return tensor
    # On a CPU the framework's gather along the last axis takes three times as long.
    return _taken_on_host(tensor, kept) if lies_on_host(tensor) else tf.gather(tensor, kept, axis=-1)


def _taken_on_host(tensor, kept):
    back = np.full(tensor.shape[-1], len(kept))
    back[kept] = np.arange(len(kept))

    def gradient(upstream):
        return tf.gather(tf.pad(upstream, [*[[0, 0]] * (len(upstream.shape) - 1), [0, 1]]), back, axis=-1)

    return tf.custom_gradient(lambda t: (tf.constant(np.take(on_host(t), kept, axis=-1)), gradient))(tensor)


def device_memory():
    """Returns the bytes of memory that are free on the host."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 4 * 2**30
    fields = dict(line.split(":") for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def as_written(function: F) -> F:
    """Returns the function so that a surrounding `tf.function` runs it as it is instead of rewriting its source."""
    return tf.autograph.experimental.do_not_convert(function)
