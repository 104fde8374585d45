"""Packages that only some parts of the library need, and what to say where one is missing."""

import importlib

from pane_keras.errors import PaneError


class MissingExtraError(PaneError, ImportError):
    """A package that this part of the library needs is not installed."""


def needed(module, package, extra):
    """Returns an imported module.

    Args:
        module: Its name.
        package: What it belongs to, for the message.
        extra: The extra of `pane-keras` that installs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing(package, extra) from None


def missing(package, extra):
    """Returns the `MissingExtraError` that says how to install a package."""
    return MissingExtraError(f'This needs {package}, and it is not installed: pip install "pane-keras[{extra}]".')
