"""The rules of Keras's own layers. Importing this package registers them all."""

from pane_keras.rules import (  # noqa: F401
    activations,
    convolution,
    dense,
    merging,
    normalization,
    passing,
    pooling,
    reshaping,
    resizing,
)
