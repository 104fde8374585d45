"""What the self-check and the verdict on a map show."""

from itertools import islice

import numpy as np

from pane_keras.display.tables import Share, Table, note, page, title

END_TO_END = "end to end"
SAMPLES = 8
"""How many samples of a batch are shown."""


def residual_of(value, tolerance):
    """Returns the cell of a residual, with a warning where it is more than rounding."""
    return f"{value:.1e}{'' if value <= tolerance else '  TOO LARGE'}"


def report_text(report):
    """Returns a `Report` as a table and a verdict."""
    return f"{_table(report).text()}\n{_verdict(report)}"


def report_html(report):
    """Returns a `Report` as HTML."""
    return page(title("Self-check", _verdict(report)), _table(report).html())


def diagnosis_html(diagnosis):
    """Returns a `Diagnosis` as HTML: its sentence, and the numbers of each sample."""
    columns = [_each(diagnosis.positive), _each(diagnosis.sum)]
    samples = range(len(diagnosis.range_bits))
    rows = [
        (str(k), _classes(diagnosis, k), *(c[k] for c in columns), _plain(diagnosis.agreement[k]), _bits(diagnosis, k))
        for k in islice(samples, SAMPLES)
    ]
    head = ("sample", "next classes", "POS with theirs", "POS+NEG with theirs", "POS with -NEG", "max |D| / max |S|")
    left = len(samples) - len(rows)
    more = note(f"... {left} more samples. Rank correlations.") if left else note("Rank correlations.")
    return page(title("Diagnosis", str(diagnosis)), Table(head, tuple(rows), (0, 2, 3, 4, 5)).html(), more)


def _table(report):
    rows = {**report.layers, END_TO_END: report.end_to_end}
    cells = [
        (name, Share.of(report.shares.get(name)), residual_of(value, report.tolerance)) for name, value in rows.items()
    ]
    return Table(("layer", "E+ share", "residual"), tuple(cells), (1,))


def _verdict(report):
    verdict = "complete" if report.ok else "NOT complete"
    return f"{verdict}: largest residual {report.max_residual:.1e}, tolerance {report.tolerance:.0e}"


def _each(values):
    return [", ".join(map(_plain, row)) for row in np.asarray(values)]


def _classes(diagnosis, sample):
    return ", ".join(map(str, np.asarray(diagnosis.classes)[sample].tolist()))


def _plain(value):
    return "" if np.isnan(value) else f"{value:.2f}"


def _bits(diagnosis, sample):
    bits = diagnosis.range_bits[sample]
    return "" if np.isnan(bits) else f"2^{bits:.0f}"
