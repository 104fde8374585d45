"""Tables and sentences as plain text and as HTML that needs no style sheet, script or other file."""

import html
import re
from dataclasses import dataclass

_SCROLLED = "max-height:32em;overflow:auto"


class Share(str):
    """A share of 0 to 1 as a cell: a percentage, in HTML with a bar.

    Attributes:
        fraction: The share.
    """

    @classmethod
    def of(cls, fraction):
        """Returns the cell of a fraction; an empty one for None and NaN."""
        if fraction is None or fraction != fraction:
            return ""
        cell = cls(f"{fraction:.0%}")
        cell.fraction = float(fraction)
        return cell


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head.

    Attributes:
        head: A word for each column.
        rows: Tuples of strings, one for each row.
        numeric: Indices of the columns that stand flush right.
        wrapped: Indices of the columns of sentences, which may take several lines in HTML.
    """

    head: tuple
    rows: tuple
    numeric: tuple = ()
    wrapped: tuple = ()

    def text(self, limit=None):
        """Returns lines of columns, two spaces apart.

        Args:
            limit: Rows to show; more are folded in the middle, with their number. By default all are shown.
        """
        first, hidden, last = _folded(self.rows, limit)
        widths = [max(map(len, column)) for column in zip(self.head, *first, *last)]
        lines = [self._line(row, widths) for row in (self.head, *first)]
        lines += [f"... {hidden} more ..."] if hidden else []
        return "\n".join([*lines, *(self._line(row, widths) for row in last)])

    def html(self):
        """Returns a table with every row, which scrolls where it is long."""
        head = "".join(self._cell("th", k, cell) for k, cell in enumerate(self.head))
        body = "".join(f"<tr>{self._row(row)}</tr>" for row in self.rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f'<div style="{_SCROLLED}">{table}</div>'

    def _line(self, row, widths):
        cells = zip(row, widths, range(len(widths)))
        return "  ".join(c.rjust(w) if k in self.numeric else c.ljust(w) for c, w, k in cells).rstrip()

    def _row(self, row):
        return "".join(self._cell("td", k, cell) for k, cell in enumerate(row))

    def _cell(self, tag, column, cell):
        # Notebooks set cells flush right and break names unless each cell says otherwise; colours stay the theme's.
        align = "right" if column in self.numeric else "left"
        space = "normal" if column in self.wrapped else "nowrap"
        content = html.escape(cell) + bar(cell) if isinstance(cell, Share) else html.escape(cell)
        return f'<{tag} style="text-align:{align};white-space:{space}">{content}</{tag}>'


def bar(share):
    """Returns the HTML of a bar that is filled by a `Share`."""
    box = "display:inline-block;width:4em;height:.6em;margin-left:.5em;border:1px solid currentColor;opacity:.6"
    fill = f"display:block;height:100%;width:{share.fraction:.1%};background:currentColor"
    return f'<span style="{box}"><span style="{fill}"></span></span>'


def title(word, text):
    """Returns the HTML line that opens what an object shows: its class, and a sentence."""
    return f"<p><b>{html.escape(word)}</b> {html.escape(text)}</p>"


def note(text):
    """Returns the HTML of a remark, in which code stands between backticks."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return f"<p><small>{marked}</small></p>"


def page(*parts):
    """Returns parts as one block of HTML."""
    return f"<div>{''.join(parts)}</div>"


def shape_of(tensor):
    """Returns the shape of a tensor in words; None stands for what is not known inside a graph."""
    return str(tuple(tensor.shape))


def number(value):
    """Returns a count with commas, or where it is long, three digits of it."""
    return f"{value:,.0f}" if value < 1e7 else f"{value:.3g}"


def counted(count, word):
    """Returns "1 layer", "2 layers"."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def _folded(rows, limit):
    if limit is None or len(rows) <= limit:
        return rows, 0, ()
    head = limit // 2
    tail = limit - head
    return rows[:head], len(rows) - limit, rows[len(rows) - tail :]
