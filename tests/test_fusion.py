"""Scales of channels that are moved into the kernel below them: the maps do not change, and `expression` shows both."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from keras import layers

import pane_keras
from pane_keras import fusion
from pane_keras.pieces import affine, linear
from pane_keras.registry import register
from pane_keras.testing import channels, dense_network

TOLERANCE = 1e-5
SIDE, CHANNELS = 4, 2

KERNELS = {
    "convolution": lambda **how: layers.Conv2D(4, 2, padding="same", **how),
    "strided": lambda **how: layers.Conv2D(3, 3, strides=2, padding="same", **how),
    "dilated": lambda **how: layers.Conv2D(4, 2, dilation_rate=2, padding="same", **how),
    "grouped": lambda **how: layers.Conv2D(4, 1, groups=2, **how),
    "depthwise": lambda **how: layers.DepthwiseConv2D(2, depth_multiplier=2, padding="same", **how),
    "separable": lambda **how: layers.SeparableConv2D(4, 2, padding="same", **how),
    "dense": lambda **how: layers.Dense(4, **how),
}
ACTIVATIONS = {
    "none": lambda y: y,
    "relu": lambda y: layers.ReLU()(y),
    "relu6": lambda y: layers.ReLU(6.0)(y),
    "swish": lambda y: layers.Activation("silu")(y),
}
SIGNS = ("any", "negative", "zero", "some zero")


def normalized(y, gammas, rng, **how):
    """A normalization after y whose scales have these signs."""
    layer = layers.BatchNormalization(epsilon=1e-3, **how)
    y = layer(y)
    if layer.scale:
        value = rng.integers(1, 4, layer.gamma.shape) / 2 * rng.choice([-1, 1], layer.gamma.shape)
        value = {"negative": -np.abs(value), "zero": 0 * value}.get(gammas, value)
        layer.gamma.assign(np.where(np.arange(len(value)) % 2, value, 0) if gammas == "some zero" else value)
    return y


def stack(blocks, seed, dyadic):
    """A model of blocks (kernel, bias, sign of the scales, activation), and its input.

    With `dyadic` weights, multiples of 1/2, outputs of a convolution are often exactly zero though their terms are not.
    """
    keras.backend.clear_session()
    rng = np.random.default_rng(seed)
    x = y = keras.Input((SIDE, SIDE, CHANNELS))
    for kernel, bias, gammas, activation in blocks:
        y = normalized(KERNELS[kernel](use_bias=bias)(y), gammas, rng, scale=gammas != "none")
        y = ACTIVATIONS[activation](y)
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))
    for variable in model.weights:
        if "gamma" not in variable.path:
            spread = 1 / np.sqrt(np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.4
            value = rng.integers(-2, 3, variable.shape) / 2 if dyadic else rng.normal(0, spread, variable.shape)
            variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
    values = rng.integers(-2, 3, (2, SIDE, SIDE, CHANNELS)) / 2
    return model, (values if dyadic else draw(2, SIDE, SIDE, CHANNELS, seed=seed)).astype("float32")


def set_weights(model, *values):
    model.set_weights([np.array(value, "float64") for value in values])


def moving(patch, always):
    """Moves scales wherever it can be done, however large the kernel; or nowhere."""
    able = lambda k, f: getattr(f, "by_channel", None) is not None and getattr(k, "rescale", None) is not None  # noqa: E731
    patch.setattr(fusion, "_takes_over", able if always else lambda kernel, factor: False)


def moved(pair):
    """How many scales the chains of a pair have in their kernels."""
    return sum(
        a is not b and getattr(a, "by_channel", None) is not None
        for chain in pair.composition().chains
        for a, b in zip(chain.operands, chain.swept(False))
    )


def swept(model, x, ends, always=None):
    """(S, D) pulled from all units of the target and pushed from all of the source, and the number of moved scales."""
    with pytest.MonkeyPatch.context() as patch:
        if always is not None:
            moving(patch, always)
        pair = pane_keras.wrap(model).trace(x).between(*ends)
        pulled = channels(pair.map(list(np.ndindex(*pair.target_shape))))
        pushed = channels(pair.effect(list(np.ndindex(*pair.source_shape))))
        count = moved(pair)
    pulled = [t.reshape(*t.shape[:2], -1) for t in pulled]
    return pulled, [np.swapaxes(t.reshape(*t.shape[:2], -1), 1, 2) for t in pushed], count


def assert_fusion_changes_nothing(model, x, ends=("input", "logits")):
    """Returns how many scales were moved."""
    trace = pane_keras.wrap(model).trace(x)
    network, slots = dense_network(trace), (trace._source(ends[0]), trace._target(ends[1]))
    p, n = network.between(*slots)
    size = network.magnitude(*slots).max(axis=-1, keepdims=True)
    *with_moved, count = swept(model, x, ends, True)
    *without, none = swept(model, x, ends, False)
    assert none == 0
    for found in (*with_moved, *without):
        for name, mine, twin in zip("SD", found, (p + n, p - n)):
            error = np.abs(mine - twin)
            assert (error <= TOLERANCE * size).all(), f"{name} is off by {(error / np.maximum(size, 1e-30)).max():.1e}"
    return count


BLOCKS = st.lists(
    st.tuples(st.sampled_from(list(KERNELS)), st.booleans(), st.sampled_from([*SIGNS, "none"]),
              st.sampled_from(list(ACTIVATIONS))),
    min_size=1, max_size=3,
)  # fmt: skip


# No shrinking: an example takes two seconds, and prints as a short list of blocks as it is.
@settings(deadline=None, derandomize=True, database=None, max_examples=25, suppress_health_check=list(HealthCheck),
          phases=[Phase.generate])  # fmt: skip
@given(blocks=BLOCKS, seed=st.integers(0, 99), dyadic=st.booleans())
def test_generated_stacks(blocks, seed, dyadic):
    assert assert_fusion_changes_nothing(*stack(blocks, seed, dyadic)) == len(blocks)


@pytest.mark.parametrize("gammas", SIGNS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_takes_every_sign_over(kernel, gammas):
    """With exact zeros in what the kernel emits, where E+ and E- take half of the coefficient each."""
    model, x = stack([(kernel, gammas == "any", gammas, "relu6")], 6, True)
    ends = ("input", model.layers[2].name)
    zeros = np.asarray(pane_keras.wrap(model).trace(x)[model.layers[1].name].output) == 0
    assert zeros.any()
    assert assert_fusion_changes_nothing(model, x, ends) == 1
    assert assert_fusion_changes_nothing(model, x) == 1


def test_a_zero_of_the_convolution_excites_nothing_above_it():
    """o' = 0 without a bias: the normalization's input is zero, so nothing below excites it."""
    x = keras.Input((2, 1, 2))
    y = layers.BatchNormalization(name="norm", epsilon=0)(layers.Dense(2, use_bias=False)(x))
    model = keras.Model(x, layers.Dense(1)(layers.Flatten()(y)))
    set_weights(model, [[1, 2], [-1, 1]], [-3, 0.5], [1, 1], [0, 0], [1, 4], np.ones((4, 1)), [0])
    sample = np.array([[[[2, 2]], [[1, 0]]]], "float32")
    (s, d), *_ = swept(model, sample, ("input", "norm"), True)
    # Rows are units (place, channel); o' of the first place is (0, 6), of the second (1, 2).
    expected_s = [[0, 0, 0, 0], [0.5, 0.25, 0, 0], [0, 0, -3, 0], [0, 0, 0.5, 0]]
    expected_d = [[0, 0, 0, 0], [0.5, 0.25, 0, 0], [0, 0, -3, 0], [0, 0, 0.5, 0]]
    np.testing.assert_allclose(s[0], expected_s, atol=1e-7)
    np.testing.assert_allclose(d[0], expected_d, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_unit_by_hand(dtype):
    """o' = 3 - 2, scale -2: S = (-6, 4) and D = -2 sign(o') |w| = (-6, -4), so P = (-6, 0) and N = (0, 4)."""
    x = keras.Input((1, 1, 2), dtype=dtype)
    y = layers.Dense(1, use_bias=False, dtype=dtype)(x)
    y = layers.BatchNormalization(epsilon=0, name="norm", dtype=dtype)(y)
    model = keras.Model(x, layers.Dense(1, dtype=dtype)(layers.Flatten(dtype=dtype)(y)))
    set_weights(model, [[3], [-2]], [-2], [5], [7], [1], [[1]], [0])
    sample = np.ones((1, 1, 1, 2), dtype)
    with pytest.MonkeyPatch.context() as patch:
        moving(patch, True)
        pair = pane_keras.wrap(model).trace(sample).between("input", "norm")
        maps = pair.map((0, 0, 0))
        assert moved(pair) == 1
    assert maps.sum.dtype == dtype
    np.testing.assert_allclose(np.ravel(maps.positive), [-6, 0], rtol=1e-6)
    np.testing.assert_allclose(np.ravel(maps.negative), [0, 4], rtol=1e-6)


@pytest.mark.parametrize("cut", ["kernel", "norm", "above"])
def test_a_cut_at_the_normalization_or_around_it(cut):
    """Above a cut both channels carry S: also where the kernel lies above and where only the scale does."""
    x = keras.Input((3, 3, 2))
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(3, 2, name="kernel")(x))
    y = layers.Conv2D(2, 1, name="above")(layers.ReLU()(y))
    model, sample = filled(x, layers.Dense(2)(layers.Flatten()(y))), draw(2, 3, 3, 2)
    found = []
    for always in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            moving(patch, always)
            pair = pane_keras.wrap(model).trace(sample).between("input", "logits")
            found += [channels(pair.map([0, 1], split_below=cut)), channels(pair.effect((1, 1, 0), split_below=cut))]
    for mine, plain in zip(found[:2], found[2:]):
        for a, b in zip(mine, plain):
            assert np.abs(a - b).max() <= TOLERANCE * np.abs(plain[1]).max()
        assert np.abs(mine[0] - mine[1]).max() > 0.01 * np.abs(mine[1]).max()


# --- where it is done ---------------------------------------------------------------------------------------------


def count_of(layer, shape, batch=1, norm=None):
    x = keras.Input(shape)
    y = (norm or layers.BatchNormalization())(layer(x))
    trace = pane_keras.wrap(filled(x, layers.Dense(1)(layers.Flatten()(y)))).trace(draw(batch, *shape))
    pair = trace.between("input", "logits")
    pair.map(0)
    return moved(pair)


@pytest.mark.parametrize(("side", "batch", "count"), [(4, 1, 0), (5, 1, 0), (6, 1, 1), (3, 2, 0), (4, 2, 1), (3, 3, 0),
                                                       (3, 4, 1)])  # fmt: skip
def test_it_is_done_where_the_kernel_is_smaller_than_the_rows(side, batch, count):
    """2 passes over the rows, side^2 x 3 a sample, against 3 over a kernel of 3 x 2 x 3 x 1 entries."""
    assert (2 * batch * side**2 * 1 > 3 * 18) == bool(count)
    assert count_of(layers.Conv2D(1, 3, padding="same"), (side, side, 2), batch) == count


@pytest.mark.parametrize(
    ("norm", "count"),
    [
        (lambda: layers.BatchNormalization(), 1),
        (lambda: layers.BatchNormalization(scale=False, center=False), 1),
        (lambda: layers.Rescaling(scale=[2.0, -1.0, 0.5, 3.0]), 1),
        (lambda: layers.Rescaling(scale=2.0), 0),
        (lambda: layers.BatchNormalization(axis=1), 0),
        (lambda: layers.LayerNormalization(), 0),
        (lambda: layers.GroupNormalization(2), 0),
        (lambda: layers.ReLU(), 0),
        (lambda: layers.PReLU(), 0),
    ],
)
def test_only_one_number_for_each_channel_is_moved(norm, count):
    """Not a scale of the sample's own, of another axis, or of each place."""
    assert count_of(layers.Conv2D(4, 2, padding="same"), (8, 8, 2), 2, norm()) == count


@pytest.mark.parametrize("layer", [layers.Conv2DTranspose(2, 2), layers.EinsumDense("abcd,de->abce", (8, 8, 2))])
def test_kernels_that_say_no_rescaling_keep_theirs(layer):
    assert count_of(layer, (8, 8, 2)) == 0


@pytest.mark.parametrize("norm", [lambda: layers.GroupNormalization(1), lambda: layers.LayerNormalization((1, 2))])
def test_a_sample_by_itself_has_one_scale_a_channel(norm):
    """With one sample its own statistics over all places are one number a channel, and can be moved."""
    x = keras.Input((4, 4, 2))
    y = norm()(layers.Conv2D(3, 2, padding="same")(x))
    model = filled(x, layers.Dense(2)(layers.Flatten()(y)))
    for batch in (1, 3):
        assert assert_fusion_changes_nothing(model, draw(batch, 4, 4, 2)) <= (batch == 1)


def test_between_kernel_and_scale_nothing_may_lie():
    x = keras.Input((8, 8, 2))
    y = layers.BatchNormalization()(layers.ReLU()(layers.Conv2D(3, 2)(x)))
    model, sample = filled(x, layers.Dense(2)(layers.Flatten()(y))), draw(2, 8, 8, 2)
    assert swept(model, sample, ("input", "logits"))[2] == 0


def test_a_kernel_that_two_layers_read_keeps_its_own():
    """The output of the convolution is a junction: it leaves by two chains, so its normalization is not next to it."""
    x = keras.Input((5, 5, 2))
    y = layers.Conv2D(3, 2, name="kernel")(x)
    y = layers.Add()([layers.BatchNormalization()(y), y])
    model, sample = filled(x, layers.Dense(2)(layers.Flatten()(y))), draw(2, 5, 5, 2)
    assert assert_fusion_changes_nothing(model, sample) == 0


def test_two_normalizations_in_a_row():
    """The first one's scale is moved; the kernel takes no second."""
    x = keras.Input((5, 5, 2))
    y = layers.BatchNormalization()(layers.BatchNormalization()(layers.Conv2D(3, 2)(x)))
    model, sample = filled(x, layers.Dense(2)(layers.Flatten()(y))), draw(2, 5, 5, 2)
    assert assert_fusion_changes_nothing(model, sample) == 1


@pytest.mark.parametrize("axis", [1, -1])
def test_channels_first(axis):
    """A CPU has no convolution of this layout: a Permute leads to it, and the axis of the channels is not the last."""
    x = keras.Input((4, 3, 2))
    y = layers.Permute((3, 1, 2))(layers.Conv2D(2, 2, padding="same")(x))
    y = layers.Dense(3)(layers.BatchNormalization(axis=axis)(layers.Dense(3)(y)))
    model, sample = filled(x, layers.Dense(2)(layers.Flatten()(y))), draw(2, 4, 3, 2)
    assert assert_fusion_changes_nothing(model, sample) == (axis == -1)


def test_a_layer_of_this_layout_states_no_rescaling():
    layer = layers.Conv2D(3, 2, data_format="channels_first")
    from pane_keras.rules.convolution import _rescale

    assert _rescale(layer, np.multiply) is None


def test_a_rule_of_ones_own(own_registry):
    class Mixed(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3))

        def call(self, x):
            return x @ self.kernel

    class Scaled(layers.Layer):
        def call(self, x):
            return x * np.array([2.0, -1, 0], "float32")

    register(Mixed)(lambda layer, inputs: linear(lambda x, k: x @ k, layer.kernel.value, rescale=np.multiply))
    register(Scaled)(lambda layer, inputs: affine(keras.ops.array([2.0, -1, 0]), None))
    x = keras.Input((4, 2))
    model = filled(x, layers.Dense(2)(layers.Flatten()(Scaled()(Mixed()(x)))))
    assert assert_fusion_changes_nothing(model, draw(2, 4, 2)) == 1


# --- what is shown ------------------------------------------------------------------------------------------------


def test_the_expression_shows_the_normalization_and_the_plain_kernel():
    """Readable as the layers are, before and after a query has moved the scale."""
    x = keras.Input((8, 8, 2))
    y = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(layers.Conv2D(2, 2, name="conv")(x)))
    model = filled(x, layers.Dense(2, name="scores")(layers.GlobalAveragePooling2D()(y)))
    pair = pane_keras.wrap(model).trace(draw(1, 8, 8, 2)).between("input", "logits")
    before, evaluated = str(pair.expression()), channels(pair.map([0, 1]))
    assert moved(pair) == 1
    for text in (before, str(pair.expression()), pair.expression()._repr_html_()):
        assert all(word in text for word in ("conv", "norm", "normalization", "coefficient"))
    assert str(pair.expression()) == before
    names = [operand.name for operand in pair.expression().chains[0].operands]
    assert names[:3] == ["conv", "norm", "relu"]
    kernel = pair.composition().chains[0].operands[0].kernel
    np.testing.assert_array_equal(kernel, model.get_layer("conv").kernel)
    for channel, expected in zip(("sum", "difference"), evaluated):
        plain = np.asarray(pair.expression().to_dense_network(channel).contract())
        assert np.abs(plain.reshape(expected.shape) - expected).max() <= TOLERANCE * np.abs(evaluated[1]).max()


# --- the range of float32 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [80, -80])
def test_a_scale_and_a_kernel_whose_product_is_beyond_float32(power):
    """Kernel and scale 2^80 on inputs of 2^-100: the forward pass is finite, and the coefficients are 2^160."""
    x = keras.Input((6, 6, 1))
    y = layers.BatchNormalization(name="norm", epsilon=0)(layers.Conv2D(1, 2, use_bias=False)(x))
    model = keras.Model(x, layers.Dense(1)(layers.Flatten()(y)))
    size = 2.0**power
    set_weights(model, np.full((2, 2, 1, 1), size), [size], [0], [0], [1], np.ones((25, 1)), [0])
    sample = np.full((1, 6, 6, 1), 2.0 ** (-100 * np.sign(power)), "float32")
    pair = pane_keras.wrap(model).trace(sample).between("input", "norm")
    s, _ = channels(pair.map((0, 0, 0)))
    assert moved(pair) == 1
    np.testing.assert_array_equal(s[0, :2, :2, 0], np.full((2, 2), 4.0**power))
