"""Several classes of one picture, a row each: does the map say anything of the class at all?"""

import numpy as np

from pane_keras.diagnosis import rank_correlations
from pane_keras.errors import InputError
from pane_keras.plotting.shown import sample_of
from pane_keras.plotting.side_by_side import NAMES, class_name, plot, split_note

TOP = 3
_DIFFERENCE = (
    "Rank correlation 1: two classes order the places alike, so the map says nothing of the class; "
    "-1: they order them the other way round."
)


def classes(trace, classes=None, *, names=None, sample=0, source="input", target="logits", split_below=None, **how):
    """Returns a matplotlib Figure with a row for each class: the picture, POS, NEG and POS+NEG.

    The title of a row holds the logit, and Spearman's rank correlation of its maps with those of the first row.

    Args:
        trace: The `Trace`.
        classes: Ints; by default those with the three highest logits.
        names: The names of all classes, in the order of the logits, or None.
        sample: Index into the batch.
        source: What the maps lie over: "input", the name of an input or of a layer.
        target: "logits", or the layer of one of several outputs.
        split_below: As in `Excitation.map`.
        **how: Arguments of `plot`; `pictures` has one picture.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: There is no such sample, no class, or too few names, or the logits have more than one axis.
        PaneError: As `Trace.between` and `Excitation.map`.
    """
    pair = trace.between(source, target)
    sample = sample_of(pair.output, sample)
    logits = np.asarray(pair.output)[sample]
    chosen = _chosen(classes, logits)
    maps = pair.map(target=chosen, split_below=split_below).samples(slice(sample, sample + 1))
    titles = [class_name(k, logits, names) for k in chosen]
    titles = [f"{k}. {title}: logit {logits[c]:.3g}" for k, (c, title) in enumerate(zip(chosen, titles), 1)]
    if len(chosen) > 1:
        alike = ["the others are compared with it", *_alike(maps)]
        titles = [f"{title}\n{words}" for title, words in zip(titles, alike)]
    notes = [_DIFFERENCE if len(chosen) > 1 else None, split_note(split_below), how.pop("note", None)]
    return plot(maps, titles=titles, note="\n".join(note for note in notes if note), **how)


def _chosen(classes, logits):
    if logits.ndim != 1:
        raise InputError(
            f"classes() compares logits of shape (batch, classes). This output has the shape (batch, *{logits.shape}): "
            "ask between(source, target).map(target=[unit, ...]).plot()."
        )
    if classes is None:
        return [int(k) for k in np.argsort(-logits, kind="stable")[:TOP]]
    chosen = np.atleast_1d(np.asarray(classes))
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not len(chosen):
        raise InputError(f"Expected classes as a list of ints. Received: classes={classes!r}.")
    if not ((-len(logits) <= chosen) & (chosen < len(logits))).all():
        raise InputError(f"The classes are 0 to {len(logits) - 1}. Received: classes={classes!r}.")
    return [int(k) % len(logits) for k in chosen]


def _alike(maps):
    """For each class but the first: the rank correlations of its maps with those of the first, in words."""
    values = {}
    for part in NAMES:
        first, *others = np.asarray(getattr(maps, part))[0]
        values[part] = rank_correlations(others, [first] * len(others)) if others else []
    for each in zip(*values.values()):
        yield "rank correlation with 1.: " + ", ".join(
            f"{name} {value:.2f}" if np.isfinite(value) else f"{name} unknown, it is constant"
            for name, value in zip(NAMES.values(), each)
        )
