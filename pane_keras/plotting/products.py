"""The paper's Fig. 2 for a chosen unit: the four products of two neighbouring excitations, and what they add up to."""

from dataclasses import dataclass

import numpy as np

from pane_keras.plotting.choosing import strongest_unit, unit_words
from pane_keras.plotting.drawing import colour_bar, draw_map, draw_picture, level
from pane_keras.plotting.shown import as_pictures, in_one_unit, sample_of, summed
from pane_keras.plotting.style import caption, explained, limit, new_figure, wrapped

PRODUCTS = {"++": "excites what excites", "--": "inhibits what inhibits",
            "+-": "excites what inhibits", "-+": "inhibits what excites"}  # fmt: skip
_ROWS = (("++", "--", "P"), ("+-", "-+", "N"))
_WIDTH, _HEIGHT = 2.9, 3.2
_AROUND = 1e-3


@dataclass(frozen=True, eq=False)
class Products:
    """The products of E(source, middle) with E(middle, target) for one unit at one sample (eq. 17).

    The first sign is that from the source to the middle, the second that from the middle to the target:
    P = (++) + (--), and N = (+-) + (-+).

    Attributes:
        values: Dict "++", "--", "+-", "-+", "P", "N" -> float64 array of the source's shape, in units of
            2**log2_scale.
        log2_scale: int.
        source, middle: Outputs of the two layers at the sample.
        unit: Index of the target's unit.
        words: What is explained.
        around: The share of P and N, by the sum of magnitudes, that reaches the target around the middle.
    """

    values: dict
    log2_scale: int
    source: np.ndarray
    middle: np.ndarray
    unit: tuple
    words: str
    around: float


def products(trace, source, middle, target="logits", unit=None, *, sample=0):
    """Returns the `Products` of two excitations. Arguments and errors are those of `parts`."""
    later, earlier, direct = (trace.between(*ends) for ends in ((middle, target), (source, middle), (source, target)))
    output = np.asarray(later.output)
    sample = sample_of(output, sample)
    unit = strongest_unit(output[sample], target) if unit is None else unit
    above = later.map(target=unit)
    # Row 0 is E P', row 1 is E N': each query gives E+ and E- of its row.
    both = earlier.map(weights=[above.positive, above.negative])
    scale = np.asarray(above.log2_scale)[sample] + np.asarray(both.log2_scale)[sample]
    names = {"++": (both.positive, 0), "--": (both.negative, 1), "+-": (both.positive, 1), "-+": (both.negative, 0)}
    arrays = [np.asarray(part, "float64")[sample, row] for part, row in names.values()]
    arrays, log2_scale = in_one_unit(arrays, [scale[row] for _, row in names.values()])
    values = dict(zip(names, arrays))
    values |= {"P": values["++"] + values["--"], "N": values["+-"] + values["-+"]}
    around = _around(values, log2_scale, direct.map(target=unit), sample)
    signals = (np.asarray(pair.signal)[sample] for pair in (earlier, later))
    return Products(values, log2_scale, *signals, unit, unit_words(target, unit, output[sample]), around)


def parts(trace, source, middle, target="logits", unit=None, *, sample=0, title=None, note=None, channel_axis=-1):
    """Returns a matplotlib Figure of Fig. 2 of the paper: (++) + (--) = P and (+-) + (-+) = N, over the source.

    The first sign is that from the source to the middle, the second that from the middle to the target: "+-" is what
    excites units of the middle that inhibit the target's unit. All six maps share one scale.

    Args:
        trace: The `Trace`.
        source, middle, target: Names of three layers, one above the other, as in `Trace.between`.
        unit: Of the target: a tuple with an index for each axis, or an int where it has one axis. By default the
            unit with the largest output; of logits, the top class.
        sample: Index into the batch.
        title: By default what is explained, in words.
        note: Lines to add to the caption.
        channel_axis: Axis of the channels in a sample: -1, or 0 for `channels_first`.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: There is no such sample, or a layer has too many axes.
        PaneError: As `Trace.between` and `Excitation.map`.
    """
    found = products(trace, source, middle, target, unit, sample=sample)
    values = {name: summed(value, channel_axis) for name, value in found.values.items()}
    figure = new_figure(4 * _WIDTH, 2 * _HEIGHT + 1.2)
    title = f"{found.words}: from {source!r} through {middle!r}" if title is None else title
    figure.suptitle(wrapped(title, 4 * _WIDTH, 11), fontsize=11)
    grid = figure.add_gridspec(3, 4, height_ratios=(30, 30, 1))
    for row, (name, output) in enumerate(((source, found.source), (middle, found.middle))):
        picture = as_pictures(output[None], True, channel_axis)[0]
        label = f"{'source' if row == 0 else 'middle'}: output of {name}"
        draw_picture(figure.add_subplot(grid[row, 0]), picture, wrapped(label, _WIDTH, 13), size=9)
    top, axes = limit(*values.values()), []
    for (row, column), name in np.ndenumerate(np.array(_ROWS)):
        axes.append(figure.add_subplot(grid[row, column + 1]))
        colours = draw_map(axes[-1], values[name], top, _heading(str(name)), size=9)
    level(axes)
    colour_bar(figure.add_subplot(grid[2, 1:]), colours, found.log2_scale, "coefficient")
    explained(figure, caption(), _legend(found, middle), note)
    return figure


def _heading(name):
    if name in PRODUCTS:
        return f"({name})  {PRODUCTS[name]}"
    return {"P": "= P:  (++) + (--)", "N": "= N:  (+-) + (-+)"}[name]


def _legend(found, middle):
    words = "First sign: from the source to the middle; second: from the middle to the explained unit (paper: Fig. 2)."
    if found.around > _AROUND:
        words += (
            f"\nOther paths lead around {middle!r}: what is shown leaves out {found.around:.0%} of all that the source "
            "does to the unit."
        )
    return words


def _around(values, log2_scale, direct, sample):
    """Compares P and N with those over all paths, in the larger of the two units."""
    arrays = [values["P"], values["N"], *(np.asarray(t, "float64")[sample] for t in (direct.positive, direct.negative))]
    scales = [log2_scale] * 2 + [np.asarray(direct.log2_scale)[sample]] * 2
    (p, n, whole_p, whole_n), _ = in_one_unit(arrays, scales)
    whole = np.abs(whole_p).sum() + np.abs(whole_n).sum()
    return float((np.abs(p - whole_p).sum() + np.abs(n - whole_n).sum()) / whole) if whole else 0.0
