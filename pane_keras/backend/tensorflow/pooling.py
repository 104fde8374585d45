"""Which element a max pooling selects, rows scattered and gathered by such an index, average pooling transposed."""

import itertools
import os
import platform

import tensorflow as tf

from pane_keras.backend.tensorflow.compiled import traced_for_xla
from pane_keras.backend.tensorflow.linear import transpose_linear


def max_pool_index(x, y, pool_size, strides, padding):
    """Returns the index of the element that each window of a max pooling selects, the first one on ties.

    Args:
        x: Tensor (n, *space, channels), one to three spatial axes.
        y: Tensor, the pooled `x`.
        pool_size, strides: Tuples, one entry a spatial axis.
        padding: "valid" or "same".

    Returns:
        int64 tensor with the shape of `y`: positions in the flattened sample `x[i]`.
    """
    if len(pool_size) == 3:
        return _index_by_windows(x, y, pool_size, strides, padding)
    if len(pool_size) == 1:
        plane = max_pool_index(x[:, None], y[:, None], (1, *pool_size), (1, *strides), padding)
        return plane[:, 0]
    index = tf.nn.max_pool_with_argmax(x, pool_size, strides, padding.upper(), include_batch_in_index=False)[1]
    return tf.ensure_shape(index, y.shape)


def _index_by_windows(x, y, pool_size, strides, padding):
    """Visits the taps of the window in order; no framework kernel gives the index in three dimensions."""
    space, outputs = x.shape[1:-1], y.shape[1:-1]
    position = tf.reshape(tf.range(tf.reduce_prod(x.shape[1:]), dtype=tf.int64), (1, *x.shape[1:]))
    pads = _paddings(space, outputs, pool_size, strides, padding)
    x = tf.pad(x, pads, constant_values=x.dtype.min)
    position = tf.pad(position, pads, constant_values=-1)
    index = tf.fill(tf.shape(y), tf.constant(-1, tf.int64))
    for tap in itertools.product(*map(range, pool_size)):
        window = (slice(None), *(slice(t, t + (o - 1) * s + 1, s) for t, o, s in zip(tap, outputs, strides)))
        chosen = (index < 0) & (position[window] >= 0) & tf.equal(x[window], y)
        index = tf.where(chosen, position[window], index)
    return index


def _paddings(space, outputs, pool_size, strides, padding):
    totals = [max((o - 1) * s + k - n, 0) if padding == "same" else 0
              for n, o, k, s in zip(space, outputs, pool_size, strides)]  # fmt: skip
    return [[0, 0], *([t // 2, t - t // 2] for t in totals), [0, 0]]


def max_pool_transpose(x, y, pool_size, strides, padding):
    """Returns the function that applies the transpose of a max pooling to t like `y`, the first element on ties.

    Arguments as for `max_pool_index`. Returns None wherever the index is the faster way, or the only exact one.
    """
    if len(pool_size) != 2 or not _remembers_what_it_selects(y):
        return None
    return lambda t: tf.raw_ops.MaxPoolGrad(
        orig_input=x,
        orig_output=y,
        grad=t,
        ksize=[1, *pool_size, 1],
        strides=[1, *strides, 1],
        padding=padding.upper(),
    )


def _remembers_what_it_selects(y):
    """In a graph oneDNN's pooling hands its selection on to its gradient, which the index would work out again.

    The gradient of XLA does not take the first element on ties, and of other devices' nothing is known.
    """
    off = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" or platform.machine() not in ("x86_64", "AMD64")
    in_graph = not hasattr(y, "numpy") and y.dtype == tf.float32
    return in_graph and not off and not traced_for_xla() and not tf.config.list_logical_devices("GPU")


def scatter_rows(t, index, size, rows):
    """Returns, for `t` (n, m) and `index` (batch, m), the (n, size) sums at the index."""
    n, m = tf.shape(t)[0], t.shape[1]
    room = max(size, m)
    stride = room // m
    window = room - (m - 1) * stride
    # The gradient of a max pooling is the framework's fastest scatter-add. It wants a window and a stride that turn
    # the room into `m`, and uses the index alone: what it was pooled from is never read, so it is never written.
    full = tf.raw_ops.MaxPoolGradWithArgmax(
        input=tf.raw_ops.Empty(shape=(n, 1, room, 1), dtype=t.dtype),
        grad=tf.reshape(t, (n, 1, m, 1)),
        argmax=tf.reshape(_each_row(index, rows), (n, 1, m, 1)),
        ksize=[1, 1, window, 1],
        strides=[1, 1, stride, 1],
        padding="VALID",
    )
    return tf.reshape(full, (n, room))[:, :size]


def gather_rows(t, index, rows):
    """Returns, for `t` (n, size) and `index` (batch, m), the (n, m) entries at the index."""
    return tf.gather(t, _each_row(index, rows), batch_dims=1)


def _each_row(index, rows):
    return index if rows == 1 else tf.tile(index, [rows, 1])


def transpose_average_pool(forward, rows, pool_size, strides, padding, shape):
    """Returns the transpose of the average pooling `forward` (channels last) applied to `rows`."""
    if len(pool_size) != 2:
        return transpose_linear(forward, rows, shape)
    return tf.raw_ops.AvgPoolGrad(
        orig_input_shape=shape,
        grad=rows,
        ksize=[1, *pool_size, 1],
        strides=[1, *strides, 1],
        padding=padding.upper(),
    )
