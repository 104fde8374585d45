"""Outputs and their gradients by automatic differentiation, compiled once for batches of any size."""

import tensorflow as tf


def any_batch(function):
    """Returns a function of tensors or arrays (batch, *shape), compiled once for each `shape` and dtype.

    Args:
        function: Function of one or more tensors (batch, *shape) -> a structure of tensors.
    """
    known, compiled = {}, tf.function(function, autograph=False)

    def call(*arrays):
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        specs = tuple(tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in tensors)
        if specs not in known:
            known[specs] = compiled.get_concrete_function(*specs)
        return known[specs](*tensors)

    return call


def gradients_of(function):
    """Returns a compiled function (inputs, *others) -> gradient with respect to the inputs.

    Args:
        function: Function of a float tensor (batch, *shape), and maybe more tensors (batch, ...), -> numbers (batch,).
            Samples may not depend on each other.

    Returns:
        A function that returns a tensor of the shape and dtype of the inputs: d function(inputs, *others)[k] /
        d inputs[k]; zeros where there is no path.
    """

    def gradients(inputs, *others):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            values = function(inputs, *others)
        return tape.gradient(values, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return any_batch(gradients)


def input_gradients(function):
    """Returns a compiled function (inputs, targets) -> gradient of each sample's chosen output.

    Args:
        function: Function of a tensor (batch, *shape) -> tensor (batch, outputs), such as a model of logits.

    Returns:
        As `gradients_of`, for `function(inputs)[k, targets[k]]`; targets are integers (batch,).
    """
    compiled = gradients_of(lambda inputs, targets: tf.gather(function(inputs), targets, axis=1, batch_dims=1))
    return lambda inputs, targets: compiled(inputs, tf.cast(targets, tf.int32))
