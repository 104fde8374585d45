"""Functions compiled into one graph of the framework."""

import contextlib
import contextvars

import tensorflow as tf

KernelError = tf.errors.InvalidArgumentError
"""What a kernel inside a graph raises for numbers that it cannot take, such as an index that lies outside, and XLA for
an operation that it cannot compile."""

_for_xla = contextvars.ContextVar("for_xla", default=None)


def compiled(function, jit=False):
    """Returns a function of a list of tensors as one graph, traced once for each signature of its inputs.

    Args:
        function: Function of a list of tensors that returns a structure of tensors.
        jit: Whether XLA compiles the graph.
    """

    def traced(*arguments):
        with _tracing(jit):
            return function(*arguments)

    return tf.function(traced, jit_compile=jit or None, autograph=False, reduce_retracing=False)


def traced_for_xla():
    """Returns whether the graph that is being traced is one that XLA compiles."""
    return bool(_for_xla.get())


def traced_for_host():
    """Returns whether the graph that is being traced is one of `compiled` that the host runs, kernel after kernel."""
    return _for_xla.get() is False and tf.test.is_built_with_xla() and not tf.config.list_logical_devices("GPU")


@contextlib.contextmanager
def _tracing(jit):
    token = _for_xla.set(bool(jit))
    try:
        yield
    finally:
        _for_xla.reset(token)
