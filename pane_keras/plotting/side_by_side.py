"""The picture, POS, NEG and POS+NEG side by side.

POS and NEG share a scale; POS+NEG has its own, since on a deep network it is many orders of magnitude smaller.
"""

import numpy as np

from pane_keras.errors import InputError, PaneError
from pane_keras.plotting.drawing import colour_bar, draw_map, draw_picture, level
from pane_keras.plotting.shown import beside, shown
from pane_keras.plotting.style import caption, explained, limit, new_figure, wrapped

NAMES = {"positive": "POS", "negative": "NEG", "sum": "POS + NEG"}
_WIDTH, _HEIGHT = 2.9, 3.8


def plot(maps, pictures=None, *, contribution=False, titles=None, note=None, quantity=None, channel_axis=-1,
         verdict=True):  # fmt: skip
    """Returns a matplotlib Figure with a row for each sample: the picture, POS, NEG and POS+NEG.

    Maps over one axis are drawn as bars, over two as images, over three as images with the channels summed.

    Args:
        maps: An `ExcitationMap`.
        pictures: Array (batch, height, width) or (batch, height, width, channels) to show beside the maps; by
            default the signal at which they were taken.
        contribution: Whether to show coefficient times signal instead of the coefficient.
        titles: One string for each sample, or for each sample and unit; by default what is explained, in words.
        note: Lines to add to the caption.
        quantity: What the colour bars measure; by default what the maps say, "coefficient" or "contribution".
        channel_axis: Axis of the channels in a sample of the maps: -1, or 0 for `channels_first`.
        verdict: Whether to add the verdict of `maps.diagnose()`, for maps that `saliency` or `explain` returned. It
            takes the maps of two more classes, and a new trace where theirs is gone.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: The maps, pictures or titles do not fit together, or have too many axes, or they are to be
            multiplied by their signal a second time.
    """
    said = _verdict(maps) if verdict else None
    maps = maps.contribution() if contribution else maps
    quantity = quantity or maps.quantity
    rows = shown(maps, channel_axis)
    pixels = beside(maps, pictures, len(rows), channel_axis)
    titles = checked_titles(titles, maps, len(rows))
    columns = 3 + (pixels[0] is not None)
    figure = new_figure(_WIDTH * columns, _HEIGHT * len(rows))
    over = f"{maps.over or 'signal'}" if pictures is None else "picture"
    for row, picture, title, part in zip(rows, pixels, titles, figure.subfigures(len(rows), 1, squeeze=False)[:, 0]):
        part.suptitle(wrapped(title, _WIDTH * columns, 11), fontsize=11)
        _draw(row, picture, over, part, columns, quantity)
    explained(figure, caption(quantity), note, said)
    return figure


def plot_trace(trace, target=None, pictures=None, *, names=None, verdict=True, output=None, split_below=None, **how):
    """Returns the figure of each sample's class over the input: `Trace.saliency` and `plot` in one.

    Args:
        trace: The `Trace`.
        target, output, split_below: As in `Trace.saliency`.
        pictures: As in `plot`; where the model has several inputs, a dict of them by the names of some inputs.
        names: The classes' names, to be named in the titles.
        verdict: As in `plot`.
        **how: Arguments of `plot`.

    Returns:
        A Figure; a dict of them by input name where the model has several inputs.

    Raises:
        InputError: The pictures are not told by which input they stand beside.
        PaneError: As `Trace.saliency` and `plot`.
    """
    pictures = _by_input(pictures, trace.input_names)
    maps = trace.saliency(target, output=output, split_below=split_below)
    titles = how.pop("titles", None) or class_titles(np.asarray(trace.logits(output)), target, names)
    note = "\n".join(line for line in (how.get("note"), split_note(split_below)) if line)
    settings = {**how, "titles": titles, "note": note, "verdict": verdict}
    if isinstance(maps, dict):
        return {name: plot(one, pictures.get(name), **settings) for name, one in maps.items()}
    return plot(maps, pictures.get(trace.input_names[0]), **settings)


def _by_input(pictures, names):
    """A dict of pictures by the name of the input that they stand beside; one array stands beside the only input."""
    if pictures is None:
        return {}
    if not isinstance(pictures, dict) and len(names) == 1:
        return {names[0]: pictures}
    if not isinstance(pictures, dict) or not set(pictures) <= set(names):
        given = list(pictures) if isinstance(pictures, dict) else type(pictures).__name__
        raise InputError(f"Expected pictures as a dict by the names of the inputs {list(names)}. Received: {given}.")
    return pictures


def _verdict(maps):
    """What the maps say of themselves, where they can; a figure is drawn also where the model has changed since."""
    if maps.asker is None:
        return None
    try:
        return str(maps.diagnose())
    except PaneError as error:
        return f"No verdict: {error}"


def checked_titles(titles, maps, count):
    """Returns a title for each of `count` maps, by default what is explained. Raises InputError."""
    titles = [f"{maps.of}, over {maps.over}"] * count if titles is None else list(titles)
    if len(titles) != count:
        raise InputError(f"Expected a title for each of the {count} maps. Received: {len(titles)} titles.")
    return titles


def class_titles(logits, target, names=None):
    """Returns the class that is explained at each sample, with its logit, in words.

    Args:
        logits: Array (batch, classes).
        target: As in `Trace.saliency`.
        names: The classes' names, or None.

    Raises:
        InputError: There are fewer names than classes.
    """
    classes = np.argmax(logits, axis=1) if target is None else np.broadcast_to(np.asarray(target), len(logits))
    return [f"{class_name(k, row, names)}: logit {row[k]:.3g}" for k, row in zip(classes % logits.shape[1], logits)]


def class_name(number, logits, names):
    """Returns a class in words. Raises InputError where there are fewer names than logits."""
    if names is None:
        return f"class {number}"
    if len(names) < len(logits):
        raise InputError(f"Expected a name for each of the {len(logits)} classes. Received: {len(names)} names.")
    return f"{names[number]} (class {number})"


def split_note(split_below):
    """Returns what positive means where it is told from negative only below a layer, or nothing."""
    if split_below is None:
        return ""
    return (
        f"Positive is told from negative at and below {split_below!r} only: here it means towards the signs of that "
        "layer's units, each weighted by what it does to the explained one."
    )


def _draw(row, picture, over, figure, columns, quantity):
    grid = figure.add_gridspec(2, columns, height_ratios=(30, 1))
    axes = [figure.add_subplot(grid[0, k]) for k in range(columns)]
    if picture is not None:
        draw_picture(axes[0], picture, over)
    both = limit(row.positive, row.negative)
    for ax, (name, title) in zip(axes[-3:], NAMES.items()):
        values, scale = row.part(name)
        colours = draw_map(ax, values, limit(values) if name == "sum" else both, title)
        if name != "positive":
            below = grid[1, -3:-1] if name == "negative" else grid[1, -1]
            colour_bar(figure.add_subplot(below), colours, scale, quantity)
    level(axes[-3:-1])
