"""Gradients with respect to what every layer emits, for Full-Grad."""

import tensorflow as tf

from pane_keras.backend.tensorflow.gradients import any_batch


def full_gradients(steps, output):
    """Returns a compiled function (images, targets) -> (logits, image gradients, gradients, biases).

    Args:
        steps: (inputs, outputs, run, bias) of each step, in an order in which they can run: indices of the tensors that
            it reads and writes (0 is the images), the function of a list of tensors -> list of tensors, and what its
            bias is: None for zero, "offset" for f(0), "remainder" for f(x) - J x, which it is for any function.
        output: Index of the logits, (batch, classes).

    Returns:
        A function of a tensor or array (batch, *shape) and integers (batch,), which returns the chosen logits
        (batch,); their gradients with respect to the images; and for every output of every step with a bias, in order,
        their gradients with respect to it, (batch, *shape), and the bias, (batch or 1, *shape).
    """

    def gradients(images, targets):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            values = _values(steps, images)
            chosen = tf.gather(values[output], targets, axis=1, batch_dims=1)
        ends = [i for _, outputs, _, bias in steps if bias for i in outputs if values[i].dtype.is_floating]
        image_gradients, *rest = tape.gradient(
            chosen, [images, *(values[i] for i in ends)], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return chosen, image_gradients, rest, _biases(steps, values)

    compiled = any_batch(gradients)
    return lambda images, targets: compiled(images, tf.cast(targets, tf.int32))


def _values(steps, images):
    values = {0: images}
    for inputs, outputs, run, _ in steps:
        values.update(zip(outputs, run([values[i] for i in inputs])))
    return values


def _biases(steps, values):
    biases = []
    for inputs, outputs, run, bias in steps:
        if bias:
            given = [values[i] for i in inputs]
            parts = run([tf.zeros_like(x[:1]) for x in given]) if bias == "offset" else _remainders(run, given)
            biases += [part for part, i in zip(parts, outputs) if values[i].dtype.is_floating]
    return biases


def _remainders(run, tensors):
    """f(x) - J x of each output, by forward differentiation: J x is the slope of f along x."""
    moving = [k for k, x in enumerate(tensors) if x.dtype.is_floating]
    tensors = [tf.identity(x) for x in tensors]
    along = [tensors[k] for k in moving]
    with tf.autodiff.ForwardAccumulator(along, along) as accumulator:
        emitted = run(tensors)
        slopes = [accumulator.jvp(y, unconnected_gradients=tf.UnconnectedGradients.ZERO) for y in emitted]
    return [y - slope if y.dtype.is_floating else y for y, slope in zip(emitted, slopes)]
