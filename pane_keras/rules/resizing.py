"""Layers that change the size of a picture: linear with fixed coefficients."""

import keras
from keras import ops

from pane_keras.pieces import affine, linear, nonnegative, sequence
from pane_keras.registry import register

_SIGNED = ("bicubic", "lanczos3", "lanczos5")


@register(keras.layers.UpSampling1D, keras.layers.UpSampling3D)
def repeat_elements(layer, inputs):
    """Every element repeated along each axis of the space."""
    return nonnegative(layer.call, copies=True, kind="upsampling")


@register(keras.layers.UpSampling2D, keras.layers.Resizing)
def resize(layer, inputs):
    """Interpolation: weights that are not negative for nearest and bilinear, of both signs for bicubic and Lanczos."""
    frame = _frame(layer, inputs)
    call = layer.call if frame is None else lambda x: layer.call(x) - frame
    if layer.interpolation not in _SIGNED:
        stage = nonnegative(call, copies=layer.interpolation == "nearest", kind="resizing")
        return stage if frame is None else sequence(stage, affine(1.0, frame, kind="frame"))
    kernel = resizing_matrices(call, layer, inputs)
    magnitude = lambda pair: [ops.abs(m) for m in pair]  # noqa: E731
    return linear(_separable(layer), kernel, frame, magnitude=magnitude, kind="resizing")


def _frame(layer, inputs):
    """Returns what a resizing that pads emits for a black picture, or None where that is zero."""
    if not getattr(layer, "pad_to_aspect_ratio", False) or not layer.fill_value:
        return None
    return layer.call(ops.zeros_like(inputs[:1]))


def resizing_matrices(call, layer, inputs):
    """Returns the coefficients of a resizing that works on rows and columns apart: [(H', H), (W', W)].

    The layer resizes a picture whose channels are the unit vectors of one axis and constant along the other; since
    the weights of every output add up to 1, what comes out are the columns of that axis's matrix.
    """
    height, width = _axes(layer)
    return [_matrix(call, layer, inputs, *axes) for axes in ((height, width), (width, height))]


def _matrix(call, layer, inputs, axis, other):
    n, m = inputs.shape[axis], inputs.shape[other]
    basis = ops.broadcast_to(ops.expand_dims(ops.eye(n, dtype=inputs.dtype), 1), (n, m, n))
    if axis > other:
        basis = ops.transpose(basis, (1, 0, 2))
    picture = ops.expand_dims(basis if _last(layer) else ops.transpose(basis, (2, 0, 1)), 0)
    resized = call(picture)[0]
    columns = resized if _last(layer) else ops.transpose(resized, (1, 2, 0))
    # The middle of the other axis: its ends may lie in the frame that pad_to_aspect_ratio adds.
    return columns[:, columns.shape[1] // 2] if axis < other else columns[columns.shape[0] // 2]


def _separable(layer):
    equation = "bhwc,yh,xw->byxc" if _last(layer) else "bchw,yh,xw->bcyx"
    return lambda x, kernel: ops.einsum(equation, x, *kernel)


def _axes(layer):
    return (1, 2) if _last(layer) else (2, 3)


def _last(layer):
    return layer.data_format == "channels_last"
