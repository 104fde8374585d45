"""Tables: every number as CSV, and tables I to IV of the paper (as far as they apply) as rows of text."""

import csv
import io
from dataclasses import asdict, dataclass, fields

import numpy as np

from pane_keras.evaluation import experiments as known
from pane_keras.evaluation.methods import methods as all_methods


@dataclass(frozen=True)
class Series:
    """One quantity of one method and ranking over the regions.

    Attributes:
        method, ranking, counting: As in `experiments.Row`.
        label: The method's title, with the ranking where it is not by value.
        regions: Percents, (regions,), or names of layers.
        value, low, high: Arrays (regions,).
        samples: Over how many samples.
    """

    method: str
    ranking: str
    counting: str
    label: str
    regions: tuple
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    samples: int


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What it shows.
        head: Its columns' names.
        body: Tuples of cells.
    """

    title: str
    head: tuple
    body: tuple

    def markdown(self):
        """Returns the table in Markdown."""
        lines = [self.head, ("---", *["---:"] * (len(self.head) - 1)), *self.body]
        return "\n".join([f"**{self.title}**", "", *("| " + " | ".join(cells) + " |" for cells in lines)])


# (experiment, quantity, number in the paper, title, format)
_REGIONS = (
    ("remove-salient", known.CHANGE, "Table I and Fig. 3", "Removing salient pixels: mean change of the probability"),
    ("remove-minor", known.CHANGE, "Fig. 4", "Removing minor pixels: mean change of the probability"),
    ("remove-negative", known.CHANGE, "Table II", "Removing negative salient pixels: mean change of the probability"),
    ("logit-salient", known.ACCUMULATED, "Table III", "Lowering salient pixels by 1/255: sum of the logit's changes"),
    ("logit-salient", known.SHARE, "Table III", "Lowering salient pixels by 1/255: samples whose logit fell"),
    ("logit-negative", known.ACCUMULATED, "Table IV", "Lowering negative pixels by 1/255: sum of the logit's changes"),
    ("logit-negative", known.SHARE, "Table IV", "Lowering negative pixels by 1/255: samples whose logit rose"),
    ("guided-attack", known.SUCCESS, "Fig. 6", "Guided attack: samples whose class changed"),
    ("guided-attack", known.WHOLE, "V.C.3", "The attack on all pixels: samples whose class changed"),
)
_AGREEMENTS = ("class-sensitivity", "parts-agreement", "randomisation")
_PERCENT = (known.SHARE, known.SUCCESS, known.WHOLE)


def series(rows, experiment, quantity):
    """Returns the `Series` of an experiment in the order of the rows.

    Args:
        rows: `experiments.Row`s.
        experiment, quantity: Names.
    """
    grouped = {}
    for row in rows:
        if (row.experiment, row.quantity) == (experiment, quantity):
            grouped.setdefault((row.method, row.ranking, row.counting), []).append(row)
    several = len({counting for *_, counting in grouped}) > 1
    return [_series(key, found, several) for key, found in grouped.items()]


def tables(rows):
    """Returns the `Table`s of all experiments that were run, with the paper's numbers in their titles."""
    found = [(parts, series(rows, *parts[:2])) for parts in _REGIONS]
    made = [_over_regions(parts, lines) for parts, lines in found if lines]
    agreements = [row for row in rows if row.experiment in _AGREEMENTS]
    return made + ([_agreements(agreements)] if agreements else [])


def csv_text(rows):
    """Returns every number as CSV, with a header; an empty cell where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(known.Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if value != value else value for name, value in asdict(row).items()})
    return text.getvalue()


def share(value):
    """Returns a share in percent, in words: 100 % only where it is all of them."""
    return "" if np.isnan(value) else f"{np.floor(value * 1000 + 1e-9) / 10:.1f} %"


def number(value):
    """Returns a number with three figures; empty for a NaN."""
    return "" if np.isnan(value) else f"{value:.3g}"


def title_of(method):
    """Returns what tables call a method."""
    return _titles()[method]


def _titles():
    return {name: method.title for name, method in all_methods().items()}


def _series(key, found, several):
    method, ranking, counting = key
    about = [ranking] * (ranking not in ("", "value")) + [counting] * several
    label = title_of(method) + (f" ({', '.join(about)})" if about else "")
    value, low, high = (np.array([getattr(row, part) for row in found]) for part in ("value", "low", "high"))
    return Series(*key, label, tuple(row.region for row in found), value, low, high, found[0].samples)


def _over_regions(parts, lines):
    _, quantity, place, title = parts
    head = ("method", *(f"{region:g} %" for region in lines[0].regions), "samples")
    written = share if quantity in _PERCENT else number
    body = tuple((line.label, *map(written, line.value), str(line.samples)) for line in lines)
    return Table(f"{title} (paper: {place})", head, body)


def _agreements(rows):
    head = ("experiment", "method", "at layer", "quantity", "mean", "95 % interval", "samples")
    body = tuple(
        (
            row.experiment,
            title_of(row.method),
            str(row.region),
            row.quantity,
            f"{row.value:.3f}" if row.value == row.value else "constant",
            f"{row.low:.3f} to {row.high:.3f}" if row.low == row.low else "",
            str(row.samples),
        )
        for row in rows
    )
    return Table("Class sensitivity, agreement of POS with -NEG, randomisation", head, body)
