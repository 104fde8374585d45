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


def multiply_transposed(rows, matrix):
    """Returns `rows @ matrix^T` for rows (..., m) and a matrix (n, m), which is not copied to be transposed."""
    flat = tf.matmul(tf.reshape(rows, (-1, tf.shape(rows)[-1])), matrix, transpose_b=True)
    return tf.reshape(flat, (*tf.unstack(tf.shape(rows))[:-1], matrix.shape[0]))
