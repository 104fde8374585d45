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
    """Returns what a resizing that pads emits for a black picture of one channel, or None where that is zero."""
    if not getattr(layer, "pad_to_aspect_ratio", False) or not layer.fill_value:
        return None
    return layer.call(ops.zeros_like(inputs[:1, ..., :1] if _last(layer) else inputs[:1, :1]))


def resizing_matrices(call, layer, inputs):
    """Returns the coefficients of a resizing, which works on rows and columns apart: [A (H', H), B (W', W)].

    Pictures whose channels are unit vectors along one axis and 1 along the other come out as A[y, i] (B 1)[x] and
    (A 1)[y] B[x, j], and a white one as (A 1)[y] (B 1)[x]. Read where that is largest, they give A and B up to a
    factor, which is divided out: in a frame of padding, the weights of an output do not add up to 1.
    """
    height, width = inputs.shape[1:3] if _last(layer) else inputs.shape[2:4]
    rows = ops.broadcast_to(ops.eye(height)[:, None, :], (height, width, height))
    columns = ops.broadcast_to(ops.eye(width)[None], (height, width, width))
    rows, columns, white = (_resized(call, layer, p) for p in (rows, columns, ops.ones((height, width, 1))))
    brightest = ops.argmax(ops.abs(white[..., 0]))
    y, x = brightest // white.shape[1], brightest % white.shape[1]
    return [ops.take(rows, x, axis=1) / white[y, x], ops.take(columns, y, axis=0)]


def _resized(call, layer, picture):
    """Returns a picture (H, W, channels) resized, in the layer's own data format on the way."""
    picture = picture if _last(layer) else ops.transpose(picture, (2, 0, 1))
    resized = call(picture[None])[0]
    return resized if _last(layer) else ops.transpose(resized, (1, 2, 0))


def _separable(layer):
    equation = "bhwc,yh,xw->byxc" if _last(layer) else "bchw,yh,xw->bcyx"
    return lambda x, kernel: ops.einsum(equation, x, *kernel)


def _last(layer):
    return layer.data_format == "channels_last"
