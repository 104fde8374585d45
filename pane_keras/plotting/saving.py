"""Figures on disk."""

import io
from pathlib import Path

from pane_keras.files import written


def save_png(figure, path, dpi=130):
    """Writes a figure as PNG, whole or not at all, and returns its path.

    Args:
        figure: A matplotlib Figure.
        path: The file, whose folder exists.
        dpi: Pixels an inch.

    Raises:
        SaveError: The file cannot be written.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    return written(Path(path), lambda file: file.write(drawn.getvalue()))
