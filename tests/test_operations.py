"""Every rule of a `keras.ops` call against its slow float64 twin, on a table of small functional models."""

import itertools
from functools import cache

import keras
import numpy as np
import pytest
from operation_cases import CASES, DRAWN, DTYPES
from twins_operations import start

import pane_keras
from pane_keras.excitation import Excitation
from pane_keras.registry import registered
from pane_keras.testing import true_values

TOLERANCE = 1e-5
ROUNDING = 1e-6
NAMES = [f"{one.name}-{one.note}".rstrip("-").replace(" ", "_") for one in CASES]

# Layers that are registered by name as well: Keras does not export them.
LAYERS = {"ConvLSTMCell", "CustomScaleLayer", "LayerScale", "STFTSpectrogram", "StochasticDepth"}
BATCH = 2
# It flattens the batch axis too, so there is nothing to compare: test_operation_refusals.py has it.
ALWAYS_REFUSED = {"Ravel"}
# Keras 3.15 itself cannot run a model with this node: `test_keras_cannot_run_a_transposed_convolution`.
BROKEN_IN_KERAS = {"ConvTranspose"}

named = pytest.mark.parametrize("number", range(len(CASES)), ids=NAMES)


@cache
def model_of(number):
    """Returns the model of a case, and its wrapped model."""
    one = CASES[number]
    dtype = DTYPES.get(one.kind, "float32")
    batch = BATCH if one.static else None
    inputs = [keras.Input(shape, batch, dtype, name=f"input_{k}") for k, shape in enumerate(one.shapes)]
    return keras.Model(inputs, one.build(*inputs))


def drawn(one, seed=0):
    """Returns a batch of each input: exact zeros and ties occur, and the second sample of `dyadic` is -1, 0 or 1."""
    rng = np.random.default_rng(seed)
    kinds = [one.kind, *["few" if one.kind == "dyadic" else one.kind] * (BATCH - 1)]
    samples = [[DRAWN[kind](rng, shape) for kind in kinds] for shape in one.shapes]
    return [np.stack(parts).astype(DTYPES.get(one.kind, "float32")) for parts in samples]


def assert_close(actual, expected, what, tolerance=TOLERANCE, size=0.0):
    """max |difference| within the tolerance of max |expected|, or of `size` where that is larger."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(actual).all(), f"{what} is not finite"
    gap, size = np.abs(actual - expected).max(initial=0), max(np.abs(expected).max(initial=0), size)
    if gap > tolerance * size:
        worst = np.unravel_index(np.abs(actual - expected).argmax(), actual.shape)
        raise AssertionError(f"{what}: off by {gap:.2e} at {worst}, where the largest entry is {size:.2e}")


def parts(maps):
    """Returns (positive, negative, sum) of maps (batch, units, ...) in float64, flat from the third axis on."""
    scales = (maps.log2_scale, maps.log2_scale, maps.sum_log2_scale)
    values = [true_values(v, scale) for v, scale in zip((maps.positive, maps.negative, maps.sum), scales)]
    return [value.reshape(*value.shape[:2], -1) for value in values]


def units(shape):
    return list(np.ndindex(*shape))


@named
def test_operation_against_its_twin(number):
    """Output, completeness, P and N pulled and pushed, for every input and output."""
    one, model = CASES[number], model_of(number)
    xs = drawn(one)
    pane = pane_keras.wrap(model)
    trace = pane.trace(xs)
    report = trace.check()
    assert report.max_residual <= ROUNDING, str(report)
    sources = trace._input_slots
    if one.vectors:
        sources = [trace._slot(next(call.name for call in pane.graph.calls if _class(call.operation) in one.names))]
    samples = [one.twin(*start(signals)) for signals in _signals(one, xs)]
    results = [flat(model(xs)), flat(pane(xs)), trace._outputs, zip(*map(flat, samples))]
    for k, (own, again, target, signals) in enumerate(zip(*results, strict=True)):
        np.testing.assert_array_equal(again, own)
        assert_close(trace._record.slots[target].value, own, f"output {k} of the trace", ROUNDING)
        assert_close(own, np.stack([signal.value for signal in signals]), f"output {k} of the twin")
        for j, source in enumerate(sources):
            assert_excitations(trace, source, target, [signal.pairs.get(j) for signal in signals])


def _class(operation):
    return type(operation).__name__


def _signals(one, xs):
    """The float64 signals that excitations start from, for each sample."""
    for sample in range(BATCH):
        mine = [x[sample] for x in xs]
        yield [np.asarray(x, "float64") for x in ([one.vectors(*mine)] if one.vectors else mine)]


def flat(structure):
    return structure if type(structure) in (list, tuple) else [structure]


def assert_excitations(trace, source, target, expected):
    """P, N and P + N between two slots, pulled and pushed, against one dense pair a sample (None: no path)."""
    pair = Excitation(trace._record, source, target, ("source", "target"), joined=False)
    pulled = parts(pair.map(target=units(pair.target_shape)))
    pushed = [np.moveaxis(t, 1, 2) for t in parts(pair.effect(source=units(pair.source_shape)))]
    zeros = np.zeros(pulled[0].shape[1:])
    p, n = (np.stack(side) for side in zip(*[pair or (zeros, zeros) for pair in expected]))
    size = max(np.abs(p).max(initial=0), np.abs(n).max(initial=0))
    for word, twin, pull, push in zip(("P", "N", "P + N"), (p, n, p + n), pulled, pushed):
        assert_close(pull, twin, f"{word} pulled", size=size)
        assert_close(push, twin, f"{word} pushed", size=size)


def test_every_registered_operation_has_a_case():
    covered = {name for one in CASES for name in one.names}
    assert set(registered()[1]) - LAYERS - ALWAYS_REFUSED - BROKEN_IN_KERAS == covered


def test_case_names_are_unique():
    assert len(set(NAMES)) == len(NAMES), [
        name for name, group in itertools.groupby(sorted(NAMES)) if len([*group]) > 1
    ]


def test_keras_names_the_classes_as_the_rules_are_registered():
    """Keras does not export these classes, so their names are what a rule is found by."""
    wrong = []
    for number, one in enumerate(CASES):
        names = {_class(operation) for operation in model_of(number).operations}
        wrong += [f"{name}: {sorted(names)}" for name in set(one.names) - names]
    assert not wrong


def test_keras_cannot_run_a_transposed_convolution():
    """Once this fails, ConvTranspose needs a case in the table."""
    x = keras.Input((5, 2))
    model = keras.Model(x, keras.ops.conv_transpose(x, np.ones((2, 3, 2), "float32"), 2))
    with pytest.raises(AttributeError, match="lower"):
        model(np.ones((1, 5, 2), "float32"))
