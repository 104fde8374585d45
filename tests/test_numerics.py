"""Section 4: what passes the range or the precision of float32, and the exponents that carry it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import pane_keras
from pane_keras import backend, scaled
from pane_keras.block import closing
from pane_keras.scaled import ZERO_EXPONENT, Scaled
from pane_keras.testing import channels, dense_network, true_values

# --- the arithmetic of scaled rows --------------------------------------------------------------------------------

RANGE = {"float32": (-126, 127), "float64": (-1022, 1023)}
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def rows(values, base=None, growth=126, dtype="float32"):
    """Returns one row for each entry of `values`, lists of numbers."""
    base = None if base is None else ops.convert_to_tensor(np.array(base, "int32"))
    return Scaled(ops.convert_to_tensor(np.array(values, dtype)), len(values), base, growth=growth)


def fractions(t):
    """Returns the exact values of rows as lists of (integer, power of two), Python ints of any size."""
    out = []
    for row, e in zip(np.asarray(t.mantissa, "float64"), np.asarray(t.exponent)):
        pairs = [value.as_integer_ratio() for value in map(float, row)]
        out.append([(n, int(e) - (d.bit_length() - 1)) if n else (0, 0) for n, d in pairs])
    return out


def same(a, b):
    """Whether two lists of (integer, power) are equal as numbers."""
    return all(
        n * 2 ** (p - min(p, q)) == m * 2 ** (q - min(p, q)) for r, s in zip(a, b) for (n, p), (m, q) in zip(r, s)
    )


@DTYPES
def test_power_of_two_is_exact_over_the_whole_range(dtype):
    low, high = RANGE[dtype]
    exponents = np.arange(low, high + 1, dtype="int32")
    powers = np.asarray(backend.power_of_two(ops.convert_to_tensor(exponents), dtype))
    assert powers.dtype == dtype
    assert np.array_equal(powers, np.ldexp(np.ones((), dtype), exponents))
    below = np.asarray(
        backend.power_of_two(ops.convert_to_tensor(np.array([low - 1, -5000, ZERO_EXPONENT], "int32")), dtype)
    )
    assert not below.any()


@DTYPES
def test_binade_is_the_power_of_two_at_or_below(dtype):
    low, high = RANGE[dtype]
    tiny, largest = np.finfo(dtype).tiny, np.finfo(dtype).max
    values = np.array([tiny, 0.5, np.nextafter(1, 0, dtype=dtype), 1, 1.5, 2, 2.0 ** (high - 2), 3], dtype)
    found = np.asarray(backend.binade(ops.convert_to_tensor(values)))
    assert np.array_equal(found, 2.0 ** np.floor(np.log2(values.astype("longdouble"))).astype(dtype))
    # Zero has none, and the largest numbers get one whose inverse is a normal number.
    ends = np.asarray(backend.binade(ops.convert_to_tensor(np.array([0, largest], dtype))))
    assert ends[0] == 0
    assert 1 / ends[1] >= tiny
    logarithms = np.asarray(backend.log2(ops.convert_to_tensor(np.array([tiny, 1, 8], dtype))))
    assert logarithms.tolist() == [low, 0, 3]
    assert np.asarray(backend.log2(ops.convert_to_tensor(np.zeros(1, dtype))))[0] < ZERO_EXPONENT


@DTYPES
@pytest.mark.parametrize("base", [0, -3000, 3000])
def test_normalizing_loses_no_bit(dtype, base):
    low, high = RANGE[dtype]
    rng = np.random.default_rng(0)
    # Rows of one binade each, over the whole range; entries down to 2**-20 of the largest.
    sizes = [low + 24, -60, -1, 0, 1, 60, high - 1, high]
    values = [np.ldexp(rng.uniform(1, 2, 6), size - np.array([0, 1, 2, 5, 10, 20])) for size in sizes]
    before = rows(values, [base] * len(sizes), dtype=dtype)
    after = scaled.normalized(before)
    peak = np.abs(np.asarray(after.mantissa)).max(axis=1)
    assert ((peak >= 1) & (peak < 4)).all()
    assert same(fractions(before), fractions(after))


def test_normalizing_again_changes_nothing():
    once = scaled.normalized(rows([[3.0, 0.1], [0.0, 0.0]]))
    assert scaled.normalized(once) is once


def test_rows_have_exponents_of_their_own():
    after = scaled.normalized(rows([[1e30, 1e20], [1e-30, 0], [0, 0]]))
    assert np.asarray(after.exponent).tolist() == [99, -100, ZERO_EXPONENT]


@DTYPES
@pytest.mark.parametrize("gap", [0, 1, 20, 3000, -3000])
def test_add_aligns_exponents(dtype, gap):
    a, b = rows([[1.0, -2.0]], [gap], dtype=dtype), rows([[0.5, 0.25]], [0], dtype=dtype)
    total = fractions(scaled.add([a, b]))
    if abs(gap) <= 20:
        expected = [[2.0**gap + 0.5, -(2.0 ** (gap + 1)) + 0.25]]
        assert same(total, [[(lambda f: (f[0], 1 - f[1].bit_length()))(v.as_integer_ratio()) for v in expected[0]]])
    else:  # the smaller one is beyond the precision of the larger one
        assert same(total, fractions(a if gap > 0 else b))


@DTYPES
def test_add_of_small_mantissas(dtype):
    """What has not been normalised may be small: it is aligned by its true size."""
    low, _ = RANGE[dtype]
    a, b = rows([[2.0 ** (low + 30)]], [10], dtype=dtype), rows([[1.0]], [low + 40], dtype=dtype)
    assert same(fractions(scaled.add([a, b])), [[(2, low + 40)]])


def test_a_zero_row_flushes_no_sibling():
    zero, small = rows([[0.0, 0.0]], [5000], growth=0), rows([[1.0, 3.0]], [-5000])
    for terms in ([zero, small], [small, zero], [scaled.normalized(zero), scaled.normalized(small)]):
        terms = [scaled.normalized(Scaled(t.mantissa, t.rows, t.base, t.powers, growth=126)) for t in terms]
        assert same(fractions(scaled.add(terms)), fractions(small))
    assert np.asarray(scaled.normalized(rows([[0.0]], [5000])).exponent).tolist() == [ZERO_EXPONENT]


def halves(s, d):
    p, n, scale = scaled.half_sum_and_difference(s, d)
    return backend.sum_of_rows(p), backend.sum_of_rows(n), scale


def test_positive_and_negative_share_a_scale():
    s, d = rows([[1.0, -1.0]], [0]), rows([[4.0, 2.0]], [300])
    p, n, scale = halves(s, d)
    assert np.asarray(scale).tolist() == [302]
    assert same(fractions(Scaled(p, 1, scale)), fractions(rows([[2.0, 1.0]], [300])))
    assert same(fractions(Scaled(n, 1, scale)), fractions(rows([[-2.0, -1.0]], [300])))


@pytest.mark.parametrize("exponent", [-90, 0, 123])
def test_positive_and_negative_that_fit_have_scale_zero(exponent):
    s, d = rows([[1.0, -1.0, 0.0]], [exponent]), rows([[3.0, 1.0, 0.0]], [exponent])
    p, n, scale = halves(s, d)
    assert np.asarray(scale).tolist() == [0]
    assert np.asarray(p).tolist() == [[2.0 ** (exponent + 1), 0.0, 0.0]]
    assert np.asarray(n).tolist() == [[-(2.0**exponent), -(2.0**exponent), 0.0]]


def test_positive_and_negative_of_nothing_are_zero():
    p, n, scale = halves(rows([[0.0, 0.0]], [700]), rows([[0.0, 0.0]], [-700]))
    assert np.asarray(scale).tolist() == [0]
    assert not np.asarray(p).any()
    assert not np.asarray(n).any()


@pytest.mark.parametrize("value", [1.0, 3.5e-20, 2.0**-90, 1e30, 2.0**125, -1e-5])
def test_what_fits_has_scale_zero(value):
    terms, scale = scaled.unscaled(rows([[value, 0.0]]))
    assert np.asarray(scale).tolist() == [0]
    assert np.asarray(backend.sum_of_rows(terms)).tolist() == [[np.float32(value), 0.0]]


@pytest.mark.parametrize("exponent", [400, -400, 5000, -5000])
def test_what_does_not_fit_has_its_own_scale(exponent):
    terms, scale = scaled.unscaled(rows([[1.5, -0.25]], [exponent]))
    values = backend.sum_of_rows(terms)
    assert np.isfinite(np.asarray(values)).all()
    assert same(fractions(Scaled(values, 1, scale)), fractions(rows([[1.5, -0.25]], [exponent])))


# --- maps beyond float32 ------------------------------------------------------------------------------------------


def hadamard(order):
    matrix = np.ones((1, 1))
    for _ in range(order):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def linear_chain(kernels):
    """Returns a model of Dense layers without biases."""
    widths = [layers.Dense(kernel.shape[1], use_bias=False) for kernel in kernels]
    model = keras.Sequential([keras.Input((kernels[0].shape[0],)), *widths])
    model.set_weights(kernels)
    return model


def test_exact_value_far_beyond_float64():
    """400 layers H / 8 with H H = 64: S is the identity, D = 8^400 / 64 sign(o) sign(x), which is 2^1194."""
    kernel, depth = hadamard(6) / 8, 400
    x = np.random.default_rng(0).normal(size=(2, 64)).astype("float32")
    trace = pane_keras.wrap(linear_chain([kernel] * depth)).trace(x)
    maps = trace.saliency(3)
    signs = np.sign(x) * np.sign(np.asarray(trace.logits())[:, 3:4])
    assert np.asarray(maps.sum_log2_scale).tolist() == [0, 0]
    np.testing.assert_array_equal(maps.sum, np.tile(np.eye(64)[3], (2, 1)))
    for part, sign in ((maps.positive, 1), (maps.negative, -1)):
        mantissa, exponent = np.frexp(np.asarray(part, "float64"))
        assert np.array_equal(mantissa, 0.5 * sign * signs)
        assert np.array_equal(exponent + np.asarray(maps.log2_scale)[:, None], np.full((2, 64), 1194))


@pytest.mark.parametrize(("size", "signal"), [(2.0**40, 2.0**-100), (2.0**-40, 2.0**100)])
def test_maps_over_and_under_float32_against_the_twin(size, signal):
    """Five layers of weights times 2^40 on inputs of 2^-100: S and D are 2^200, the forward pass is finite."""
    rng = np.random.default_rng(1)
    kernels = [rng.integers(-3, 4, (6, 6)) * size for _ in range(5)]
    x = (rng.integers(-3, 4, (2, 6)) * signal).astype("float32")
    trace = pane_keras.wrap(linear_chain(kernels)).trace(x)
    maps = trace.saliency(2)
    p, n = (t[:, 2] for t in dense_network(trace).between(trace._source("input"), trace._target("logits")))
    for part in (maps.positive, maps.negative, maps.sum):
        assert np.isfinite(np.asarray(part)).all()
        assert np.asarray(part).any()
    for scale in (maps.log2_scale, maps.sum_log2_scale):
        assert (np.asarray(scale) != 0).all()
    for mine, twin in zip(channels(maps), (p + n, p - n)):
        np.testing.assert_allclose(mine, twin, rtol=0, atol=1e-5 * np.abs(twin).max())


def test_units_of_very_different_size_keep_their_own_scale():
    """Each row has its exponent: a unit that only tiny weights reach is as exact as one that large weights reach."""
    kernel = np.diag([1.0, 2.0**-30, 2.0**-60])
    # Signals that the forward pass itself would flush to zero are zero excitations, so the last one starts large.
    signals = np.array([[1.0, 1.0, 2.0**120]], "float32")
    maps = pane_keras.wrap(linear_chain([kernel] * 4)).trace(signals).between("input", "logits").map(target=[0, 1, 2])
    s, d = channels(maps)
    expected = np.diag([1.0, 2.0**-120, 2.0**-240])[None]
    np.testing.assert_array_equal(s, expected)
    np.testing.assert_array_equal(d, expected)


@pytest.mark.parametrize("outputs", [2, 3])
def test_dense_rows_keep_their_own_scale(outputs):
    """Pulled (2 outputs) or pushed (3 outputs), a dense row of tiny coefficients is not flushed beside a large one."""
    kernel = np.zeros((2, outputs))
    kernel[0, 0], kernel[1, 1] = 1e30, 1e-30
    model = linear_chain([kernel])
    trace = pane_keras.wrap(model).trace(np.ones((1, 2), "float32"))
    s, _ = channels(trace.between("input", "logits").dense())
    np.testing.assert_allclose(s[0], kernel.T, rtol=1e-6)


def test_views_of_small_coefficients_have_their_true_size():
    """A view has no scale beside it, so its numbers are the coefficients themselves."""
    _, positive, _ = pane_keras.ExcitationLayer(layers.Rescaling(2.0**-110)).excite(np.ones((1, 2), "float32"))
    np.testing.assert_array_equal(np.asarray(positive)[0], np.diag([2.0**-110] * 2))


def test_large_gates_do_not_overflow():
    """A gate's coefficients come from the data, not from weights: here each is 2^30 / 2, eight times over."""
    x = keras.Input((2,))
    y = layers.Rescaling(2.0**-120)(x)
    gate = layers.Rescaling(0.0, offset=2.0**30)(x)
    for _ in range(8):
        y = layers.Multiply()([y, gate])
    trace = pane_keras.wrap(keras.Model(x, y)).trace(np.ones((1, 2), "float32"))
    # From the first product on, without the 2^-120 before it: (2^30 / 2)^7.
    first = next(name for name in trace if name.startswith("multiply"))
    s, d = channels(trace.between(first, "logits").map(target=(1,)))
    np.testing.assert_array_equal(s, [[0, 2.0**203]])
    np.testing.assert_array_equal(d, [[0, 2.0**203]])


def test_a_dead_branch_flushes_no_sibling():
    """Add of 2^-200 x and of a branch that is huge and then zero: the small one is the whole map."""
    x = keras.Input((3,))
    small, dead = x, layers.Dense(3, use_bias=False, kernel_initializer="zeros")(x)
    for _ in range(4):
        small = layers.Rescaling(2.0**-25)(small)
        dead = layers.Rescaling(2.0**25)(dead)
    model = keras.Model(x, layers.Add()([small, dead]))
    trace = pane_keras.wrap(model).trace(np.array([[1, -2, 3]], "float32"))
    for maps in (trace.saliency(1), trace.between("input", "logits").effect(source=(1,))):
        for channel in channels(maps):
            np.testing.assert_array_equal(channel, [[0, 2.0**-100, 0]])


def test_float64_models_keep_their_precision():
    x = keras.Input((4,), dtype="float64")
    y = layers.Dense(5, activation="tanh", dtype="float64")(x)
    y = layers.Add(dtype="float64")([layers.Dense(4, dtype="float64")(y), layers.Dense(4, dtype="float64")(x)])
    model = keras.Model(x, y)
    trace = pane_keras.wrap(model).trace(np.random.default_rng(0).normal(size=(2, 4)))
    a, b = trace._source("input"), trace._target("logits")
    p, n = dense_network(trace).between(a, b)
    for size in (1.0, 1e-200, 1e200):
        maps = trace.between("input", "logits").map(weights=np.full(4, size))
        for mine, twin in zip(channels(maps), ((p + n).sum(axis=1), (p - n).sum(axis=1))):
            np.testing.assert_allclose(mine / size, twin, rtol=0, atol=1e-12 * np.abs(twin).max())
    assert trace.check().ok


# --- deep and large networks --------------------------------------------------------------------------------------


def input_gradient(model, x, classes):
    """Returns the gradient of each sample's logit of a class."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = tf.gather(model(x), classes, batch_dims=1)
    return np.asarray(tape.gradient(logits, x))


def assert_sum_is_gradient(maps, gradient, x):
    """For a ReLU network S is the input gradient wherever x is not 0, and 0 where it is (section 4)."""
    s = true_values(maps.sum, maps.sum_log2_scale)
    expected = gradient * (x != 0)
    for sample in range(len(x)):
        error = np.abs(s[sample] - expected[sample]).max()
        assert error <= 1e-5 * np.abs(expected[sample]).max(), f"sample {sample}: off by {error:.1e}"


def assert_finite(maps):
    for part in (maps.positive, maps.negative, maps.sum):
        assert np.isfinite(np.asarray(part)).all()
        assert np.asarray(part).any()


def picture(rng, shape):
    x = rng.normal(size=shape).astype("float32")
    x[:, 1] = 0
    return x


def test_150_layers():
    """He-initialised: the signal keeps its size, and D grows by about 2^2 a layer."""
    body = [layers.Conv2D(8, 3, padding="same", activation="relu", kernel_initializer="he_normal") for _ in range(150)]
    model = keras.Sequential([keras.Input((8, 8, 8)), *body, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    x = picture(rng, (2, 8, 8, 8))
    trace = pane_keras.wrap(model).trace(x)
    maps = trace.saliency()
    assert_finite(maps)
    assert (np.asarray(maps.log2_scale) > 127).all()
    assert_sum_is_gradient(maps, input_gradient(model, x, np.asarray(trace.logits()).argmax(axis=1)), x)
    report = trace.check()
    assert report.ok, str(report)
    # From the first layer to the last one, both ways.
    names = list(trace)
    pair = trace.between(names[0], names[149])
    rng = np.random.default_rng(1)
    u, v = rng.normal(size=(2, 8, 8, 8)).astype("float32"), rng.normal(size=(2, 8, 8, 8)).astype("float32")
    for pulled, pushed in zip(channels(pair.map(weights=u)), channels(pair.effect(weights=v))):
        left, right = pulled * v, pushed * u
        # Some fifty units in the last place for each of the 150 layers.
        assert abs(left.sum() - right.sum()) <= 1e-3 * min(np.abs(left).sum(), np.abs(right).sum())


def calibrate(model, x):
    """Sets the statistics of every BatchNormalization to those of a batch."""
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momentum = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(x, training=True)
    for layer, value in zip(norms, momentum):
        layer.momentum = value


def test_resnet50():
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10, classifier_activation=None)
    rng = np.random.default_rng(0)
    calibrate(model, rng.normal(size=(4, 64, 64, 3)).astype("float32"))
    x = picture(rng, (2, 64, 64, 3))
    trace = pane_keras.wrap(model).trace(x)
    maps = trace.saliency()
    assert_finite(maps)
    assert_sum_is_gradient(maps, input_gradient(model, x, np.asarray(trace.logits()).argmax(axis=1)), x)
    report = trace.check()
    assert report.ok, str(report)


def test_vgg16_at_full_size():
    """The softmax is left out: the sum is the gradient of the logit."""
    model = keras.applications.VGG16(weights=None)
    rng = np.random.default_rng(0)
    for variable in model.weights:  # the chain of |kernels| grows as with He weights, and biases are not zero
        spread = np.sqrt(2 / np.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 0.01
        variable.assign(tf.random.normal(variable.shape, stddev=spread))
    x = picture(rng, (1, 224, 224, 3))
    trace = pane_keras.wrap(model).trace(x)
    maps = trace.saliency(5)
    assert_finite(maps)
    model.layers[-1].activation = keras.activations.linear
    assert_sum_is_gradient(maps, input_gradient(model, x, [5]), x)
    report = trace.check()
    assert report.ok, str(report)


def test_a_row_that_was_found_to_be_zero_any_number_of_times():
    """Its logarithm is minus infinity in practice; many of them added up would pass the range of int32."""
    row = Scaled(ops.zeros((1, 2)), 1)
    for _ in range(100):
        row = scaled.normalized(row.grown(row.mantissa, 1))
    assert int(row.exponent[0]) == ZERO_EXPONENT


def test_maps_of_a_deep_network_at_a_black_picture():
    convolutions = [layers.Conv2D(2, 3, padding="same", activation="relu") for _ in range(100)]
    model = keras.Sequential([keras.Input((4, 4, 2)), *convolutions, layers.Flatten(), layers.Dense(2)])
    maps = pane_keras.wrap(model).trace(np.zeros((1, 4, 4, 2), "float32")).saliency(0)
    for part in (maps.positive, maps.negative, maps.sum, maps.log2_scale, maps.sum_log2_scale):
        assert not np.asarray(part).any()


def test_rows_of_one_unit_are_normalised_until_a_slope_changes_them():
    """A rectifier leaves the entry or takes it; behind any other activation rows are normalised again."""
    x = keras.Input((4,))
    tiny = layers.Activation("silu", name="tiny")(layers.Dense(4, name="below")(x))
    model = keras.Model(x, layers.ReLU(name="last")(layers.Dense(3, name="above")(tiny)))
    trace = pane_keras.wrap(model).trace(-80 * np.ones((1, 4), "float32"))
    weights = ops.one_hot(ops.convert_to_tensor([2]), 4)[:, None]
    (silu,) = trace.between("below", "tiny").composition().operands
    start = closing(weights, units=[2])
    assert scaled.normalized(start.sum) is start.sum
    assert silu.pull(start).sum.growth >= scaled.BITS
    (relu,) = (o for o in trace.between("tiny", "last").composition().operands if o.kind == "relu")
    assert relu.pull(closing(weights[..., :3], units=[2])).sum.growth == 0
