"""Figures of what a trace tells, with matplotlib. Needs the extra `pane-keras[plot]`.

Each function returns a matplotlib Figure that a notebook shows and `save_png` writes; pyplot is left alone.
"""

from pane_keras.plotting.channel_matrix import channels
from pane_keras.plotting.class_comparison import classes
from pane_keras.plotting.laid_over import overlay
from pane_keras.plotting.layer_strip import strip
from pane_keras.plotting.products import parts
from pane_keras.plotting.saving import save_png
from pane_keras.plotting.side_by_side import plot, plot_trace
from pane_keras.plotting.style import CAPTION, COLOURS, PERCENTILE, limit

__all__ = [
    "CAPTION",
    "COLOURS",
    "PERCENTILE",
    "channels",
    "classes",
    "limit",
    "overlay",
    "parts",
    "plot",
    "plot_trace",
    "save_png",
    "strip",
]
