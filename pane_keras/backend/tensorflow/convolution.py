"""Convolutions of any rank and their transposes.

Kernels are laid out as Keras lays them out: (*window, channels in / groups, channels out), depthwise
(*window, channels in, multiplier). A `geometry` is the set of arguments that a convolution and its transpose share.
"""

from functools import partial
from typing import NamedTuple

import tensorflow as tf

from pane_keras.backend.tensorflow.linear import transpose_linear
from pane_keras.backend.tensorflow.live_units import live_units, transpose_live_units

_FORMATS = {
    "channels_last": {1: "NWC", 2: "NHWC", 3: "NDHWC"},
    "channels_first": {1: "NCW", 2: "NCHW", 3: "NCDHW"},
}


class Geometry(NamedTuple):
    """Strides, padding ("valid", "same" or "causal"), dilation, groups and data format of a convolution."""

    strides: tuple
    padding: str
    dilation: tuple
    data_format: str = "channels_last"
    groups: int = 1


def convolve(x, kernel, geometry):
    """Returns the convolution of `x`, (n, *space, channels), with `kernel`."""
    if geometry.padding == "causal":
        x, geometry = _pad_causally(x, kernel, geometry)
    if _runs_by_group(geometry):
        return _convolve_by_group(x, kernel, geometry)
    return tf.nn.convolution(
        x,
        kernel,
        strides=list(geometry.strides),
        padding=geometry.padding.upper(),
        data_format=_FORMATS[geometry.data_format][len(geometry.strides)],
        dilations=list(geometry.dilation),
    )


def transpose_convolution(rows, kernel, geometry, shape, wanted=None):
    """Returns the transpose of `convolve` applied to `rows`.

    Args:
        rows: Tensor (n, *space, channels out).
        kernel, geometry: Of the convolution.
        shape: That of its input, (n, *space, channels in).
        wanted: Tensor (batch, *space, channels in): where it is zero, zero may be returned; None: everything counts.
    """
    if geometry.padding == "causal" or _runs_by_group(geometry):
        return transpose_linear(lambda x: convolve(x, kernel, geometry), rows, shape)
    dense = partial(_transpose_dense, geometry=geometry, shape=shape)
    live = live_units(rows, kernel, geometry, shape, wanted)
    return dense(rows, kernel) if live is None else transpose_live_units(rows, kernel, geometry, shape, live, dense)


def _transpose_dense(rows, kernel, geometry, shape):
    return tf.nn.conv_transpose(
        rows,
        kernel,
        output_shape=shape,
        strides=list(geometry.strides),
        padding=geometry.padding.upper(),
        data_format=_FORMATS[geometry.data_format][len(geometry.strides)],
        dilations=list(geometry.dilation),
    )


def convolve_depthwise(x, kernel, geometry):
    """Returns the depthwise convolution of `x`, (n, *space, channels), one or two spatial axes."""
    x, kernel, geometry = _as_plane(x, kernel, geometry)
    strides, padding = _plane_strides(geometry), geometry.padding.upper()
    output = tf.nn.depthwise_conv2d(x, _dilate(kernel, geometry.dilation), strides, padding)
    return _from_plane(output, geometry)


def transpose_depthwise(rows, kernel, geometry, shape):
    """Returns the transpose of `convolve_depthwise` applied to `rows`."""
    original = geometry
    rows, kernel, geometry = _as_plane(rows, kernel, geometry)
    output = tf.nn.depthwise_conv2d_backprop_input(
        _plane_shape(shape, original),
        _dilate(kernel, geometry.dilation),
        rows,
        _plane_strides(geometry),
        geometry.padding.upper(),
    )
    return _from_plane(output, geometry)


def _runs_by_group(geometry):
    # The framework's kernel for volumes knows no groups.
    return geometry.groups > 1 and len(geometry.strides) == 3


def _convolve_by_group(x, kernel, geometry):
    axis = -1 if geometry.data_format == "channels_last" else 1
    parts = zip(tf.split(x, geometry.groups, axis), tf.split(kernel, geometry.groups, -1))
    return tf.concat([convolve(part, k, geometry._replace(groups=1)) for part, k in parts], axis)


def _pad_causally(x, kernel, geometry):
    left = geometry.dilation[0] * (kernel.shape[0] - 1)
    space = 1 if geometry.data_format == "channels_last" else 2
    padding = [[left, 0] if axis == space else [0, 0] for axis in range(3)]
    return tf.pad(x, padding), geometry._replace(padding="valid")


class _Plane(NamedTuple):
    strides: tuple
    padding: str
    dilation: tuple
    line: bool
    first: bool


def _as_plane(x, kernel, geometry):
    """A line becomes a plane of height 1, and the channels go last, which is the one form every device runs."""
    line, first = len(geometry.strides) == 1, geometry.data_format == "channels_first"
    if first:
        x = tf.transpose(x, [0, *range(2, len(x.shape)), 1])
    if line:
        x, kernel = tf.expand_dims(x, 1), tf.expand_dims(kernel, 0)
    dilation = (1, *geometry.dilation) if line else tuple(geometry.dilation)
    return x, kernel, _Plane(tuple(geometry.strides), geometry.padding, dilation, line, first)


def _from_plane(x, plane):
    if plane.line:
        x = tf.squeeze(x, 1)
    if plane.first:
        x = tf.transpose(x, [0, len(x.shape) - 1, *range(1, len(x.shape) - 1)])
    return x


def _plane_shape(shape, geometry):
    n, *rest = tf.unstack(tf.convert_to_tensor(shape))
    space, channels = (rest[1:], rest[0]) if geometry.data_format == "channels_first" else (rest[:-1], rest[-1])
    if len(geometry.strides) == 1:
        space = [tf.ones_like(n), *space]
    return tf.stack([n, *space, channels])


def _plane_strides(plane):
    # A line has height 1, so striding along the height as along the width changes nothing, and the kernel
    # implementation accepts equal strides only.
    return [1, plane.strides[0], plane.strides[-1], 1]


def _dilate(kernel, dilation):
    """Writes zeros between the taps: the framework's transpose of a dilated depthwise convolution is wrong."""
    for axis, rate in enumerate(dilation):
        if rate > 1:
            kernel = _insert_zeros(kernel, axis, rate)
    return kernel


def _insert_zeros(kernel, axis, rate):
    spread = tf.expand_dims(kernel, axis + 1)
    padding = [[0, rate - 1] if i == axis + 1 else [0, 0] for i in range(len(spread.shape))]
    shape = [size * rate if i == axis else size for i, size in enumerate(kernel.shape)]
    full = tf.reshape(tf.pad(spread, padding), shape)
    size = [s - rate + 1 if i == axis else s for i, s in enumerate(shape)]
    return tf.slice(full, [0] * len(size), size)
