"""The transpose of any linear map, derived from the map itself."""

import tensorflow as tf


def transpose_linear(forward, rows, shape):
    """Returns `A^T rows` for the linear map `forward = A`, from one vector-Jacobian product at zero.

    Args:
        forward: A function that is linear in its one argument, of shape `shape`.
        rows: Tensor with the shape of `forward`'s output.
        shape: Tuple or int tensor, the shape of `forward`'s input.
    """
    zeros = tf.zeros(shape, rows.dtype)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(zeros)
        output = forward(zeros)
    gradient = tape.gradient(output, zeros, output_gradients=rows)
    return tf.zeros(shape, rows.dtype) if gradient is None else tf.convert_to_tensor(gradient)
