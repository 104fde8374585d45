"""What excites and what inhibits any unit of a Keras model: positive and negative excitations (PANE)."""

import importlib

from pane_keras.version import __version__

_HOME = {
    "Excitation": "excitation",
    "ExcitationLayer": "wrapping",
    "ExcitationMap": "maps",
    "PaneError": "errors",
    "PaneModel": "wrapping",
    "Trace": "trace",
    "register": "registry",
    "register_activation": "registry",
    "report": "model_report",
    "wrap": "wrapping",
}
_MODULES = ("errors", "pieces", "plotting", "testing")

__all__ = [*_HOME, *_MODULES, "__version__"]


def __getattr__(name):
    # Importing TensorFlow takes seconds, so it waits until something that needs it is asked for.
    if name in _MODULES:
        return importlib.import_module(f"pane_keras.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'pane_keras' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pane_keras.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
