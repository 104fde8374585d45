"""Every law of section 5 on generated architectures.

The twin takes the signs of x and o' and the selected elements from the trace (DESIGN.md, section 5): one sign that
rounding flips would change D by more than rounding. The coefficients are those of tests/twins.py, computed in float64
from the layers' weights and from the signals that the trace holds.
"""

import numpy as np
import pytest
import twins
from architectures import chains, graphs
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import pane_keras
from pane_keras.testing import channels, dense_network, true_values

# No shrinking: an example takes half a second, and prints as a short list of steps as it is.
settings.register_profile("laws", deadline=None, max_examples=40, derandomize=True, database=None, print_blob=False,
                          suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])  # fmt: skip
settings.load_profile("laws")

TOLERANCE = 1e-5
# float32 rounding of a chain: each product of rows and a layer adds a few units in the last place of the sum of
# absolute products, which is what |E+| + |E-| composed gives. It matters where the twin's map is zero or nearly so, as
# an S that cancels; of some 800 architectures tried none needed it.
ROUNDING = 2.0**-24


class Traced:
    """An architecture with its model, trace and float64 twin."""

    def __init__(self, architecture):
        self.model, self.x = architecture.model(), architecture.inputs()
        assume(np.isfinite(self.model(self.x)).all())  # an exponential of an exponential may not be
        self.pane = pane_keras.wrap(self.model)
        self.trace = self.pane.trace(self.x)
        self.record = self.trace._record
        self.twin = dense_network(self.trace, self.coefficients())
        self.names = ["input", *self.trace]

    def coefficients(self):
        """Returns the function stage -> matrices (batch, outputs, inputs), from tests/twins.py."""
        operations = {call.name: call.operation for call in self.pane.graph.calls}
        plans = {name: iter(twins.plan(operation)) for name, operation in operations.items()}

        def of(stage):
            make = next(plans[stage.name])
            signals = [np.asarray(self.record.slots[e.source].value, "float64") for e in stage.edges]
            samples = [make([x[b] for x in signals]).weights for b in range(len(self.x))]
            return [np.stack(ws) for ws in zip(*samples)]

        return of

    def expected(self, source, target):
        """Returns the dense (P, N, sum of absolute products), each (batch, *target shape, *source shape)."""
        a, b = self.trace._source(source), self.trace._target(target)
        shape = (len(self.x), *self.shape(b), *self.shape(a))
        return [t.reshape(shape) for t in (*self.twin.between(a, b), self.twin.magnitude(a, b))]

    def shape(self, slot):
        return tuple(self.record.slots[slot].value.shape[1:])

    def connected(self):
        """Returns all (source, target) of layers with a path between them, at which something is excited."""
        pairs = []
        for i, source in enumerate(self.names):
            for target in self.names[i + 1 :]:
                a, b = self.trace._source(source), self.trace._target(target)
                if a != b and _reaches(self.record, a, b):
                    pairs.append((source, target))
        return pairs


def _reaches(record, source, target):
    reached = {source}
    for edge in record.edges:
        if edge.source in reached:
            reached.add(edge.target)
    return target in reached


def parts(maps):
    """Returns (positive, negative, sum) of a map in float64."""
    return (
        true_values(maps.positive, maps.log2_scale),
        true_values(maps.negative, maps.log2_scale),
        true_values(maps.sum, maps.sum_log2_scale),
    )


def assert_map(actual, p, n, size, depth):
    """positive, negative and sum of each map, of each sample, against the twin's.

    Args:
        actual: (positive, negative, sum), each (batch, ..., source), the trailing axes being one map.
        p, n: The twin's.
        size: Sum of absolute products, of the same shape.
        depth: Stages, for the rounding bound.
    """
    for word, mine, twin in zip(("positive", "negative", "sum"), actual, (p, n, p + n)):
        assert mine.shape == twin.shape, f"{word}: shape {mine.shape}, expected {twin.shape}"
        assert np.isfinite(mine).all(), f"{word} is not finite"
        for sample in range(len(twin)):
            error = np.abs(mine[sample] - twin[sample]).max(initial=0)
            bound = TOLERANCE * np.abs(twin[sample]).max(initial=0)
            rounding = 8 * depth * ROUNDING * size[sample].max(initial=0)
            assert error <= max(bound, rounding), f"{word} of sample {sample}: off by {error:.2e}, allowed {bound:.2e}"


@given(st.one_of(chains, graphs))
def test_saliency_is_the_four_product_chain(architecture):
    case = Traced(architecture)
    logits, depth = np.asarray(case.trace.logits()), len(case.record.stages)
    top, samples = logits.argmax(axis=1), np.arange(len(logits))
    expected = case.expected("input", "logits")
    for maps, units in ((case.trace.saliency(), top), (case.trace.saliency(logits.shape[1] - 1), -1)):
        p, n, s = parts(maps)
        assert_map((p, n, s), *(t[samples, units] for t in expected), depth)
        # S = P + N, as far as P and N can tell.
        assert np.abs(p + n - s).max(initial=0) <= 1e-6 * max(np.abs(p).max(initial=0), np.abs(n).max(initial=0))


@given(st.one_of(chains, graphs))
def test_check_is_ok_and_the_output_is_the_models(architecture):
    case = Traced(architecture)
    report = case.trace.check()
    assert report.ok, str(report)
    expected = np.asarray(case.model(case.x))
    assert np.array_equal(np.asarray(case.pane(case.x)), expected)
    emitted = np.asarray(case.trace[case.names[-1]].output)
    np.testing.assert_allclose(emitted, expected, rtol=1e-5, atol=1e-6)
    # The twin that ships reads the coefficients from the rules: the same chain as from the twins of the tests.
    a, b = case.trace._source("input"), case.trace._target("logits")
    size = case.twin.magnitude(a, b).max(initial=0)
    for mine, twin in zip(dense_network(case.trace).between(a, b), case.twin.between(a, b)):
        assert np.abs(mine - twin).max(initial=0) <= TOLERANCE * size


@given(st.one_of(chains, graphs), st.data())
def test_any_two_layers(architecture, data):
    case = Traced(architecture)
    source, target = data.draw(st.sampled_from(case.connected()), label="pair")
    pair = case.trace.between(source, target)
    p, n, size = case.expected(source, target)
    depth = len(case.record.stages)
    dense = pair.dense()
    assert_map(parts(dense), p, n, size, depth)
    units = list(np.ndindex(*pair.target_shape))
    chosen = data.draw(st.lists(st.sampled_from(units), min_size=1, max_size=3), label="units")
    at = tuple(np.array(chosen).T)
    # Dense rows are the maps of the target's units, and a list of units gives them next to each other.
    several = parts(pair.map(target=chosen))
    for row, unit in enumerate(chosen):
        one = parts(pair.map(target=unit))
        for a, b in zip(one, several):
            np.testing.assert_allclose(a, b[:, row], rtol=1e-5, atol=1e-6 * np.abs(a).max(initial=0))
    assert_map(several, *(t[(slice(None), *at)] for t in (p, n, size)), depth)
    # What a source unit excites is a column.
    unit = data.draw(st.sampled_from(list(np.ndindex(*pair.source_shape))), label="source unit")
    columns = [t[(slice(None), *[slice(None)] * len(pair.target_shape), *unit)] for t in (p, n, size)]
    assert_map(parts(pair.effect(source=unit)), *columns, depth)
    assert_weights_are_linear_and_effect_is_adjoint(case, pair, p, n, size)


def assert_weights_are_linear_and_effect_is_adjoint(case, pair, p, n, size):
    rng = np.random.default_rng(len(case.names))
    u, v = (
        rng.normal(size=(len(case.x), *shape)).astype("float32") for shape in (pair.target_shape, pair.source_shape)
    )
    axes = [list(range(1, 1 + len(pair.target_shape)))] * 2
    depth = len(case.record.stages)

    def weighted(t, w):
        return np.stack([np.tensordot(w[b], t[b], axes=[[i - 1 for i in axes[0]]] * 2) for b in range(len(w))])

    maps = pair.map(weights=u)
    assert_map(parts(maps), weighted(p, u), weighted(n, u), weighted(size, np.abs(u)), depth)
    for word, pulled, pushed in zip("SD", channels(maps), channels(pair.effect(weights=v))):
        left, right = pulled * v, pushed * u
        gap = abs(left.sum() - right.sum())
        bound = TOLERANCE * max(np.abs(left).sum(), np.abs(right).sum())
        bound = max(bound, 8 * depth * ROUNDING * (weighted(size, np.abs(u)) * np.abs(v)).sum())
        assert gap <= bound, f"<u, {word} v> pulled and pushed differ by {gap:.2e}, allowed {bound:.2e}"


@given(chains, st.data())
def test_composition_in_the_group_algebra(architecture, data):
    """between(a, c) = between(b, c) o between(a, b): a chain has no way round b."""
    case = Traced(architecture)
    slots = {name: case.trace._target(name) if name != "input" else 0 for name in case.names}
    distinct = [n for i, n in enumerate(case.names) if slots[n] not in [slots[m] for m in case.names[:i]]]
    if len(distinct) < 3:
        return
    a, b, c = sorted(data.draw(st.lists(st.sampled_from(range(len(distinct))), min_size=3, max_size=3, unique=True)))
    a, b, c = distinct[a], distinct[b], distinct[c]
    first, second, both = (_channel_matrices(case, *pair) for pair in ((a, b), (b, c), (a, c)))
    for word, later, earlier, whole in zip("SD", second, first, both):
        composed = later @ earlier
        size = (np.abs(later) @ np.abs(earlier)).max(initial=0)
        assert np.abs(composed - whole).max(initial=0) <= TOLERANCE * size, f"{word} of {a} -> {b} -> {c}"


def _channel_matrices(case, source, target):
    pair = case.trace.between(source, target)
    shape = (len(case.x), int(np.prod(pair.target_shape)), int(np.prod(pair.source_shape)))
    return [t.reshape(shape) for t in channels(pair.dense())]


def test_an_architecture_prints_what_it_is():
    text = repr(_example())
    assert "conv 2 3 1 same relu" in text
    assert "batch 2" in text


def test_a_broken_mask_is_caught(monkeypatch):
    """The laws can fail: without the masks of zero inputs they do."""
    from pane_keras import linear_operand

    monkeypatch.setattr(linear_operand.LinearOperand, "_mask", lambda self, t, *args: t)
    case = Traced(_example())
    p, n, size = (t[:, 0] for t in case.expected("input", "logits"))
    with pytest.raises(AssertionError, match="of sample 0: off by"):
        assert_map(parts(case.trace.saliency(0)), p, n, size, len(case.record.stages))


def _example():
    from architectures import Architecture

    return Architecture((("conv", 2, 3, 1, "same", "relu"),), 3, None, False, 4, 2, 1)
