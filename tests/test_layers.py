"""Every rule against its slow float64 twin (tests/twins.py), on a table of layers."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
import twins
from keras import layers

import pane_keras
from pane_keras.registry import registered
from pane_keras.testing import check_layer

TOLERANCE = 1e-5
BATCH = 2


class Case(NamedTuple):
    """A layer and the samples to try it on.

    Attributes:
        name: Of the test.
        make: Function without arguments that returns the layer.
        shapes: Shape of a sample of each input.
        dyadic: Inputs and weights are small multiples of 1/8, so that float32 sums are exact and exact zeros and ties
            occur. Otherwise they are normal numbers, a fifth of the inputs zero.
    """

    name: str
    make: object
    shapes: list
    dyadic: bool = True


def case(make, *shapes, note, dyadic=True):
    """`note` says what is special about the case."""
    return Case(f"{make().__class__.__name__}-{note}".replace(" ", "_"), make, list(shapes), dyadic)


def several(cls, shape, notes, dyadic=True):
    """One case for each {note: arguments} of a class."""
    return [case(lambda a=a: cls(**a), shape, note=note, dyadic=dyadic) for note, a in notes.items()]


FIRST = {"data_format": "channels_first"}

DENSE = [
    *several(layers.Dense, (5,), {"plain": {"units": 4}, "no bias": {"units": 4, "use_bias": False},
                                  "fused relu": {"units": 6, "activation": "relu"}}),
    case(lambda: layers.Dense(4), (2, 3), note="over the last axis"),
    case(lambda: layers.Dense(1), (1,), note="one by one"),
    case(lambda: layers.EinsumDense("ab,bc->ac", output_shape=4, bias_axes="c"), (3,), note="as dense"),
    case(lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d"), (2, 3), note="time"),
    case(lambda: layers.EinsumDense("abc,bcd->ad", output_shape=4, activation="relu"), (2, 3), note="two summed axes"),
    case(lambda: layers.EinsumDense("...x,xy->...y", output_shape=4, bias_axes="y"), (2, 3), note="ellipsis"),
    case(lambda: layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"), (2, 3), note="heads"),
]  # fmt: skip

CONVOLUTION = [
    *several(layers.Conv1D, (7, 2), {
        "valid": {"filters": 3, "kernel_size": 3},
        # 7 = 2 * 3 + 1: the padding of `same` is not symmetric
        "same stride": {"filters": 3, "kernel_size": 4, "strides": 2, "padding": "same"},
        "causal": {"filters": 3, "kernel_size": 3, "padding": "causal"},
        "causal stride": {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "causal"},
        "causal dilated": {"filters": 3, "kernel_size": 2, "dilation_rate": 3, "padding": "causal"},
        "dilated groups": {"filters": 4, "kernel_size": 2, "dilation_rate": 2, "groups": 2, "padding": "same"},
        # the last input is never read
        "stride leaves a rest": {"filters": 2, "kernel_size": 2, "strides": 3},
        "window wider than the line": {"filters": 2, "kernel_size": 9, "padding": "same"},
    }),
    case(lambda: layers.Conv1D(3, 3, padding="same", **FIRST), (2, 7), note="channels first"),
    *several(layers.Conv2D, (5, 6, 2), {
        "valid": {"filters": 3, "kernel_size": 3},
        "same no bias": {"filters": 3, "kernel_size": (3, 2), "padding": "same", "use_bias": False},
        "same stride": {"filters": 3, "kernel_size": 3, "strides": (2, 3), "padding": "same"},
        # every second input is never read
        "stride over window": {"filters": 3, "kernel_size": 1, "strides": 2},
        "dilated": {"filters": 2, "kernel_size": 2, "dilation_rate": (2, 3)},
        "dilated same": {"filters": 2, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
        "groups": {"filters": 4, "kernel_size": 2, "groups": 2},
        "groups dilated": {"filters": 4, "kernel_size": 2, "groups": 2, "dilation_rate": 2, "padding": "same"},
        "groups stride": {"filters": 4, "kernel_size": 3, "groups": 2, "strides": 2, "padding": "same"},
        "fused relu": {"filters": 3, "kernel_size": 3, "activation": "relu"},
        "fused softmax": {"filters": 3, "kernel_size": 3, "activation": "softmax"},
        "whole picture": {"filters": 2, "kernel_size": (5, 6)},
    }),
    *several(layers.Conv2D, (2, 5, 6), {
        "channels first": {"filters": 3, "kernel_size": 3, "padding": "same", **FIRST},
        # 5 filters: Keras's own layer adds the bias along the width where that has as many units as there are filters
        "channels first stride": {"filters": 5, "kernel_size": 2, "strides": 2, **FIRST},
        "channels first groups": {"filters": 4, "kernel_size": 2, "groups": 2, **FIRST},
        "channels first dilated": {"filters": 5, "kernel_size": 2, "dilation_rate": 2, **FIRST},
    }),
    *several(layers.Conv3D, (3, 4, 3, 2), {
        "valid": {"filters": 2, "kernel_size": 2},
        "same stride": {"filters": 2, "kernel_size": (2, 3, 2), "strides": (1, 2, 2), "padding": "same"},
        "groups": {"filters": 2, "kernel_size": 2, "groups": 2},
        "dilated": {"filters": 2, "kernel_size": 2, "dilation_rate": (1, 2, 2), "padding": "same"},
    }),
    *several(layers.DepthwiseConv1D, (7, 2), {
        "same stride": {"kernel_size": 3, "strides": 2, "padding": "same"},
        "multiplier": {"kernel_size": 2, "depth_multiplier": 3},
        "dilated": {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
    }),
    *several(layers.DepthwiseConv2D, (5, 7, 2), {
        "valid": {"kernel_size": 3},
        "multiplier same": {"kernel_size": (2, 3), "depth_multiplier": 2, "padding": "same"},
        "stride": {"kernel_size": 3, "strides": 2, "padding": "same"},
        # the framework's own transpose of these is wrong for `same` and raises for `valid`
        "dilated same": {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
        "dilated valid": {"kernel_size": 2, "dilation_rate": (2, 3)},
        "dilated even window": {"kernel_size": 2, "dilation_rate": 3, "padding": "same", "activation": "relu"},
    }),
    *several(layers.DepthwiseConv2D, (2, 5, 7), {
        "channels first": {"kernel_size": 3, "padding": "same", **FIRST},
        "channels first stride multiplier": {"kernel_size": 3, "strides": 2, "depth_multiplier": 2, **FIRST},
    }),
    *several(layers.SeparableConv1D, (6, 2), {
        "valid": {"filters": 3, "kernel_size": 3},
        "same stride": {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "depth_multiplier": 2},
    }),
    *several(layers.SeparableConv2D, (5, 5, 2), {
        "same": {"filters": 3, "kernel_size": 3, "padding": "same"},
        "stride multiplier": {"filters": 3, "kernel_size": 3, "strides": 2, "depth_multiplier": 2},
        "dilated relu": {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "activation": "relu"},
    }),
    case(lambda: layers.SeparableConv2D(3, 3, padding="same", **FIRST), (2, 5, 5), note="channels first"),
    *several(layers.Conv1DTranspose, (4, 3), {
        "valid": {"filters": 2, "kernel_size": 3},
        "same stride": {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"},
        "output padding": {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 1},
        "stride over window": {"filters": 2, "kernel_size": 2, "strides": 3},
        "dilated": {"filters": 2, "kernel_size": 2, "dilation_rate": 2},
    }),
    *several(layers.Conv2DTranspose, (3, 4, 2), {
        "valid stride": {"filters": 3, "kernel_size": 3, "strides": 2},
        "same stride": {"filters": 3, "kernel_size": (3, 2), "strides": (2, 1), "padding": "same"},
        "output padding": {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "output_padding": 0},
        "dilated": {"filters": 3, "kernel_size": 2, "dilation_rate": 2, "activation": "relu"},
    }),
    case(lambda: layers.Conv2DTranspose(3, 3, strides=2, **FIRST), (2, 3, 4), note="channels first"),
    *several(layers.Conv3DTranspose, (2, 3, 2, 2), {
        "valid": {"filters": 2, "kernel_size": 2},
        "same stride": {"filters": 2, "kernel_size": 2, "strides": 2, "padding": "same"},
    }),
]  # fmt: skip

POOLS = {
    "valid": {"pool_size": 2},
    # windows overlap, so an element is selected more than once
    "overlapping": {"pool_size": 3, "strides": 1},
    # windows at the border hold fewer elements; with negative inputs a padding of zeros would win
    "same": {"pool_size": 3, "strides": 2, "padding": "same"},
    "stride over window": {"pool_size": 2, "strides": 3},
    "same even window": {"pool_size": 2, "strides": 1, "padding": "same"},
}
POOLS_OF_SPACE = {
    1: {"one axis": {"pool_size": 4, "strides": 3}},
    2: {"unequal": {"pool_size": (2, 3), "strides": (2, 1), "padding": "same"}},
    3: {"unequal": {"pool_size": (1, 2, 3), "strides": (1, 2, 1), "padding": "same"}},
}
POOLED = {1: (7, 2), 2: (5, 6, 2), 3: (4, 5, 3, 2)}
POOLING = [
    *(c for kind in ("Max", "Average") for rank in (1, 2, 3)
      for c in several(getattr(layers, f"{kind}Pooling{rank}D"), POOLED[rank], {**POOLS, **POOLS_OF_SPACE[rank]})),
    *(c for kind in ("Max", "Average") for rank in (1, 2, 3)
      for c in several(getattr(layers, f"{kind}Pooling{rank}D"), (2, *POOLED[rank][:-1]), {
          "channels first": {"pool_size": 2, **FIRST},
          "channels first same": {"pool_size": 3, "strides": 2, "padding": "same", **FIRST}})),
    *(c for kind in ("Max", "Average") for rank in (1, 2, 3)
      for c in several(getattr(layers, f"Global{kind}Pooling{rank}D"), POOLED[rank], {
          "plain": {}, "keepdims": {"keepdims": True}, "channels first": FIRST,
          "channels first keepdims": {"keepdims": True, **FIRST}})),
]  # fmt: skip

NORMALIZATION = [
    *several(layers.BatchNormalization, (3, 4), {
        "plain": {}, "no scale": {"scale": False}, "no center": {"center": False}, "axis 1": {"axis": 1}}, False),
    case(lambda: layers.BatchNormalization(), (2, 3, 4), note="picture", dyadic=False),
    *several(layers.LayerNormalization, (3, 4), {
        "plain": {}, "two axes": {"axis": (1, 2)}, "axis 1": {"axis": 1}, "no scale": {"scale": False},
        "no center": {"center": False}, "bare": {"center": False, "scale": False}, "epsilon": {"epsilon": 0.5}}, False),
    *several(layers.RMSNormalization, (3, 4), {"plain": {}, "two axes": {"axis": (1, 2)}}, False),
    *several(layers.GroupNormalization, (2, 3, 4), {
        "two groups": {"groups": 2}, "one group": {"groups": 1}, "groups of one": {"groups": -1},
        "no scale": {"groups": 2, "scale": False}, "no center": {"groups": 4, "center": False}}, False),
    case(lambda: layers.GroupNormalization(2, axis=1), (4, 3, 2), note="axis 1", dyadic=False),
    case(lambda: layers.GroupNormalization(2, axis=2), (3, 4, 2), note="axis in the middle", dyadic=False),
    case(lambda: layers.GroupNormalization(3), (6,), note="vector", dyadic=False),
    *several(layers.UnitNormalization, (3, 4), {
        "plain": {}, "axis 1": {"axis": 1}, "two axes": {"axis": (1, 2)}}, False),
    *several(layers.Normalization, (3, 4), {
        "given": {"mean": [1.0, -2, 0.5, 0], "variance": [4.0, 1, 0.25, 2]},
        "one for all": {"axis": None, "mean": 3.0, "variance": 2.0},
        "inverted": {"mean": [1.0, -2, 0.5, 0], "variance": [4.0, 1, 0.25, 2], "invert": True},
        # the deviation is not allowed below epsilon
        "no variance": {"mean": [1.0, -2, 0.5, 0], "variance": [4.0, 0, 0.25, 2]}}, False),
    *several(layers.Rescaling, (3, 4), {
        "to unit": {"scale": 1 / 255}, "offset": {"scale": 1 / 127.5, "offset": -1},
        "by channel": {"scale": [0.5, -2.0, 1.0, 3.0], "offset": [1.0, 0.0, -1.0, 2.0]}}, False),
]  # fmt: skip

MERGING = [
    *(case(cls, (3, 2), (3, 2), (3, 2), note="three") for cls in
      (layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply)),
    *(case(cls, (3, 2), (3, 2), note="two") for cls in
      (layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply, layers.Subtract)),
    # squeeze-and-excite: one value a channel
    *(case(cls, (3, 2, 4), (1, 1, 4), note="broadcast") for cls in
      (layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply, layers.Subtract)),
    *(case(cls, (3, 1), (1, 4), note="broadcast both") for cls in
      (layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Multiply, layers.Subtract)),
    *(case(cls, (3, 4), (4,), note="broadcast rank") for cls in (layers.Add, layers.Multiply, layers.Subtract)),
    case(layers.Concatenate, (3, 2), (3, 4), (3, 1), note="last axis"),
    case(lambda: layers.Concatenate(axis=1), (3, 2), (1, 2), note="axis 1"),
    case(lambda: layers.Concatenate(axis=-2), (2, 3, 2), (2, 1, 2), note="axis from the end"),
]  # fmt: skip

RESHAPING = [
    case(layers.Flatten, (2, 3, 2), note="picture"),
    case(layers.Flatten, (3,), note="vector"),
    case(lambda: layers.Flatten(**FIRST), (2, 3, 2), note="channels first"),
    case(lambda: layers.Reshape((3, 4)), (2, 6), note="plain"),
    case(lambda: layers.Reshape((-1, 2)), (2, 6), note="inferred"),
    case(lambda: layers.Permute((3, 1, 2)), (2, 3, 4), note="cycle"),
    # dense matrices come in blocks of 256 rows
    case(lambda: layers.Permute((2, 1)), (18, 17), note="more rows than a block"),
    case(lambda: layers.RepeatVector(3), (4,), note="three"),
    *several(layers.ZeroPadding1D, (3, 2), {"one": {"padding": 1}, "unequal": {"padding": (0, 2)}}),
    case(lambda: layers.ZeroPadding1D(2, **FIRST), (2, 3), note="channels first"),
    *several(layers.ZeroPadding2D, (2, 3, 2), {"one": {"padding": 1}, "unequal": {"padding": ((0, 1), (2, 0))}}),
    case(lambda: layers.ZeroPadding2D((1, 2), **FIRST), (2, 2, 3), note="channels first"),
    case(lambda: layers.ZeroPadding3D(((0, 1), (1, 0), (1, 1))), (2, 1, 2, 2), note="unequal"),
    *several(layers.Cropping1D, (5, 2), {"one": {"cropping": 1}, "unequal": {"cropping": (0, 2)}}),
    *several(layers.Cropping2D, (4, 5, 2), {"one": {"cropping": 1}, "unequal": {"cropping": ((0, 1), (2, 0))}}),
    case(lambda: layers.Cropping2D(((0, 1), (2, 1)), **FIRST), (2, 4, 5), note="channels first"),
    case(lambda: layers.Cropping3D(((0, 1), (1, 0), (1, 1))), (3, 3, 4, 2), note="unequal"),
    case(lambda: layers.UpSampling1D(3), (3, 2), note="three"),
    *several(layers.UpSampling2D, (3, 2, 2), {
        "nearest": {"size": (2, 3)},
        "bilinear": {"size": 2, "interpolation": "bilinear"},
        "bicubic": {"size": 2, "interpolation": "bicubic"},
        "lanczos3": {"size": (2, 3), "interpolation": "lanczos3"},
    }, False),
    case(lambda: layers.UpSampling2D(2, **FIRST), (2, 3, 2), note="channels first"),
    case(lambda: layers.UpSampling2D(2, **FIRST, interpolation="bicubic"), (2, 3, 4), note="channels first bicubic",
         dyadic=False),
    case(lambda: layers.UpSampling3D((1, 2, 3)), (2, 2, 1, 2), note="unequal"),
    case(lambda: layers.UpSampling3D(2, **FIRST), (2, 2, 1, 2), note="channels first"),
]  # fmt: skip

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
RESIZING = [
    *(c for way in INTERPOLATIONS for c in several(layers.Resizing, (4, 7, 2), {
        f"{way} up": {"height": 6, "width": 9, "interpolation": way},
        f"{way} down": {"height": 3, "width": 4, "interpolation": way},
        f"{way} antialias": {"height": 2, "width": 4, "interpolation": way, "antialias": True},
        f"{way} crop": {"height": 3, "width": 3, "interpolation": way, "crop_to_aspect_ratio": True},
        f"{way} pad": {"height": 5, "width": 5, "interpolation": way, "pad_to_aspect_ratio": True},
        # the frame is a bias
        f"{way} pad filled": {"height": 5, "width": 5, "interpolation": way, "pad_to_aspect_ratio": True,
                              "fill_value": 2.0},
    }, False)),
    *(case(lambda way=way: layers.Resizing(3, 5, interpolation=way, **FIRST), (2, 4, 3), note=f"{way} channels first",
           dyadic=False) for way in INTERPOLATIONS),
    # weights of a quarter and three quarters: exact, with o' = 0 inside and a bias
    case(lambda: layers.Resizing(8, 8, pad_to_aspect_ratio=True, fill_value=1.0), (2, 4, 1), note="exact pad filled"),
    case(lambda: layers.Resizing(6, 6), (3, 3, 1), note="exact"),
]  # fmt: skip

PASSING = [
    *(case(lambda cls=cls: cls(0.5), shape, note="at inference") for cls, shape in (
        (layers.Dropout, (3, 2)), (layers.SpatialDropout1D, (3, 2)), (layers.SpatialDropout2D, (3, 2, 2)),
        (layers.SpatialDropout3D, (2, 2, 2, 2)), (layers.AlphaDropout, (3, 2)), (layers.GaussianDropout, (3, 2)),
        (layers.GaussianNoise, (3, 2)))),
    case(layers.ActivityRegularization, (3, 2), note="at inference"),
    case(layers.Identity, (3, 2), note="plain"),
]  # fmt: skip

ACTIVATION_LAYERS = [
    *several(layers.ReLU, (12,), {
        "plain": {}, "capped": {"max_value": 1.0}, "leaky": {"negative_slope": 0.25}, "threshold": {"threshold": 0.5},
        "all": {"max_value": 1.5, "negative_slope": 0.25, "threshold": 0.5},
        "capped leaky": {"max_value": 1.0, "negative_slope": 0.5},
        # below its threshold but above zero: f(0) is not 0, so it is a bias
        "leaky threshold": {"negative_slope": 0.5, "threshold": 1.0},
        "zero cap": {"max_value": 0.0}}),
    *several(layers.LeakyReLU, (12,), {"plain": {}, "steep": {"negative_slope": 2.0}}),
    *several(layers.ELU, (12,), {"plain": {}, "alpha": {"alpha": 0.5}}, False),
    *several(layers.PReLU, (3, 2, 2), {"plain": {}, "shared": {"shared_axes": [1, 2]}, "one": {"shared_axes": [1]}}),
    *several(layers.Softmax, (3, 4), {"plain": {}, "axis 1": {"axis": 1}, "two axes": {"axis": (1, 2)}}, False),
    *several(layers.Activation, (3, 4), {
        "function": {"activation": "tanh"}, "linear": {"activation": "linear"}}, False),
]  # fmt: skip

CASES = [*DENSE, *CONVOLUTION, *POOLING, *NORMALIZATION, *MERGING, *RESHAPING, *RESIZING, *PASSING, *ACTIVATION_LAYERS]


def draw(rng, shape, dyadic):
    """Returns an input with exact zeros and negative numbers; dyadic ones hold ties as well."""
    values = rng.integers(-8, 9, shape) / 4 if dyadic else rng.normal(size=shape)
    return np.where(rng.random(shape) < 0.2, 0, values).astype("float32")


def randomize(layer, rng, dyadic):
    """Gives every weight a random value: biases are not zero, deviations are positive."""
    for variable in layer.weights:
        if "seed" in variable.path or variable.path.endswith(("normalization/mean", "normalization/variance", "count")):
            continue
        shape = tuple(variable.shape)
        value = rng.integers(-8, 9, shape) / 8 if dyadic else rng.normal(size=shape)
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)


def prepare(one, batch=BATCH, seed=0):
    """Returns (layer, inputs) of a case, the inputs as the layer takes them."""
    rng = np.random.default_rng(seed)
    layer = one.make()
    xs = [draw(rng, (batch, *shape), one.dyadic) for shape in one.shapes]
    x = xs if len(xs) > 1 else xs[0]
    layer(x)
    randomize(layer, rng, one.dyadic)
    return layer, x


def assert_close(actual, expected, what, tolerance=TOLERANCE):
    """max |difference| within the tolerance of max |expected|."""
    actual, expected = np.asarray(actual, "float64"), np.asarray(expected, "float64")
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(actual).all(), f"{what} is not finite"
    error, size = np.abs(actual - expected).max(initial=0), np.abs(expected).max(initial=0)
    assert error <= tolerance * size, f"{what}: off by {error:.2e}, where the largest entry is {size:.2e}"


def assert_like_twin(layer, x):
    """Output, E+ and E- of a layer against its own call and its twin, sample by sample."""
    xs = x if isinstance(x, list) else [x]
    output, positive, negative = pane_keras.ExcitationLayer(layer).excite(x)
    assert_close(output, layer(x), "output", 1e-6)
    views = zip(positive, negative) if isinstance(x, list) else [(positive, negative)]
    views = [(np.asarray(p), np.asarray(n)) for p, n in views]
    for sample in range(len(xs[0])):
        mine = [value[sample] for value in xs]
        expected, pairs, margin = twins.excitation(layer, mine)
        assert margin > 1e-5, "a sum is too close to zero for its sign to be certain: take another seed"
        assert_close(np.asarray(output)[sample], expected, "output against the twin")
        for k, ((p, n), (ep, en)) in enumerate(zip(views, pairs, strict=True)):
            shape = (*expected.shape, *mine[k].shape)
            assert_close(p[sample], ep.reshape(shape), f"E+ of input {k}, sample {sample}")
            size = max(np.abs(ep).max(initial=0), np.abs(en).max(initial=0))
            error = np.abs(n[sample] - en.reshape(shape)).max(initial=0)
            assert error <= TOLERANCE * size, f"E- of input {k}, sample {sample}: off by {error:.2e} of {size:.2e}"


def named(cases):
    names = [c.name for c in cases]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return pytest.mark.parametrize("one", cases, ids=names)


@named(CASES)
def test_layer_against_its_twin(one):
    assert_like_twin(*prepare(one))


@named(CASES)
def test_layer_keeps_every_law(one):
    """Completeness, pull against push, P and N from eqs. (4) and (6), stage by stage, on several kinds of data."""
    rng = np.random.default_rng(4)
    xs = [rng.integers(-2, 3, (3, *shape)).astype("float32") for shape in one.shapes]
    for x in xs:
        x[2] = np.maximum(rng.normal(size=x[2].shape), 0)
    check_layer(one.make(), one.shapes, inputs={"ties, and what a ReLU emits": xs if len(xs) > 1 else xs[0]})


@named([c for c in CASES if c.name.endswith(("-plain", "-valid", "-same_stride", "-channels_first", "-two"))])
def test_batch_of_one(one):
    """One row of one sample takes other kernels; the tests above have batches of two and three."""
    assert_like_twin(*prepare(one, batch=1, seed=3))


# The others have test files of their own, as adaptive pooling has.
HERE = {"activations", "convolution", "dense", "merging", "normalization", "passing", "pooling", "reshaping"}
HERE |= {"resizing"}


def test_every_registered_class_has_a_case():
    covered = {type(one.make()) for one in CASES}
    homes = {cls: rule.function.__module__.removeprefix("pane_keras.rules.") for cls, rule in registered()[0].items()}
    mine = {cls for cls, home in homes.items() if home in HERE and not cls.__name__.startswith("Adaptive")}
    assert {homes[cls] for cls in mine} == HERE
    never_called = {layers.InputLayer}
    assert sorted(cls.__name__ for cls in mine - covered - never_called) == []


# --- activations --------------------------------------------------------------------------------------------------

KNOTS = [0, 0, 0.5, -0.5, 1, -1, 3, -3, 6, -6, 1e-7, -1e-7, 1e-3, -1e-3, 0.1, -0.2, 0.75, -2.5, 7, -8, 30, -30, 80, -80]

# `threshold` takes two arguments more, so Keras cannot apply it by itself; it is tested as a layer, `ReLU(threshold)`.
NOT_BY_THEMSELVES = {"threshold"}
ALIASES = {"hard_swish": "hard_silu", "swish": "silu"}


def exported_activations():
    """Names of the activation functions that Keras exports, without its three helpers."""
    names = [n for n in dir(keras.activations) if not n.startswith("_")]
    return sorted(set(names) - {"get", "serialize", "deserialize"})


TWINNED = sorted({*twins.FUNCTIONS, *twins.HELD, "linear"})


def test_every_exported_activation_has_a_twin():
    known = {*TWINNED, *ALIASES, *NOT_BY_THEMSELVES}
    assert set(exported_activations()) == known


@pytest.mark.parametrize("name", [n for n in exported_activations() if n not in NOT_BY_THEMSELVES])
def test_activation_as_a_layer(name):
    # A row without large numbers, so that small coefficients count, and one with every knot.
    gentle = np.clip(KNOTS, -2.5, 2.5)
    x = np.array([KNOTS, gentle], "float32")
    assert_like_twin(layers.Activation(name), x)
    check_layer(layers.Activation(name), (24,), inputs={"knots": x})


@pytest.mark.parametrize("name", [n for n in exported_activations() if n not in NOT_BY_THEMSELVES])
def test_activation_fused_in_dense(name):
    one = Case(name, lambda: layers.Dense(6, activation=name), [(5,)])
    layer, x = prepare(one, batch=3)
    assert_like_twin(layer, x)
    check_layer(layer, (5,), inputs={"multiples of a quarter": x})


@pytest.mark.parametrize("name", sorted(twins.FUNCTIONS))
def test_coefficient_near_zero_loses_nothing(name):
    """Each coefficient by itself: relative to its own size, not to the largest of the tensor."""
    x = np.array([[1e-6, -1e-6, 3e-5, -3e-5, 1e-3, -1e-3, 0.02, -0.02, 0.3, -0.3, 0.9, -0.9]], "float32")
    _, positive, negative = pane_keras.ExcitationLayer(layers.Activation(name)).excite(x)
    expected = twins.coefficient(twins.FUNCTIONS[name], x[0].astype("float64"))
    actual = np.diag(np.asarray(positive)[0])
    assert not np.asarray(negative).any()
    # tanh_shrink is x - tanh(x), and Keras's own float32 value of it has lost these digits.
    np.testing.assert_allclose(actual, expected, rtol=5e-6, atol=2e-7 if name == "tanh_shrink" else 1e-12)


def test_alias_is_the_same_function():
    for alias, name in ALIASES.items():
        assert getattr(keras.activations, alias) is getattr(keras.activations, name)


# --- normalization ------------------------------------------------------------------------------------------------


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


@pytest.mark.parametrize("shape", [(3, 3, 3), (3, 5, 5)], ids=str)
@pytest.mark.parametrize("how", [{}, {"offset": -1.0}], ids=str)
def test_rescaling_by_channel_where_channels_come_first(channels_first, shape, how):
    layer, x = layers.Rescaling([1.0, -2.0, 3.0], **how), np.random.default_rng(0).normal(size=(2, *shape))
    output, positive, _ = pane_keras.ExcitationLayer(layer).excite(x.astype("float32"))
    assert_close(output, layer(x), "output", 1e-6)
    expected = np.broadcast_to(np.float64([1, -2, 3])[:, None, None], shape).ravel()
    for dense in np.asarray(positive).reshape(2, expected.size, expected.size):
        np.testing.assert_array_equal(dense, np.diag(expected))


def test_offsets_of_rescaling_are_laid_over_the_last_axis_whatever_comes_first(channels_first):
    """Keras reshapes the scale alone."""
    layer, x = layers.Rescaling([1.0, -2.0, 3.0], [0.5, 0.0, -1.0]), np.ones((2, 3, 3, 3), "float32")
    output, *_ = pane_keras.ExcitationLayer(layer).excite(x)
    assert_close(output, layer(x), "output", 1e-6)


# --- what changes nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "note"), [
    (layers.Dropout, "y = x: noise is drawn in training only."),
    (layers.ActivityRegularization, "y = x: its penalty counts in training only."),
    (layers.Identity, "y = x."),
    (layers.InputLayer, "y = x."),
])  # fmt: skip
def test_what_is_said_of_layers_that_change_nothing(cls, note):
    assert registered()[0][cls].summary == note
