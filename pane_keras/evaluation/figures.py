"""Figures 3, 4 and 6 of the paper: curves over the size of the region, one line a method, with confidence bands.

The panels share their axes: PANE in all its rankings, methods over inner layers, gradients, guided methods; POS and
POS+NEG stand in each of them. Colours are Okabe and Ito's, which any colour vision tells apart; markers differ as well.
"""

import textwrap
from dataclasses import dataclass

import numpy as np

from pane_keras.evaluation import experiments as known
from pane_keras.evaluation.tables import series
from pane_keras.extras import needed
from pane_keras.plotting.notebook_figure import figure_class

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_STYLES = {"": "-", "value": "-", "absolute": "--", "contribution": ":"}
_FIXED = {"pos": 0, "pos+neg": 1}
_PANELS = (
    ("PANE", (*known.COEFFICIENTS, "pos-contribution", "neg-contribution", "pos+neg-contribution")),
    ("inner layers", ("grad-cam", "grad-cam++", "score-cam", "full-grad")),
    ("gradients, and chance", ("gradient", "integrated-gradients", "smooth-grad", "random")),
    ("guided", ("guided-backpropagation", "guided-pane", "guided-grad-cam", "guided-full-grad")),
)  # fmt: skip


@dataclass(frozen=True)
class Curves:
    """One figure.

    Attributes:
        name: Of the file, without ending.
        experiment, quantity: What is drawn.
        title, axis: Of the figure and its vertical axis.
        percent: Whether the axis is in percent.
    """

    name: str
    experiment: str
    quantity: str
    title: str
    axis: str
    percent: bool = False


FIGURES = (
    Curves("figure3_remove_salient", "remove-salient", known.CHANGE, "Removing salient pixels (paper: Fig. 3); "
           "a faithful map drops the probability much", "mean change of the probability"),
    Curves("figure4_remove_minor", "remove-minor", known.CHANGE, "Removing minor pixels (paper: Fig. 4); "
           "a faithful map changes little", "mean change of the probability"),
    Curves("figure6_guided_attack", "guided-attack", known.SUCCESS, "Guided attack (paper: Fig. 6); "
           "a faithful map fools the network from a small region", "samples whose class changed", True),
)  # fmt: skip


def draw(rows, curves):
    """Returns a matplotlib Figure, or None where the experiment was not run.

    Args:
        rows: `experiments.Row`s.
        curves: One of `FIGURES`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    lines = series(rows, curves.experiment, curves.quantity)
    # Both ways of counting are in the tables; here the first one of them.
    lines = [line for line in lines if line.counting == lines[0].counting]
    panels = [(title, _panel(names, lines)) for title, names in _PANELS]
    panels = [(title, shown) for title, shown in panels if any(map(_is_own, shown))]
    panels = panels or ([("", lines)] if lines else [])
    if not panels:
        return None
    columns = min(2, len(panels))
    rows_of_panels = -(-len(panels) // columns)
    figure = figure_class()((5.6 * columns, 1.2 + 4.4 * rows_of_panels), layout="constrained")
    axes = figure.subplots(rows_of_panels, columns, sharey=True, squeeze=False).ravel()
    figure.suptitle(_wrapped(curves.title, columns), fontsize=11)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for ax, (title, shown) in zip(axes, panels):
        _draw_panel(ax, shown, title, max(line.samples for line in lines))
    _name_axes(figure, axes[0], curves, lines[0].counting, columns)
    return figure


def _name_axes(figure, first, curves, counting, columns):
    figure.supylabel(curves.axis, fontsize=9)
    if curves.percent:
        first.yaxis.set_major_formatter(needed("matplotlib.ticker", "matplotlib", "plot").PercentFormatter(1))
    unit = {"pixels": "pixels", "elements": "elements (pixel and channel)"}[counting]
    note = "Bands: 95 % confidence by bootstrap over samples. Dashed: ranked by absolute value; dotted: contribution."
    figure.supxlabel(_wrapped(f"size of the region in percent of the {unit}\n{note}", columns), fontsize=9)


def _is_own(line):
    """Whether it does not stand in every panel."""
    return line.method not in _FIXED or line.ranking != "value"


def _panel(names, lines):
    """The lines of these methods; POS and POS+NEG by value stand in every panel."""
    return [line for line in lines if line.method in names or not _is_own(line)]


def _draw_panel(ax, lines, title, samples):
    others = iter(range(len(_FIXED), len(_COLOURS) + 10))
    looks = dict(_FIXED)
    for line in lines:
        if line.method not in looks:
            looks[line.method] = next(others)
        look = looks[line.method] % len(_COLOURS)
        how = {"color": _COLOURS[look], "marker": _MARKERS[look], "linestyle": _STYLES[line.ranking]}
        few = "" if line.samples == samples else f", {line.samples} samples"
        ax.plot(line.regions, line.value, label=line.label + few, markersize=4, linewidth=1.4, **how)
        ax.fill_between(line.regions, line.low, line.high, color=_COLOURS[look], alpha=0.12, linewidth=0)
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_title(title, fontsize=10)
    ax.grid(color="0.92")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlim(0, max(np.max(line.regions) for line in lines) * 1.03)
    columns = 3 if len(lines) > 6 else 2
    ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=columns, frameon=False, handlelength=3)


def _wrapped(text, columns):
    return "\n".join("\n".join(textwrap.wrap(line, 62 * columns)) for line in text.splitlines())
