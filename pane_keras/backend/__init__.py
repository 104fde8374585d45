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

from pane_keras.backend.tensorflow.compiled import KernelError, compiled
from pane_keras.backend.tensorflow.convolution import (
    Geometry,
    convolve,
    convolve_depthwise,
    transpose_convolution,
    transpose_depthwise,
)
from pane_keras.backend.tensorflow.data import batches, ends
from pane_keras.backend.tensorflow.floating import (
    binade,
    divide_rows,
    log2,
    moved,
    peak,
    power_of_two,
    product,
    sum_and_difference_of_rows,
    sum_of_rows,
)
from pane_keras.backend.tensorflow.gradients import any_batch, gradients_of, input_gradients
from pane_keras.backend.tensorflow.joined import Joined
from pane_keras.backend.tensorflow.linear import multiply_transposed, transpose_linear
from pane_keras.backend.tensorflow.masking import flip_signs, keep_positive, multiply_rows, nonzero_mask, signs
from pane_keras.backend.tensorflow.pooling import (
    gather_rows,
    max_pool_index,
    max_pool_transpose,
    scatter_rows,
    transpose_average_pool,
)
from pane_keras.backend.tensorflow.quiet import few_warnings
from pane_keras.backend.tensorflow.runtime import (
    as_written,
    device_memory,
    dims,
    is_symbolic,
    is_tensor,
    repeat_samples,
    snapshot,
    static_size,
    take_channels,
    to_tensor,
    with_sample_shape,
)
from pane_keras.backend.tensorflow.steps import glanced, lasting, puts_off, settled, step, taken

__all__ = [
    "Geometry",
    "Joined",
    "KernelError",
    "any_batch",
    "as_written",
    "batches",
    "binade",
    "compiled",
    "convolve",
    "convolve_depthwise",
    "device_memory",
    "dims",
    "divide_rows",
    "ends",
    "few_warnings",
    "flip_signs",
    "gather_rows",
    "glanced",
    "gradients_of",
    "input_gradients",
    "is_symbolic",
    "is_tensor",
    "keep_positive",
    "lasting",
    "log2",
    "max_pool_index",
    "max_pool_transpose",
    "moved",
    "multiply_rows",
    "multiply_transposed",
    "nonzero_mask",
    "peak",
    "power_of_two",
    "product",
    "puts_off",
    "repeat_samples",
    "scatter_rows",
    "settled",
    "signs",
    "snapshot",
    "static_size",
    "step",
    "sum_and_difference_of_rows",
    "sum_of_rows",
    "take_channels",
    "taken",
    "to_tensor",
    "transpose_average_pool",
    "transpose_convolution",
    "transpose_depthwise",
    "transpose_linear",
    "with_sample_shape",
]
