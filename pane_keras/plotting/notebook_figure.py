"""Figures that a notebook shows, although pyplot, which would see to that, is left alone."""

import io
from functools import cache

from pane_keras.extras import needed


def figure_class():
    """Returns the subclass of matplotlib's Figure whose rich display is its PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return _shown(needed("matplotlib.figure", "matplotlib", "plot").Figure)


@cache
def _shown(base):
    class NotebookFigure(base):
        """A matplotlib Figure."""

        def _repr_png_(self):
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return NotebookFigure
