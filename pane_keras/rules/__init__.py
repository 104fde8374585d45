"""The rules of Keras's own layers. Importing this package registers them all."""

from pane_keras.rules import (  # noqa: F401
    activations,
    attention,
    augmentation,
    convolution,
    dense,
    embedding,
    merging,
    normalization,
    opaque,
    operations,
    passing,
    pooling,
    recurrent,
    reshaping,
    resizing,
    spectrogram,
    wrappers,
)
