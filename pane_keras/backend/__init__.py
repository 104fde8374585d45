"""The only place that names the framework: native kernels, transposes, float bits and run-time facts.

Everything else in the library is written with `keras.ops`, so another framework needs only a sibling of
`backend/tensorflow` with the same functions.
"""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "pane_keras runs on Keras with the TensorFlow backend. "
        f"Received: keras.backend.backend() == {keras.backend.backend()!r}. "
        "Set the environment variable KERAS_BACKEND=tensorflow before importing keras."
    )

from pane_keras.backend.tensorflow.convolution import (
    Geometry,
    convolve,
    convolve_depthwise,
    transpose_convolution,
    transpose_depthwise,
)
from pane_keras.backend.tensorflow.floating import exponent, power_of_two
from pane_keras.backend.tensorflow.linear import transpose_linear
from pane_keras.backend.tensorflow.masking import flip_signs, keep_nonzero, keep_positive
from pane_keras.backend.tensorflow.pooling import gather_rows, max_pool_index, scatter_rows, transpose_average_pool
from pane_keras.backend.tensorflow.runtime import (
    device_memory,
    is_symbolic,
    is_tensor,
    slope,
    static_size,
)

__all__ = [
    "Geometry",
    "convolve",
    "convolve_depthwise",
    "device_memory",
    "exponent",
    "flip_signs",
    "gather_rows",
    "is_symbolic",
    "is_tensor",
    "keep_nonzero",
    "keep_positive",
    "max_pool_index",
    "power_of_two",
    "scatter_rows",
    "slope",
    "static_size",
    "transpose_average_pool",
    "transpose_convolution",
    "transpose_depthwise",
    "transpose_linear",
]
