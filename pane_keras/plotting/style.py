"""What all figures share: colours, limits, captions and the words for scales.

Blue to red through white at zero, readable with any colour vision. Colours saturate at a high percentile, so one
extreme pixel does not bleach the rest.
"""

import textwrap

import numpy as np

from pane_keras.extras import needed
from pane_keras.plotting.notebook_figure import figure_class

COLOURS = "RdBu_r"
PERCENTILE = 99.5
_SIGNS = "positive: towards the sign of the explained unit (its value without its bias); negative: against it."
_READING = {
    "coefficient": "Red is above zero, blue below. "
    "A coefficient also carries the sign of the signal that it multiplies.",
    "contribution": "Red raises its value, blue lowers it. A contribution is the coefficient times the signal.",
}
_LETTERS_AN_INCH = 14


def caption(quantity="coefficient", place="Channels are summed."):
    """Returns what to read a figure by: what positive means, what the colours mean, and where they end.

    Args:
        quantity: "contribution"; whatever else is measured is a coefficient.
        place: What one place of the map stands for.
    """
    reading = _READING.get(quantity, _READING["coefficient"])
    return f"{_SIGNS} {reading} {place} Colours saturate at the {PERCENTILE}th percentile of the values."


CAPTION = caption()


def limit(*parts):
    """Returns the value at which colours saturate, from 0 up: the same for all arrays of `parts`.

    It is a high percentile of what is not zero: of a map that is mostly zero, the plain percentile would be zero.
    """
    sizes = np.abs(np.concatenate([part.ravel() for part in parts]))
    sizes = sizes[sizes > 0]
    return float(np.percentile(sizes, PERCENTILE)) if sizes.size else 1.0


def in_units(quantity, log2_scale):
    """Returns the label of a colour bar, with its unit where that is not 1."""
    return quantity + (f", in units of 2^{int(log2_scale)}" if log2_scale else "")


def power(log2_scale):
    """Returns " x 2^k" to stand behind a number, or nothing where the scale is 1."""
    return f" × 2^{int(log2_scale)}" if log2_scale else ""


def wrapped(text, width, letters=_LETTERS_AN_INCH):
    """Returns text in lines that fit into so many inches.

    Args:
        text: Its own line breaks are kept.
        width: Inches.
        letters: How many letters of the font an inch holds; 14 of size 8.
    """
    return "\n".join("\n".join(textwrap.wrap(line, int(letters * width))) for line in text.splitlines())


def explained(figure, *paragraphs):
    """Writes what is not empty below a figure, in lines that fit, and makes the figure higher by as much."""
    width, height = figure.get_size_inches()
    text = wrapped("\n".join(text for text in paragraphs if text), width)
    figure.set_size_inches(width, height + 0.16 * len(text.splitlines()) + 0.15)
    figure.supxlabel(text, fontsize=8, color="0.3")


def matplotlib(module):
    """Returns a module of matplotlib. Raises MissingExtraError."""
    return needed(f"matplotlib.{module}", "matplotlib", "plot")


def new_figure(width, height):
    """Returns an empty figure of so many inches, which no window and no global state know of."""
    figure = figure_class()((width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
    return figure
