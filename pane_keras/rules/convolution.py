"""Convolutions: o' = x * kernel, never unfolded. Their transposes are native kernels of the framework."""

import math
from functools import partial

import keras
from keras import ops

from pane_keras import backend
from pane_keras.backend import Geometry
from pane_keras.factors import convolution_factors, depthwise_factors
from pane_keras.pieces import linear, sequence
from pane_keras.registry import activation_piece, register
from pane_keras.rules.dense import layer_bias, refuse_quantized
from pane_keras.windows import Window, stencil


@register(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
def convolution(layer, inputs):
    """o' = the convolution of x with the kernel, with any stride, padding, dilation and groups."""
    refuse_quantized(layer)
    geometry = Geometry(layer.strides, layer.padding, layer.dilation_rate, layer.data_format, layer.groups)
    stage = linear(
        lambda x, kernel: backend.convolve(x, kernel, geometry),
        backend.snapshot(layer.kernel),
        channel_bias(layer, layer_bias(layer)),
        transpose=lambda rows, kernel, *at: backend.transpose_convolution(rows, kernel, geometry, *at),
        leaves_out=True,
        kind="convolution",
        elementary=partial(convolution_factors, geometry=geometry),
        rescale=_rescale(layer, ops.multiply),
        local=_local(layer, backend.convolve, backend.transpose_convolution, geometry),
        kernel_of=_kernel_of(layer, layer.groups),
    )
    return sequence(stage, activation_piece(layer.activation, layer.name))


@register(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
def depthwise(layer, inputs):
    """o' = each channel convolved with its own kernels."""
    stage = _depthwise(layer, layer.kernel, layer_bias(layer))
    return sequence(stage, activation_piece(layer.activation, layer.name))


@register(keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
def separable(layer, inputs):
    """Two stages: depthwise, then one by one. As one stage the signs of what lies between would be lost."""
    pointwise = Geometry((1,) * layer.rank, "valid", (1,) * layer.rank, layer.data_format)
    mixing = linear(
        lambda x, kernel: backend.convolve(x, kernel, pointwise),
        backend.snapshot(layer.pointwise_kernel),
        channel_bias(layer, layer_bias(layer)),
        transpose=lambda rows, kernel, *at: backend.transpose_convolution(rows, kernel, pointwise, *at),
        leaves_out=True,
        kind="pointwise convolution",
        elementary=partial(convolution_factors, geometry=pointwise),
        rescale=_rescale(layer, ops.multiply),
        local=_local(layer, backend.convolve, backend.transpose_convolution, pointwise, (1,) * layer.rank),
        kernel_of=_kernel_of(layer),
    )
    return sequence(_depthwise(layer, layer.depthwise_kernel), mixing, activation_piece(layer.activation, layer.name))


@register(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
def transposed(layer, inputs):
    """o' = the transpose of a convolution, so its own transpose is that convolution."""

    def forward(x, kernel):
        return ops.conv_transpose(
            x,
            kernel,
            strides=layer.strides,
            padding=layer.padding,
            output_padding=layer.output_padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )

    bias = channel_bias(layer, layer_bias(layer))
    stage = linear(forward, backend.snapshot(layer.kernel), bias, kind="transposed convolution", taps=_taps(layer))
    return sequence(stage, activation_piece(layer.activation, layer.name))


def _taps(layer):
    """Multiply-adds for each output of a transposed convolution: the window's share of the stride, times the inputs."""
    window = layer.kernel.shape
    return max(math.prod(window[:-2]) * window[-1] // math.prod(layer.strides), 1)


def channel_bias(layer, bias):
    """Returns a bias, one entry a channel, so shaped that it broadcasts in the layer's data format."""
    if bias is None or layer.data_format == "channels_last":
        return bias
    return ops.reshape(bias, (1, -1, *[1] * layer.rank))


def _rescale(layer, function):
    """Channels are the last axis of the output only in the one data format."""
    return function if layer.data_format == "channels_last" else None


def _kernel_of(layer, groups=1):
    """Returns the function that leaves channels out of a kernel (*window, in, out), in the one data format."""

    def kernel_of(kernel, below, above):
        kernel = kernel if below is None else ops.take(kernel, below, axis=-2)
        return backend.take_channels(kernel, above)

    return kernel_of if groups == 1 and layer.data_format == "channels_last" else None


def _local(layer, convolve, transpose, geometry, taps=None):
    """Returns the function that restricts a convolution to a window, in the one data format."""
    taps = tuple(layer.kernel_size) if taps is None else taps

    def restricted(space, out_space, window):
        reach = stencil(space, out_space, taps, geometry.strides, geometry.dilation, geometry.padding)
        inner, around = reach.reached(window, space)
        return *_padded(convolve, transpose, geometry._replace(padding="valid"), inner, around), inner

    return restricted if layer.data_format == "channels_last" else None


def _padded(convolve, transpose, geometry, inner, around):
    """A convolution of a window with what is left of its padding, and its transpose."""
    full = [size + sum(pads) for size, pads in zip(inner.sizes, around)]
    inside = Window(tuple(a for a, _ in around), tuple(a + size for (a, _), size in zip(around, inner.sizes)))

    def transposed(rows, kernel, shape, *wanted):
        wanted = [inside.placed(x, full) for x in wanted]
        return inside.cut(transpose(rows, kernel, geometry, (shape[0], *full, shape[-1]), *wanted))

    return lambda x, kernel: convolve(inside.placed(x, full), kernel, geometry), transposed


def _depthwise(layer, kernel, bias=None):
    geometry = Geometry(layer.strides, layer.padding, layer.dilation_rate, layer.data_format)
    return linear(
        lambda x, kernel: backend.convolve_depthwise(x, kernel, geometry),
        backend.snapshot(kernel),
        channel_bias(layer, bias),
        transpose=lambda rows, kernel, shape: backend.transpose_depthwise(rows, kernel, geometry, shape),
        kind="depthwise convolution",
        elementary=partial(depthwise_factors, geometry=geometry),
        taps=math.prod(kernel.shape[:-2]),
        rescale=_rescale(layer, lambda kernel, c: kernel * ops.reshape(c, kernel.shape[-2:])),
        local=_local(layer, backend.convolve_depthwise, backend.transpose_depthwise, geometry),
    )
