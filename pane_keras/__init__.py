"""What excites and what inhibits any unit of a Keras model: positive and negative excitations (PANE)."""

import importlib
from typing import TYPE_CHECKING

from pane_keras.version import __version__

if TYPE_CHECKING:
    from pane_keras import errors, pieces, plotting, testing
    from pane_keras.errors import PaneError
    from pane_keras.excitation import Excitation
    from pane_keras.excitation_layer import ExcitationLayer
    from pane_keras.explorer import explore
    from pane_keras.maps import ExcitationMap
    from pane_keras.model_report import report
    from pane_keras.registry import register, register_activation
    from pane_keras.trace import Trace
    from pane_keras.wrapping import PaneModel, wrap

_HOME = {
    "Excitation": "excitation",
    "ExcitationLayer": "excitation_layer",
    "ExcitationMap": "maps",
    "PaneError": "errors",
    "PaneModel": "wrapping",
    "Trace": "trace",
    "explore": "explorer",
    "register": "registry",
    "register_activation": "registry",
    "report": "model_report",
    "wrap": "wrapping",
}
_MODULES = ("errors", "pieces", "plotting", "testing")

__all__ = [
    "Excitation",
    "ExcitationLayer",
    "ExcitationMap",
    "PaneError",
    "PaneModel",
    "Trace",
    "__version__",
    "errors",
    "explore",
    "pieces",
    "plotting",
    "register",
    "register_activation",
    "report",
    "testing",
    "wrap",
]


if not TYPE_CHECKING:  # a misspelt name is an error for a type checker

    def __getattr__(name):
        # Importing TensorFlow takes seconds, so it waits until something that needs it is asked for.
        if name in _MODULES:
            return importlib.import_module(f"pane_keras.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'pane_keras' has no attribute {name!r}")
        return getattr(importlib.import_module(f"pane_keras.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
