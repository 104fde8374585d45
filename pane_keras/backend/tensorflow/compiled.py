"""Functions compiled into one graph of the framework."""

import tensorflow as tf

KernelError = tf.errors.InvalidArgumentError
"""What a kernel inside a graph raises for numbers that it cannot take, such as an index that lies outside, and XLA for
an operation that it cannot compile."""


def compiled(function, jit=False):
    """Returns a function of a list of tensors as one graph, traced once for each signature of its inputs.

    Args:
        function: Function of a list of tensors that returns a structure of tensors.
        jit: Whether XLA compiles the graph.
    """
    return tf.function(function, jit_compile=jit or None, autograph=False, reduce_retracing=False)
