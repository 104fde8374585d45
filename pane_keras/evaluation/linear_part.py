"""A layer without its fused activation: a layer of its own that shares the weights."""

import keras
from keras import layers, ops

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_LINEAR = (layers.Dense, layers.EinsumDense, *_CONVOLUTIONS)


def has_linear_part(layer):
    """Returns whether `LinearPart` takes a layer: a dense layer or a convolution of Keras, not a subclass."""
    return type(layer) in _LINEAR and not getattr(layer, "quantization_mode", None)


@keras.saving.register_keras_serializable("pane_keras")
class LinearPart(layers.Layer):
    """o' + b of a layer o = f(o' + b).

    Args:
        layer: A layer that `has_linear_part`. It is kept, and its weights are shared.
    """

    def __init__(self, layer, **kwargs):
        super().__init__(
            name=kwargs.pop("name", f"{layer.name}_linear"), dtype=kwargs.pop("dtype", layer.dtype_policy), **kwargs
        )
        self.layer = layer
        self.built = layer.built

    def call(self, x):
        """Returns o' + b, of the shape and dtype of what the layer emits."""
        layer = self.layer
        if type(layer) is layers.Dense:
            return _with_bias(ops.matmul(x, layer.kernel), layer)
        if type(layer) is layers.EinsumDense:
            return _with_bias(ops.einsum(layer.equation, x, layer.kernel), layer)
        return _convolved(x, layer)

    def build(self, shape):
        """Builds the layer."""
        if not self.layer.built:
            self.layer.build(shape)

    def get_config(self):
        """Returns the layer's own config, from which a clone is built with weights of its own."""
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        """Returns a part of a fresh layer."""
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


def _with_bias(x, layer):
    return x if layer.bias is None else ops.add(x, layer.bias)


def _convolved(x, layer):
    y = layer.convolution_op(x, layer.kernel)
    if layer.bias is None:
        return y
    first, space = layer.data_format == "channels_first", (1,) * layer.rank
    return ops.add(y, ops.reshape(layer.bias, (1, -1, *space) if first else (1, *space, -1)))
