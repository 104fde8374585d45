"""What a trace has to have in common with its model, and its dense excitations with a twin's `Tracked` signal."""

import keras
import numpy as np
from architectures import randomize
from keras import tree

import pane_keras
from pane_keras.testing import dense_network, true_values

TOLERANCE = 1e-5
# An o' this close to zero, relative to the sum of its absolute terms, may have another sign in float32.
MARGIN = 1e-6


def draw(*shape, seed=0):
    """Returns random numbers, a fifth of which are exactly zero."""
    rng = np.random.default_rng([seed, *shape])
    return np.where(rng.random(shape) < 0.2, 0, rng.normal(size=shape)).astype("float32")


def filled(inputs, outputs, seed=0):
    """Returns the model of these symbolic tensors with random weights."""
    model = keras.Model(inputs, outputs)
    randomize(model, np.random.default_rng(seed))
    return model


def traced(model, inputs):
    """Returns the trace of a model; its outputs are the model's, and every residual is float32 rounding."""
    expected = tree.flatten(model(inputs, training=False))
    trace = pane_keras.wrap(model).trace(inputs)
    for slot, own in zip(trace._outputs, expected, strict=True):
        assert_close(trace._record.slots[slot].value, own, "output")
    report = trace.check()
    assert report.max_residual <= 1e-6, str(report)
    return trace


def assert_agrees(trace, source, target, signal, name=None):
    """The value of a layer and its dense P and N are those of the twin.

    Args:
        trace: The trace.
        source, target: Names of layers.
        signal: The twin's `Tracked` signal of the target.
        name: Of the source in the twin, if it is another.
    """
    value = trace.logits() if target == "logits" else trace[target].output
    assert_close(value, signal.value, f"twin of {target}")
    dense = trace.between(source, target).dense()
    assert signal.margin > MARGIN, f"o' is {signal.margin:.1e} of its terms: too close to zero, take another seed"
    chain = signal.chains[name or source]
    size = sum(np.abs(t) for t in chain)
    for word, mine, twin in zip(("positive", "negative"), dense, chain):
        assert_close(true_values(mine, dense.log2_scale).reshape(twin.shape), twin, f"{word} of {target}", size)
        assert twin.any() or word == "negative", f"nothing excites {target}: the test is empty"


def assert_close(actual, expected, word, size=None):
    """Equal to 1e-5 of the largest entry of each sample of `size`, by default of `expected`."""
    actual, expected = (np.asarray(t, "float64") for t in (actual, expected))
    assert actual.shape == expected.shape, f"{word}: shape {actual.shape}, expected {expected.shape}"
    size = np.abs(expected if size is None else size)
    for sample, (a, b, s) in enumerate(zip(actual, expected, size)):
        error = np.abs(a - b).max(initial=0)
        assert error <= TOLERANCE * s.max(initial=0), f"{word}: sample {sample} is off by {error:.1e} of {s.max():.1e}"


def assert_network(trace, source, target, network=None):
    """The dense P and N are those of the float64 four-product chain `dense_network`, whose signs are the trace's.

    Differences are measured against the chain of |E+| + |E-|, which is returned.
    """
    network, (a, b) = network or dense_network(trace), (trace._source(source), trace._target(target))
    dense, size = trace.between(source, target).dense(), network.magnitude(a, b)
    for word, mine, twin in zip(("positive", "negative"), dense, network.between(a, b)):
        assert_close(true_values(mine, dense.log2_scale).reshape(twin.shape), twin, f"{word} of {target}", size)
    return size
