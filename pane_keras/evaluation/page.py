"""The report: one HTML file with the settings, what the numbers say in sentences, the tables and the figures."""

import base64
import html

import numpy as np

from pane_keras.evaluation import experiments as known
from pane_keras.evaluation.tables import number, series, share, tables, title_of

# The share of samples that POS+NEG is to move as intended at every size of the region (the paper: 99.8 % and more).
INTENDED = 0.995
_STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 12px; margin: 0 0 2em; }
.wide { overflow-x: auto; }
caption { text-align: left; font-weight: bold; padding: .4em 0; font-size: 14px; }
td, th { padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
dt { font-weight: bold; } dd { margin: 0 0 .3em 1em; overflow-wrap: anywhere; }
img { max-width: 100%; }
"""


def verdicts(rows):
    """Returns what the numbers say, as a list of sentences; nothing is said of what was not run.

    Args:
        rows: `experiments.Row`s.
    """
    return [*_logits(rows), *_removal(rows), *_negative(rows), *_attack(rows), *_agreements(rows), *_randomised(rows)]


def page(results, about, figures):
    """Returns the report as HTML that needs no other file.

    Args:
        results: `runner.Results`.
        about: {word: text}: model, data and settings.
        figures: {title: PNG as bytes}.
    """
    said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in verdicts(results.rows))
    left = "".join(f"<li>{html.escape(f'{what}: {why}')}</li>" for what, why in results.left_out.items())
    words = "".join(f"<dt>{html.escape(word)}</dt><dd>{html.escape(str(text))}</dd>" for word, text in about.items())
    methods = "".join(f"<dt>{html.escape(m.title)}</dt><dd>{html.escape(m.about)}</dd>" for m in results.methods)
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Do the maps tell the truth?</title>',
            f"<style>{_STYLE}</style></head><body><h1>Do the maps tell the truth?</h1>",
            "<p>The experiments of section V of the PANE paper on one model and its data.</p>",
            f"<h2>What the numbers say</h2><ul>{said}</ul>" if said else "",
            f"<h2>Left out</h2><ul>{left}</ul>" if left else "",
            "<h2>Figures</h2>" + "".join(_image(title, png) for title, png in figures.items()) if figures else "",
            "<h2>Tables</h2>" + "".join(map(_table, tables(results.rows))),
            f"<h2>Model, data and settings</h2><dl>{words}</dl><h2>Methods</h2><dl>{methods}</dl></body></html>\n",
        ]
    )


def _image(title, png):
    data = base64.b64encode(png).decode()
    return f'<p><img alt="{html.escape(title)}" src="data:image/png;base64,{data}"></p>'


def _table(table):
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in cells) + "</tr>" for cells in table.body)
    return f'<div class="wide"><table><caption>{html.escape(table.title)}</caption><tr>{head}</tr>{body}</table></div>'


def _by_value(rows, experiment, quantity):
    """{method: Series} of the order by value, over pixels where those were counted."""
    found = [line for line in series(rows, experiment, quantity) if line.ranking in ("value", "")]
    counting = {line.counting for line in found}
    first = "pixels" if "pixels" in counting else next(iter(counting), "")
    return {line.method: line for line in found if line.counting == first}


def _logits(rows):
    for experiment, did in (("logit-salient", "lowers"), ("logit-negative", "raises")):
        lines = _by_value(rows, experiment, known.SHARE)
        for method in ("pos+neg", "pos+neg-float32", "pos"):
            if method in lines:
                yield _intended(lines[method], title_of(method), did, method == "pos+neg")


def _intended(line, title, did, judged):
    k = int(np.argmin(line.value))
    where = "highest" if did == "lowers" else "lowest"
    text = (
        f"Taking 1/255 off the pixels that {title} ranks {where} {did} the logit of at least {share(line.value[k])} of "
        f"{line.samples} samples, whatever the size of the region; fewest at {line.regions[k]:g} %."
    )
    if not judged:
        return text
    reached = "reached" if line.value[k] >= INTENDED else "MISSED"
    return f"{text} The bound of {INTENDED:.1%} at every size is {reached}."


def _removal(rows):
    for experiment, most, what in (
        ("remove-salient", True, "drops the probability most"),
        ("remove-minor", False, "changes the probability least"),
    ):
        lines = _by_value(rows, experiment, known.CHANGE)
        if len(lines) > 1:
            yield _order(lines, most, f"Of {len(lines)} methods ranked by value, removing the {{}} pixels {what}")


def _order(lines, most, start):
    """Best method first, at the largest region."""
    order = sorted(lines.values(), key=lambda line: line.value[-1] if most else abs(line.value[-1]))
    best, last = order[0], f"{order[0].regions[-1]:g} %"
    others = [
        f"{line.label} is number {1 + order.index(line)} ({number(line.value[-1])})"
        for line in order[1:]
        if line.method in ("pos", "pos+neg", "random")
    ]
    start = start.format(f"{last} {'most salient' if most else 'minor'}")
    interval = f"{number(best.value[-1])}, 95 % interval {number(best.low[-1])} to {number(best.high[-1])}"
    rest = f"; {', '.join(others)}" if others else ""
    return f"{start} with {best.label} ({interval}){rest}.{_few(lines)}"


def _few(lines):
    most = max(line.samples for line in lines.values())
    few = [f"{line.label} on {line.samples}" for line in lines.values() if line.samples < most]
    return f" Not all methods have all {most} samples: {', '.join(few)}." if few else ""


def _negative(rows):
    for line in list(_by_value(rows, "remove-negative", known.CHANGE).values())[:1]:
        rising = [f"{region:g} %" for region, low in zip(line.regions, line.low) if low > 0]
        falling = [f"{region:g} %" for region, high in zip(line.regions, line.high) if high < 0]
        parts = [f"{word} at {', '.join(sizes)}" for word, sizes in (("raises", rising), ("lowers", falling)) if sizes]
        said = " and ".join(parts) or "changes at no size"
        yield (
            f"Removing the most negative pixels of {line.label} {said} the mean probability, as far as the 95 % "
            f"intervals tell; {number(line.value[0])} at {line.regions[0]:g} %."
        )


def _attack(rows):
    lines = _by_value(rows, "guided-attack", known.SUCCESS)
    if len(lines) > 1:
        order = sorted(lines.values(), key=lambda line: -line.value[-1])
        shown = [order[0], *(line for line in order[1:] if line.method in ("pos", "pos+neg", "random"))]
        said = ", ".join(f"{line.label} {share(line.value[-1])}" for line in shown)
        size = f"{order[0].regions[-1]:g} %"
        yield f"Guided attack, kept in {size} of the pixels: class changed with {said}.{_few(lines)}"


def _agreements(rows):
    lines = _by_value(rows, "class-sensitivity", known.SIZE)
    for method in ("pos", "pos+neg"):
        if method in lines and lines[method].value[0] == lines[method].value[0]:
            line = lines[method]
            word = "barely depends on the class" if line.value[0] > 0.95 else "depends on the class"
            yield (
                f"{line.label} {word}: size of the rank correlation {line.value[0]:.3f} (95 % interval "
                f"{line.low[0]:.3f} to {line.high[0]:.3f}) between the maps of the target and of the next class."
            )
    for line in series(rows, "parts-agreement", known.CORRELATION):
        word = "say nearly the same" if line.value[0] > 0.95 else "differ"
        yield f"POS and -NEG {word}: rank correlation {line.value[0]:.3f}."


def _randomised(rows):
    for line in series(rows, "randomisation", known.ABSOLUTE):
        if line.method in ("pos", "pos+neg") and line.value[-1] == line.value[-1]:
            word = "stays much the same" if line.value[-1] > 0.5 else "changes"
            yield (
                f"{line.label} {word} when every layer down to {line.regions[-1]!r} gets new weights: rank correlation "
                f"of absolute values {line.value[-1]:.3f}."
            )
