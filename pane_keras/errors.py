"""The `PaneError` family: every failure a user can meet says what was expected, what came, where, and what to do."""

from typing import TYPE_CHECKING


class PaneError(Exception):
    """Base of every error that `pane_keras` raises on purpose."""

    if not TYPE_CHECKING:
        # A `tf.function` hands on an exception as its own type only if it is made as an Exception is.
        __init__ = Exception.__init__


class ModelError(PaneError, ValueError):
    """The object given to `wrap` is not a Keras model whose graph of layers can be read."""


class UnsupportedLayerError(PaneError, ValueError):
    """A layer has no excitation rule, or is configured so that it has no deterministic linear form at a sample."""


class UnknownLayerError(PaneError, ValueError):
    """No layer of the model has the name that was asked for."""


class NoPathError(PaneError, ValueError):
    """Nothing that the source layer emits reaches the target layer through an excitation."""


class TargetError(PaneError, ValueError):
    """A unit, class or weight tensor does not fit the layer that it selects from."""


class InputError(PaneError, ValueError):
    """The data given to a model has the wrong shape, dtype, structure or number of inputs."""


class NonFiniteError(PaneError, ValueError):
    """A NaN or an infinity stands in the input or in the weights."""


class DenseSizeError(PaneError, MemoryError):
    """A dense pair of layers would take more memory than the limit allows."""


class LoadError(PaneError, ValueError):
    """A file is missing, or is not the model, picture or weights that it should be."""


class ReleasedError(PaneError, RuntimeError):
    """A trace was asked after its memory was released."""


class ReadOnlyError(PaneError, AttributeError):
    """What belongs to the user's model was to be set on the model that wraps it."""


class SaveError(PaneError, ValueError):
    """The object cannot be saved as asked."""
