"""Where the commands write their results, and how they put things in words and numbers."""

from pathlib import Path

import numpy as np

from pane_keras.files import saving, written
from pane_keras.plotting import plot, save_png

SELF_CHECK_FAILED = 3
"""Exit code where everything was written, and its parts do not add up."""


class OutputFolder:
    """The folder that results go to; it is made where there is none.

    Args:
        path: The folder.

    Raises:
        SaveError: It cannot be made.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._taken = set()
        with saving(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def file(self, name):
        """Returns the path of a new PNG; pictures of the same name in one run get a number."""
        stem, number = f"{name}_pane", 1
        while stem in self._taken:
            number += 1
            stem = f"{name}_pane_{number}"
        self._taken.add(stem)
        return self.path / f"{stem}.png"


def write_maps(maps, picture, title, file, arguments, *, channel_axis=-1, note=None):
    """Writes the figure and the arrays that were asked for, and returns their paths as {"figure": ..., "maps": ...}.

    Args:
        maps: The `ExcitationMap` of one sample.
        picture: uint8 array (height, width, channels).
        title: Of the figure.
        file: Path of the PNG; the arrays get the ending .npz.
        arguments: The parsed arguments `png` and `npz`.
        channel_axis: As for `plot`.
        note: Lines below the figure, or None.

    Raises:
        SaveError: The file system refuses.
    """
    paths = {"figure": file if arguments.png else None, "maps": file.with_suffix(".npz") if arguments.npz else None}
    if arguments.png:
        figure = plot(maps, picture[None], titles=[title], note=note, channel_axis=channel_axis, verdict=False)
        save_png(figure, file)
    if arguments.npz:
        arrays = {name: np.asarray(getattr(maps, name)) for name in _ARRAYS if getattr(maps, name) is not None}
        written(paths["maps"], lambda file: np.savez_compressed(file, **arrays))
    return paths


_ARRAYS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale", "signal")


def map_facts(maps, diagnosis, report):
    """Returns what JSON says of a map: its scales, the diagnosis or None, and the self-check."""
    diagnosed = diagnosis and {
        "text": str(diagnosis),
        "other_classes": diagnosis.classes[0],
        "positive_correlation": diagnosis.positive[0],
        "sum_correlation": diagnosis.sum[0],
        "parts_agreement": diagnosis.agreement[0],
        "range_bits": diagnosis.range_bits[0],
    }
    check = {"ok": report.ok, "max_residual": report.max_residual, "tolerance": report.tolerance}
    scales = {name: np.asarray(getattr(maps, name))[0] for name in ("log2_scale", "sum_log2_scale")}
    return {**scales, "diagnosis": diagnosed, "self_check": check}


def ranked(scores, count=5):
    """Returns the `count` highest of a vector of scores as (class, score), best first."""
    best = np.argsort(-np.asarray(scores), kind="stable")[:count]
    return [(int(k), float(scores[k])) for k in best]


def said_check(console, report):
    """Says the self-check's result in one sentence, green or red."""
    console.say(f"  {verdict(report)}", "green" if report.ok else "red")


def verdict(report):
    """Returns the self-check's result in one sentence."""
    return (
        f"self-check {'passed' if report.ok else 'FAILED'}: largest residual {report.max_residual:.1e} "
        f"over {len(report.layers)} layers and end to end (rounding is up to {report.tolerance:.0e})"
    )
