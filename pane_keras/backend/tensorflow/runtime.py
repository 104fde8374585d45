"""Facts about the run: graph or eager, tensors or not, memory."""

import pathlib

import tensorflow as tf


def is_tensor(value):
    """Returns whether `value` is a tensor of the framework."""
    return isinstance(value, tf.Tensor)


def snapshot(values):
    """Returns a variable, or each of a list, as a tensor, which later updates of the variable leave alone."""
    return tf.nest.map_structure(lambda v: v if isinstance(v, float) else tf.convert_to_tensor(v), values)


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


def device_memory():
    """Returns the bytes of memory that are free on the host."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 4 * 2**30
    fields = dict(line.split(":") for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024


def as_written(function):
    """Returns the function so that a surrounding `tf.function` runs it as it is instead of rewriting its source."""
    return tf.autograph.experimental.do_not_convert(function)
