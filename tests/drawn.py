"""What a figure shows, read from its pixels, its words and the arrays of its artists; and maps to draw."""

import numpy as np

from pane_keras.maps import ExcitationMap


def excitation(positive, negative, log2_scale=0, sum_log2_scale=0, signal=None):
    """Returns maps of "class 2" over "pixels" with these entries."""
    positive, negative = np.asarray(positive, "float32"), np.asarray(negative, "float32")
    scales = [np.full(len(positive), scale, "int32") for scale in (log2_scale, sum_log2_scale)]
    return ExcitationMap(positive, negative, positive + negative, *scales, signal, over="pixels", of="class 2")


def one_map(values, signal=None):
    """Returns maps whose positive part is `values`, (batch, *shape), and whose negative part is zero."""
    return excitation(values, np.zeros_like(values), signal=signal)


def all_axes(figure):
    """All axes, those of subfigures too, in order."""
    return [*figure.axes, *(ax for part in figure.subfigs for ax in all_axes(part) if ax not in figure.axes)]


def panels(figure):
    """The axes by their titles, without the colour bars; of equal titles the last."""
    return {ax.get_title(): ax for ax in all_axes(figure) if ax.get_title()}


def array_of(ax):
    """The values that the last image of an axis shows."""
    return np.asarray(ax.images[-1].get_array(), "float64")


def rendered(figure):
    """The pixels of a figure, (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def colour(pixels, ax, x, y):
    """The colour at a point of an axis, in the rendered figure."""
    column, row = ax.transData.transform((x, y)).astype(int)
    return pixels[pixels.shape[0] - row, column]


def redness(pixels, ax, x, y):
    """How much more red than blue there is at a point of an axis."""
    red, _, blue = colour(pixels, ax, x, y)
    return red - blue


def texts(figure):
    """Everything that is written in a figure, with single spaces."""
    found = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return [" ".join(text.split()) for text in found if text]


def words(figure):
    """The same in one string."""
    return " | ".join(texts(figure))


def outside(figure):
    """The texts that reach out of the figure."""
    boxes = _boxes(figure)
    width, height = figure.bbox.width, figure.bbox.height
    return [text for text, b in boxes if min(b.x0, b.y0) < -1 or b.x1 > width + 1 or b.y1 > height + 1]


def overlapping(figure):
    """Pairs of texts that lie over each other."""
    boxes = _boxes(figure)
    return [(a, b) for k, (a, box) in enumerate(boxes) for b, other in boxes[:k] if _area(box, other) > 4]


def _boxes(figure):
    """(text, box) of what is drawn: of the ticks, those within the limits of their axis."""
    from matplotlib.text import Text

    rendered(figure)
    ticks = {id(t) for ax in all_axes(figure) for axis in (ax.xaxis, ax.yaxis) for t in axis.get_ticklabels()}
    drawn = {id(t) for ax in all_axes(figure) if ax.axison for t in _ticks(ax)}
    found = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    return [(t.get_text(), t.get_window_extent()) for t in found if id(t) not in ticks or id(t) in drawn]


def _ticks(ax):
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels = zip(axis.get_majorticklocs(), axis.get_ticklabels())
        yield from (label for at, label in labels if low <= at <= high)


def _area(a, b):
    return max(0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0, min(a.y1, b.y1) - max(a.y0, b.y0))
