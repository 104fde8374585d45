"""Layers made of layers: `pieces.graph` and `pieces.layers` as rules of one's own."""

import keras
import numpy as np
import pytest
from agreement import draw, filled, traced
from keras import layers, ops
from paths import assert_like_dense, same

import pane_keras
from pane_keras import pieces, wrap
from pane_keras.errors import UnsupportedLayerError
from pane_keras.testing import check_layer

pytestmark = pytest.mark.usefixtures("own_registry")


class Block(layers.Layer):
    """A residual block with a weight of its own."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.LayerNormalization(name="norm")
        self.dense = layers.Dense(units, activation="relu", name="dense")
        self.drop = layers.Dropout(0.5, name="drop")
        self.gain = self.add_weight(shape=(units,), initializer="ones", name="gain")

    def build(self, shape):
        self.norm.build(shape)
        self.dense.build(shape)

    def call(self, x, training=None):
        return x + self.gain * self.drop(self.dense(self.norm(x)), training=training)


class Chain(layers.Layer):
    """Layers one after the other."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(5, name="up"), layers.ReLU(name="relu"), layers.Dense(3, name="down")]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


class Outer(layers.Layer):
    """Two blocks, one of them called twice, and a chain."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block, self.chain = Block(name="block"), Chain(name="chain")

    def call(self, x, training=None):
        return self.chain(self.block(self.block(x, training=training), training=training)) - x[:, :3]


class Gain(layers.Layer):
    """Computes with its weight before it meets a tensor."""

    def build(self, shape):
        self.log_gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="log_gain")

    def call(self, x):
        return ops.exp(self.log_gain) * x


class Peak(layers.Layer):
    def call(self, x):
        return x / ops.max(ops.abs(x), axis=-1, keepdims=True)


class Times(layers.Layer):
    """Multiplies by a number that is no weight."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor


def model_of(*stack):
    x = y = keras.Input((4,), name="p")
    for layer in stack:
        y = layer(y)
    return filled(x, layers.Dense(2, name="out")(y))


RULES = {
    "graph": pieces.graph,
    "graph of a rule": lambda layer, inputs: pieces.graph(layer),
    "with arguments": lambda layer, inputs, arguments: pieces.graph(layer, inputs, arguments),
    "function": lambda layer, inputs: pieces.graph(
        layer, function=lambda x: x + layer.dense(layer.norm(x)) * layer.gain
    ),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_block(rule):
    assert pane_keras.register(Block)(rule) is rule
    model = model_of(Block(name="block"))
    x = draw(2, 4)
    trace = traced(model, x)
    assert list(trace) == ["block", "out"]
    assert same(wrap(model)(x), model(x))
    assert_like_dense(trace, "input", "block")
    assert_like_dense(trace, "block", "logits")
    assert_like_dense(trace, "input", "logits")


def test_a_block_keeps_every_law():
    pane_keras.register(Block)(pieces.graph)
    check_layer(Block(), (4,))


def test_all_rules_of_a_block_agree():
    maps = []
    model, x = model_of(Block(name="block")), draw(2, 4)
    for rule in RULES.values():
        pane_keras.register(Block)(rule)
        maps.append(wrap(model).trace(x).saliency(1))
    for other in maps[1:]:
        np.testing.assert_allclose(other.positive, maps[0].positive, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(other.negative, maps[0].negative, rtol=1e-5, atol=1e-6)
    assert np.any(maps[0].negative)


def test_a_chain_of_layers():
    @pane_keras.register(Chain)
    def excite(layer, inputs):
        return pieces.layers(*layer.parts)

    model = model_of(Chain(name="chain"))
    trace = traced(model, draw(2, 4))
    assert list(trace) == ["chain", "out"]
    assert_like_dense(trace, "input", "logits")
    flat = keras.Sequential([keras.Input((4,)), *model.get_layer("chain").parts, model.get_layer("out")])
    np.testing.assert_allclose(trace.saliency(1).positive, wrap(flat).trace(draw(2, 4)).saliency(1).positive, rtol=1e-5)
    check_layer(Chain(), (4,))


def test_blocks_inside_blocks():
    pane_keras.register(Outer, Block, Chain)(pieces.graph)
    model = model_of(Outer(name="outer"))
    x = draw(2, 4)
    trace = traced(model, x)
    assert list(trace) == ["outer", "out"]
    assert_like_dense(trace, "input", "outer")
    assert same(wrap(model)(x), model(x))


def test_what_a_graph_holds_is_read_as_a_graph_too():
    """Layers inside that nobody registered are."""
    pane_keras.register(Outer)(pieces.graph)
    assert_like_dense(traced(model_of(Outer(name="outer")), draw(2, 4)), "input", "logits")


def test_a_registered_block_inside_keeps_its_own_rule():
    seen = []
    pane_keras.register(Outer)(pieces.graph)

    @pane_keras.register(Block)
    def excite(layer, inputs):
        seen.append(layer.name)
        return pieces.graph(layer)

    traced(model_of(Outer(name="outer")), draw(2, 4))
    assert seen == ["block", "block"]


def test_a_shared_block():
    pane_keras.register(Block)(pieces.graph)
    shared = Block(name="block")
    model = model_of(shared, layers.Dense(4, name="fc"), shared)
    trace = traced(model, draw(2, 4))
    assert list(trace) == ["block", "fc", "block#2", "out"]
    assert_like_dense(trace, "input", "block#2")
    assert_like_dense(trace, "block", "out")


def test_one_block_on_tensors_of_two_shapes():
    pane_keras.register(Block)(pieces.graph)
    shared = Block(name="block")
    one, two = keras.Input((4,), name="one"), keras.Input((3, 4), name="two")
    model = filled([one, two], layers.Add(name="add")([shared(one), ops.sum(shared(two), axis=1)]))
    trace = traced(model, [draw(2, 4), draw(2, 3, 4)])
    assert_like_dense(trace, "one", "add")
    assert_like_dense(trace, "two", "add")


def test_batches_of_different_sizes():
    pane_keras.register(Block)(pieces.graph)
    model = model_of(Block(name="block"))
    pane = wrap(model)
    for batch in (3, 1, 3):
        x = draw(batch, 4)
        np.testing.assert_allclose(pane.trace(x).logits(), model(x), rtol=1e-5, atol=1e-6)


# Values that must not grow stale


@pytest.mark.parametrize("make", [Block, Gain])
def test_weights_changed_between_traces(make):
    pane_keras.register(make)(pieces.graph)
    model, x = model_of(make(name="mine")), draw(2, 4)
    pane = wrap(model)
    before = np.asarray(pane.trace(x).logits())
    for weight in model.get_layer("mine").weights:
        weight.assign(weight * 1.5 + 0.25)
    trace = pane.trace(x)
    np.testing.assert_allclose(trace.logits(), model(x), rtol=1e-5, atol=1e-5)
    assert not np.allclose(trace.logits(), before)
    assert_like_dense(trace, "input", "logits")


def test_a_trace_of_a_block_keeps_the_weights_it_was_made_with():
    pane_keras.register(Gain)(pieces.graph)
    model, x = model_of(Gain(name="mine")), draw(2, 4)
    trace = wrap(model).trace(x)
    before = np.array(trace.saliency(1).sum)
    model.get_layer("mine").log_gain.assign([5, 5, 5, 5])
    np.testing.assert_array_equal(trace.saliency(1).sum, before)


def test_a_number_that_changes_between_traces():
    pane_keras.register(Times)(pieces.graph)
    model, x = model_of(Times(2.0, name="times")), draw(2, 4)
    pane = wrap(model)
    pane.trace(x)
    model.get_layer("times").factor = 3.0
    np.testing.assert_allclose(pane.trace(x).logits(), model(x), rtol=1e-5, atol=1e-6)


def test_a_number_in_a_function_that_changes_between_traces():
    """A Lambda is a layer of Keras, but its function is the user's, and so is an activation."""
    factor = [1.0]
    cell = layers.SimpleRNN(3, activation=lambda x: x * factor[0], name="steps")
    for layer, shape in ((layers.Lambda(lambda x: x * factor[0], name="times"), (4,)), (cell, (2, 4))):
        model, x = filled(start := keras.Input(shape), layers.Dense(2, name="out")(layer(start))), draw(2, *shape)
        pane = wrap(model)
        for value in (1.0, 3.0):
            factor[0] = value
            np.testing.assert_allclose(pane.trace(x).logits(), model(x), rtol=1e-5, atol=1e-6)


def test_a_rule_that_changes_between_traces():
    model, x = model_of(Times(2.0, name="times")), draw(2, 4)
    pane_keras.register(Times)(pieces.graph)
    first = wrap(model).trace(x).saliency(1).sum
    pane_keras.register(Times)(lambda layer, inputs: pieces.graph(layer, function=lambda t: t * layer.factor / 2))
    np.testing.assert_allclose(wrap(model).trace(x).saliency(1).sum, first / 2, rtol=1e-5)


def test_a_function_that_holds_something_of_the_input():
    """Each call of a shared layer has what its own input gives."""

    @pane_keras.register(Peak)
    def excite(layer, inputs):
        peak = ops.max(ops.abs(inputs), axis=-1, keepdims=True)
        return pieces.graph(layer, function=lambda x: x / peak)

    shared = Peak(name="peak")
    model = model_of(shared, layers.Dense(4, name="fc"), shared)
    pane = wrap(model)
    for seed in (0, 1):
        x = draw(2, 4, seed=seed) + 1
        np.testing.assert_allclose(pane.trace(x).logits(), model(x), rtol=1e-5, atol=1e-6)


# Refusals


class Odd(layers.Layer):
    def call(self, x):
        return x * x


class Louder(Block):
    def call(self, x, training=None):
        return 2 * super().call(x)


class Renamed(Block):
    """Nothing of what it computes is changed."""


class Branching(layers.Layer):
    def call(self, x):
        return x if ops.max(x) > 0 else -x


def test_an_unregistered_layer_is_refused():
    remedy = r"'odd' of class Odd has no .*@pane_keras\.register\(Odd\).*register\(Odd\)\(pane_keras\.pieces\.graph\)"
    with pytest.raises(UnsupportedLayerError, match=remedy):
        wrap(model_of(Odd(name="odd")))


def test_a_subclass_of_a_block_that_overrides_call_is_refused():
    pane_keras.register(Block)(pieces.graph)
    with pytest.raises(UnsupportedLayerError, match=r"'loud' .* redefines call of Block,.*register\(Louder\)"):
        wrap(model_of(Louder(name="loud")))


def test_a_subclass_of_a_block_inside_a_block_is_refused():
    class Holder(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inside = Louder(name="loud")

        def call(self, x):
            return self.inside(x)

    pane_keras.register(Block, Holder)(pieces.graph)
    with pytest.raises(UnsupportedLayerError, match=r"'holder/loud' .* redefines call of Block"):
        wrap(model_of(Holder(name="holder"))).trace(draw(2, 4))


def test_the_remedy_for_a_subclass_works():
    pane_keras.register(Block, Louder)(pieces.graph)
    assert_like_dense(traced(model_of(Louder(name="loud")), draw(2, 4)), "input", "logits")


def test_a_harmless_subclass_of_a_block_keeps_its_rule():
    pane_keras.register(Block)(pieces.graph)
    assert_like_dense(traced(model_of(Renamed(name="mine")), draw(2, 4)), "input", "logits")


def test_a_block_that_branches_on_values_is_refused():
    pane_keras.register(Branching)(pieces.graph)
    x = keras.Input((4,))
    layer = Branching(name="branch")
    layer.compute_output_spec = lambda x, **_: keras.KerasTensor(x.shape, dtype=x.dtype)
    model = filled(x, layers.Dense(2, name="out")(layer(x)))
    with pytest.raises(
        UnsupportedLayerError, match=r"'branch' cannot be read as a graph .* without branches on values"
    ):
        wrap(model).trace(draw(2, 4))


def test_a_layer_inside_that_trains_is_refused():
    pane_keras.register(Noisy)(pieces.graph)
    with pytest.raises(UnsupportedLayerError, match=r"'noisy/drop' is called with training=True"):
        wrap(model_of(Noisy(name="noisy"))).trace(draw(2, 4))


class Noisy(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = layers.Dropout(0.5, name="drop")

    def call(self, x):
        return self.drop(x, training=True)
