"""`Excitation`: maps, effects, dense pairs and expressions, and the contraction behind them against plain einsum."""

import itertools
from dataclasses import replace

import keras
import numpy as np
import opt_einsum
import pytest
from keras import layers

from pane_keras import ExcitationMap, contraction, linear_operand, single_operand, wrap
from pane_keras.errors import DenseSizeError, InputError
from pane_keras.sizes import size as in_words


@pytest.fixture
def trace(residual_trace):
    return residual_trace


@pytest.fixture
def chain(randomize):
    """A chain in which every stage is a layer, so that each one's dense pair is one operand."""
    x = keras.Input((5, 5, 2))
    h = layers.Conv2D(3, 3, name="conv")(x)
    h = layers.Activation("tanh", name="tanh")(h)
    h = layers.Flatten(name="flatten")(h)
    h = layers.Dense(6, name="dense1")(h)
    h = layers.LeakyReLU(name="leaky")(h)
    return randomize(keras.Model(x, layers.Dense(4, name="dense2")(h)))


def dense_parts(pair, parts):
    """Returns (positive, negative, sum) of a pair in float64, each (batch, targets, sources)."""
    shape = (-1, int(np.prod(pair.target_shape)), int(np.prod(pair.source_shape)))
    return tuple(part.reshape(shape) for part in parts(pair.dense()))


def shapes(maps):
    return {tuple(part.shape) for part in (maps.positive, maps.negative, maps.sum)}


# Maps and effects


def test_the_shape_of_a_map(trace):
    pair = trace.between("stem", "side")
    one, several = pair.map((1, 2, 0)), pair.map([(1, 2, 0), (5, 5, 2), (-1, 0, 1)])
    assert isinstance(one, ExcitationMap)
    assert shapes(one) == {(2, 6, 6, 4)}
    assert tuple(one.log2_scale.shape) == tuple(one.sum_log2_scale.shape) == (2,)
    assert shapes(several) == {(2, 3, 6, 6, 4)}
    assert tuple(several.log2_scale.shape) == tuple(several.sum_log2_scale.shape) == (2, 3)
    assert shapes(pair.map([(0, 0, 0)])) == {(2, 1, 6, 6, 4)}
    np.testing.assert_array_equal(one.signal, trace["stem"].output)


def test_the_shape_of_an_effect(trace):
    pair = trace.between("stem", "scores")
    assert shapes(pair.effect((1, 2, 0))) == {(2, 5)}
    assert shapes(pair.effect([(1, 2, 0), (0, 0, -1)])) == {(2, 2, 5)}
    assert shapes(pair.effect(weights=np.ones((6, 6, 4)))) == {(2, 5)}
    np.testing.assert_array_equal(pair.effect((1, 2, 0)).signal, trace["scores"].output)


def test_a_list_holds_the_single_units(trace):
    pair = trace.between("stem", "side")
    units = [(1, 2, 0), (5, 5, 2), (-1, 0, 1)]
    several = pair.map(units)
    for k, unit in enumerate(units):
        for part in ("positive", "negative", "sum"):
            expected = getattr(pair.map(unit), part)
            np.testing.assert_allclose(getattr(several, part)[:, k], expected, rtol=1e-5, atol=1e-7)
    assert np.any(several.negative)
    np.testing.assert_array_equal(pair.map((5, 0, 1)).sum, pair.map((-1, 0, 1)).sum)


def test_many_units_are_counted_and_not_listed(trace):
    pair = trace.between("input", "side")
    units = [(k // 3, k % 3, 1) for k in range(9)]
    assert pair.map((1, 2, 0)).of == "side[(1, 2, 0)]"
    assert pair.map(units[:2]).of == "side[[(0, 0, 1), (0, 1, 1)]]"
    for many in (units, np.array(units), iter(units)):
        assert pair.map(many).of == "side[9 units]"
    assert pair.map(iter(units[:2])).of == "side[2 units]"
    assert pair.map(channel=1).of == "side"


@pytest.mark.parametrize("unit", [2, np.int64(2), (2,), (np.int32(2),), -3, (-3,)])
def test_ways_to_name_a_unit_of_one_axis(trace, unit):
    pair = trace.between("stem", "scores")
    expected = pair.map([2]).positive[:, 0]
    assert np.any(expected)
    np.testing.assert_allclose(pair.map(unit).positive, expected, rtol=1e-5, atol=1e-8)


def test_pull_and_push_agree(trace, parts):
    """<u, E v> is the same from either side, in both channels."""
    pair, rng = trace.between("stem", "side"), np.random.default_rng(5)
    u, v = rng.normal(size=(2, 6, 6, 3)), rng.normal(size=(2, 6, 6, 4))
    pulled, pushed = parts(pair.map(weights=u)), parts(pair.effect(weights=v))
    for a, b in zip(pulled, pushed):
        left, right = (a * v).sum((1, 2, 3)), (b * u).sum((1, 2, 3))
        assert np.all(np.abs(left) > 1e-3)
        np.testing.assert_allclose(left, right, rtol=1e-4)


def test_weights_are_a_linear_combination(trace, parts):
    pair, w = trace.between("input", "scores"), np.array([1.0, -2.0, 0.0, 0.5, 3.0])
    units = parts(pair.map(list(range(5))))
    for combined, part in zip(parts(pair.map(weights=w)), units):
        np.testing.assert_allclose(combined, np.einsum("bnhwc,n->bhwc", part, w), rtol=1e-4, atol=1e-6)


def test_weights_with_and_without_the_batch_axis(trace):
    pair = trace.between("input", "scores")
    w = np.random.default_rng(1).normal(size=(2, 5))
    one, alike, each = (pair.map(weights=x).positive for x in (w[0], w[:1], w))
    np.testing.assert_array_equal(one, alike)
    np.testing.assert_allclose(each[0], one[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(each[1], pair.map(weights=w[1]).positive[1], rtol=1e-5, atol=1e-7)
    assert not np.allclose(each[1], one[1])
    np.testing.assert_array_equal(pair.map(weights=list(w[0])).positive, one)
    np.testing.assert_array_equal(pair.map(weights=np.array([0, 1, 0, 0, 0])).positive, pair.map(1).positive)


# Contributions


def test_a_contribution_is_coefficient_times_signal(trace, parts):
    maps = trace.saliency(2)
    x = np.asarray(maps.signal, "float64")
    for part, coefficient in zip(parts(maps.contribution()), parts(maps)):
        np.testing.assert_allclose(part, coefficient * x, rtol=1e-6)
    np.testing.assert_array_equal(maps.contribution(x).sum, maps.contribution().sum)
    np.testing.assert_allclose(maps.contribution(2 * x).sum, 2 * np.asarray(maps.contribution().sum), rtol=1e-6)


def test_the_contributions_to_several_units(trace):
    pair = trace.between("stem", "scores")
    several = pair.map([0, 3]).contribution()
    assert shapes(several) == {(2, 2, 6, 6, 4)}
    np.testing.assert_allclose(several.sum[:, 1], pair.map(3).contribution().sum, rtol=1e-5, atol=1e-7)


def test_a_contribution_is_not_multiplied_again(trace):
    maps = trace.saliency(2)
    for x in (None, np.ones((2, 6, 6, 2), "float32")):
        with pytest.raises(InputError, match=r"times its signal\. Received: maps that are contributions already: Exc"):
            maps.contribution().contribution(x)
    bare = replace(maps, signal=None)
    with pytest.raises(InputError, match=r"times its signal\. Received: maps that have no signal: ExcitationMap"):
        bare.contribution()
    np.testing.assert_array_equal(bare.contribution(maps.signal).sum, maps.contribution().sum)


def test_contributions_add_up_to_the_unit_less_its_biases(randomize, inputs_for):
    """Where no bias, statistic or f(0) takes part the parts add up to the unit; a layer's own bias is what is left."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu", use_bias=False, name="conv"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(4, name="out"),
        ]
    )
    x = inputs_for(randomize(model), 3)
    logits, bias = np.asarray(model(x)), np.asarray(model.layers[-1].bias)
    assert np.abs(bias).min() > 1e-3
    trace = wrap(model).trace(x)
    for k in range(4):
        total = np.sum(trace.saliency(k).contribution().sum, axis=(1, 2, 3))
        np.testing.assert_allclose(total + bias[k], logits[:, k], rtol=1e-5, atol=1e-6)


def test_a_contribution_has_the_sign_of_the_unit(randomize, inputs_for):
    """Of one layer: POS contributions have the sign of o', NEG contributions the opposite."""
    model = randomize(keras.Sequential([keras.Input((9,)), layers.Dense(5, name="d")]))
    x = inputs_for(model)
    signs = np.sign(x @ np.asarray(model.layers[-1].kernel))
    parts = wrap(model).trace(x).between("input", "d").map(list(range(5))).contribution()
    assert np.all(np.asarray(parts.positive) * signs[..., None] >= 0)
    assert np.all(np.asarray(parts.negative) * signs[..., None] <= 0)
    assert np.any(parts.positive)
    assert np.any(parts.negative)


# Dense pairs

PAIRS = {"the target is smaller": ("stem", "scores"), "the source is smaller": ("picture", "branch")}


@pytest.mark.parametrize("direction", PAIRS)
def test_the_rows_of_a_dense_pair_are_maps_and_its_columns_effects(trace, parts, direction):
    pair = trace.between(*PAIRS[direction])
    dense = pair.dense()
    target, source = pair.target_shape, pair.source_shape
    assert (np.prod(target) <= np.prod(source)) == (direction == "the target is smaller")
    assert shapes(dense) == {(2, *target, *source)}
    assert tuple(dense.log2_scale.shape) == tuple(dense.sum_log2_scale.shape) == (2, *target)
    positive, negative = dense
    assert positive is dense.positive
    assert negative is dense.negative
    rng = np.random.default_rng(2)
    units = [tuple(int(rng.integers(n)) for n in target) for _ in range(3)]
    for unit in units:
        for whole, row in zip(parts(dense), parts(pair.map(unit))):
            assert np.any(row)
            np.testing.assert_allclose(whole[(slice(None), *unit)], row, rtol=1e-4, atol=1e-6)
    for unit in [tuple(int(rng.integers(n)) for n in source) for _ in range(3)]:
        for whole, column in zip(parts(dense), parts(pair.effect(unit))):
            np.testing.assert_allclose(whole[(..., *unit)], column, rtol=1e-4, atol=1e-6)


def steep(gain, units):
    """A chain whose kernels are so large that coefficients leave float32."""
    stack = [layers.Dense(8, activation="relu", name=f"d{k}") for k in range(6)]
    model = keras.Sequential([keras.Input((5,)), *stack, layers.Dense(units, name="out")])
    rng = np.random.default_rng(3)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * (gain if len(weight.shape) == 2 else 0))
    return model


@pytest.mark.parametrize("units", [3, 7], ids=["pull", "push"])
def test_every_row_of_a_dense_pair_has_its_scales(parts, units):
    """The units differ by 2**40, and all of them lie beyond float32."""
    model = steep(2.0**20, units)
    spread = 2.0 ** (-40 * (np.arange(units) % 2))
    model.layers[-1].kernel.assign(model.layers[-1].kernel * spread)
    x = np.random.default_rng(4).normal(size=(2, 5)).astype("float32") * 2.0**-100
    pair = wrap(model).trace(x).between("input", "out")
    dense = pair.dense()
    assert tuple(dense.log2_scale.shape) == (2, units)
    assert np.all(np.isfinite(dense.positive))
    assert np.all(np.isfinite(dense.negative))
    rows = [parts(pair.map(k)) for k in range(units)]
    assert max(np.abs(row[0]).max() for row in rows) > np.finfo("float32").max
    for part, whole in enumerate(parts(dense)):
        for k, row in enumerate(rows):
            np.testing.assert_allclose(whole[:, k], row[part], rtol=1e-4, atol=1e-6 * np.abs(row[0]).max())


def test_a_dense_pair_over_the_limit_is_refused(trace):
    pair = trace.between("stem", "side")
    size = 3 * 2 * (6 * 6 * 3) * (6 * 6 * 4) * 4
    with pytest.raises(DenseSizeError) as caught:
        pair.dense(max_bytes=size - 1)
    text = str(caught.value)
    assert "'stem' -> 'side'" in text
    assert "(2, 6, 6, 3, 6, 6, 4)" in text
    assert f"(2, 6, 6, 3, 6, 6, 4): {in_words(size)}, over the limit of {in_words(size - 1)}." in text
    assert "map(target=...), effect(source=...) or channels()" in text
    assert isinstance(caught.value, MemoryError)
    assert tuple(pair.dense(max_bytes=size).sum.shape) == (2, 6, 6, 3, 6, 6, 4)
    with pytest.raises(DenseSizeError, match="over the limit"):
        trace["side"].positive.dense(max_bytes=10)


def test_a_refusal_runs_nothing(trace, monkeypatch):
    monkeypatch.setattr(contraction, "_contract", None)
    with pytest.raises(DenseSizeError):
        trace.between("stem", "side").dense(max_bytes=0)


def test_the_default_limit_is_a_share_of_the_free_memory(trace, monkeypatch):
    monkeypatch.setattr("pane_keras.backend.device_memory", lambda: 2**16)
    with pytest.raises(DenseSizeError, match=r"KiB, over the limit of 16 KiB\."):
        trace.between("input", "stem").dense()
    assert np.any(trace.between("pool", "scores").dense().positive)


# Expressions


def test_an_expression_names_the_whole_network(trace):
    expression = trace.between("stem_relu", "scores").expression()
    assert (expression.source, expression.target) == ("stem_relu", "scores")
    # stem_relu -> branch -> add, stem_relu -> add; add -> add_relu; add_relu -> side -> concat, add_relu -> concat;
    # concat -> pool -> scores.
    names = sorted([o.name for o in chain.operands] for chain in expression.chains)
    assert names == [["add"], ["add_relu"], ["branch", "add"], ["concat"], ["pool", "scores"], ["side", "concat"]]
    assert len(expression.equations) == len(expression.infos()) == 6
    text = str(expression)
    assert "stem_relu -> scores" in text
    assert "6 chain(s)" in text
    for chain, equation in zip(expression.chains, expression.equations):
        assert equation in text
        for o in chain.operands:
            lines = [line for line in text.splitlines() if line.split()[:1] == [o.name]]
            assert any(o.kind in line and str(o.shape) in line for line in lines)
    for word in ("FLOP count", "Largest intermediate", "scaling"):
        assert text.count(word) >= 6
    convolution = next(o for c in expression.chains for o in c.operands if o.name == "branch")
    assert convolution.kind == "convolution"
    assert convolution.shape == (2, 2, 6 * 6 * 4, 6 * 6 * 4)


def test_a_chain_is_one_equation(chain, inputs_for):
    expression = wrap(chain).trace(inputs_for(chain)).between("input", "logits").expression()
    (only,) = expression.chains
    assert [o.name for o in only.operands] == ["conv", "tanh", "flatten", "dense1", "leaky", "dense2"]
    (equation,) = expression.equations
    terms, result = equation.split("->")
    terms = terms.split(",")
    assert len(terms) == 7
    channel, batch = result[:2]
    assert all(term.startswith(channel + batch) for term in terms)  # hyper-indices: in every term, never summed
    sizes = {}
    for term, shape in zip(terms, [o.shape for o in only.operands] + [(2, 2, 1, 4)]):
        for symbol, size in zip(term, shape, strict=True):
            assert sizes.setdefault(symbol, size) == size
    assert [sizes[s] for s in result] == [2, 2, 1, 50]
    (info,) = expression.infos()
    assert expression.flops == int(info.opt_cost) > 0
    assert expression.largest_intermediate == int(info.largest_intermediate) == 2 * 2 * 50
    assert len(info.path) == 6


def test_an_expression_runs_nothing(trace, monkeypatch):
    for cls in (linear_operand.LinearOperand, single_operand.SingleOperand):
        monkeypatch.setattr(cls, "pull", None)
        monkeypatch.setattr(cls, "push", None)
    assert "chain 1" in str(trace.between("stem", "scores").expression())


# The contraction against plain einsum


@pytest.fixture
def network(chain, inputs_for, parts):
    """(trace, operands): every layer of the chain as a plain array (channel, batch, out, in)."""
    trace = wrap(chain).trace(inputs_for(chain))
    ends = ["input", *trace]
    arrays = []
    for source, target in itertools.pairwise(ends):
        positive, negative, total = dense_parts(trace.between(source, target), parts)
        arrays.append(np.stack([total, positive - negative]))
    return trace, arrays


def channels(maps, parts):
    positive, negative, total = parts(maps)
    rows = np.stack([total, positive - negative])
    return rows.reshape(2, rows.shape[1], -1)


@pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
@pytest.mark.parametrize("engine", ["numpy", "opt_einsum", "opt_einsum dp"])
def test_a_sweep_is_the_plain_einsum(network, parts, pull, engine):
    trace, arrays = network
    pair, rng = trace.between("input", "logits"), np.random.default_rng(6)
    weights = rng.normal(size=(2, *(pair.target_shape if pull else pair.source_shape)))
    block = np.broadcast_to(weights.reshape(2, 1, -1), (2, 2, 1, weights[0].size))
    equation, path = contraction.chain_equation(6, pull), contraction.sweep_path(6, pull)
    expected = {
        "numpy": lambda: np.einsum(equation, *arrays, block, optimize=["einsum_path", *path]),
        "opt_einsum": lambda: opt_einsum.contract(equation, *arrays, block, optimize=path),
        "opt_einsum dp": lambda: opt_einsum.contract(equation, *arrays, block, optimize="dp"),
    }[engine]()[:, :, 0]
    found = channels(pair.map(weights=weights) if pull else pair.effect(weights=weights), parts)
    assert found.shape == expected.shape
    for channel in range(2):
        np.testing.assert_allclose(found[channel], expected[channel], rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
def test_the_sweep_is_as_cheap_as_the_best_path(network, pull):
    """No intermediate is a product of two operands, and dynamic programming finds nothing cheaper."""
    _, arrays = network
    shapes = [a.shape for a in arrays]
    block = (2, 2, 1, shapes[-1][2] if pull else shapes[0][3])
    info = contraction.describe(shapes, block, pull)
    best = opt_einsum.contract_path(info.eq, *shapes, block, shapes=True, optimize="dp")[1]
    assert info.opt_cost <= best.opt_cost
    assert int(info.largest_intermediate) == max(2 * 2 * (s[3] if pull else s[2]) for s in shapes)


def test_the_parts_follow_the_double_chain(network, parts):
    """Eq. (17) with four products a layer, in float64."""
    trace, arrays = network
    positive = np.eye(4)[None].repeat(2, 0)
    negative = np.zeros_like(positive)
    for s, d in reversed(arrays):
        plus, minus = (s + d) / 2, (s - d) / 2
        positive, negative = positive @ plus + negative @ minus, negative @ plus + positive @ minus
    found = dense_parts(trace.between("input", "logits"), parts)
    for part, expected in zip(found, (positive, negative, positive + negative)):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-5 * np.abs(positive).max())
    assert np.abs(negative).max() > 1e-3


# Cost


def ladder(rungs):
    x = keras.Input((4,))
    h = x
    for k in range(rungs):
        h = layers.Add(name=f"add{k}")([h, layers.Dense(4, name=f"dense{k}")(h)])
    return keras.Model(x, h)


@pytest.fixture
def counted(monkeypatch):
    """Counts every pull and push of an operand, by the name of its layer."""
    calls = {"pull": [], "push": []}
    for cls in (linear_operand.LinearOperand, single_operand.SingleOperand):
        for verb, seen in calls.items():
            original = getattr(cls, verb)

            def call(self, block, original=original, seen=seen):
                seen.append(self.name)
                return original(self, block)

            monkeypatch.setattr(cls, verb, call)
    return calls


@pytest.mark.parametrize("rungs", [5, 20])
def test_the_number_of_products_is_linear_in_depth(inputs_for, counted, rungs):
    """2**20 paths lead through the ladder; each of its 3 edges a rung is visited once."""
    model = ladder(rungs)
    pair = wrap(model).trace(inputs_for(model)).between("input", "logits")
    pair.map(2)
    assert len(counted["pull"]) == 3 * rungs
    assert all(counted["pull"].count(f"dense{k}") == 1 for k in range(rungs))
    assert counted["push"] == []
    pair.effect(1)
    assert len(counted["push"]) == len(counted["pull"]) == 3 * rungs
    assert len(pair.expression().chains) == 2 * rungs


def test_several_units_cost_one_sweep(trace, counted):
    trace.between("stem", "scores").map([0, 1, 2])
    once = len(counted["pull"])
    trace.between("stem", "scores").map(0)
    assert len(counted["pull"]) == 2 * once


def test_only_what_lies_between_is_visited(trace, counted):
    trace.between("stem_relu", "add_relu").map((0, 0, 0))
    assert sorted(counted["pull"]) == ["add", "add", "add_relu", "branch"]


def test_contractions_are_cached(trace):
    pair = trace.between("stem_norm", "add")
    pair.map((1, 1, 1))
    first = contraction._contract.cache_info()
    pair.map((2, 2, 2))
    second = contraction._contract.cache_info()
    assert second.misses == first.misses
    assert second.hits - first.hits == len(pair.expression().chains) == 3
    pair.map([(1, 1, 1)] * 13)  # another number of rows is another expression
    assert contraction._contract.cache_info().misses > second.misses
