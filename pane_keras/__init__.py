"""What excites and what inhibits any unit of a Keras model: positive and negative excitations (PANE)."""

from pane_keras import errors, pieces
from pane_keras.errors import PaneError
from pane_keras.excitation import Excitation
from pane_keras.maps import ExcitationMap
from pane_keras.registry import register, register_activation
from pane_keras.trace import Trace
from pane_keras.version import __version__
from pane_keras.wrapping import ExcitationLayer, PaneModel, wrap

__all__ = [
    "Excitation",
    "ExcitationLayer",
    "ExcitationMap",
    "PaneError",
    "PaneModel",
    "Trace",
    "__version__",
    "errors",
    "pieces",
    "register",
    "register_activation",
    "wrap",
]
