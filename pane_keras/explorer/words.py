"""What the explorer says, in HTML: the trail of choices, captions, legends."""

import base64
from html import escape

from pane_keras.explorer.colours import number, scale_png

TITLES = ("POS", "NEG", "POS + NEG")
_PARTS = ("carries it towards its own sign", "carries it against its own sign", "both together")
_LEGENDS = {
    False: "<b>Red</b>: a coefficient above zero, <b>blue</b>: below. In POS + NEG, red says that more signal here "
    "raises the unit, and blue that it lowers the unit.",
    True: "Coefficient times signal: what each place adds to the unit. <b>Red</b> raises it, <b>blue</b> lowers it.",
}
_SIGN = "A unit's own sign is that of its value without its bias."


def unit_words(choice, place, names=None):
    """Returns what a choice explains, in plain text.

    Args:
        choice: The `Choice`.
        place: Its unit as (row, column, channel).
        names: Names of the classes, or None.
    """
    if choice.whole:
        return f"channel {place[2]} of {choice.target}"
    if names is not None and len(choice.unit) == 1:
        return f"class {choice.unit[0]} ({names[choice.unit[0]]}) of {choice.target}"
    return f"unit [{', '.join(map(str, choice.unit))}] of {choice.target}"


def trail(steps):
    """Returns the HTML of the chain of explained units, the current one last."""
    shown = [escape(step) for step in steps]
    shown[-1] = f"<b>{shown[-1]}</b>"
    return "Explained: " + " &#8592; ".join(shown)


def heading(text):
    """Returns the HTML of a panel's heading."""
    return f'<div style="font-size:16px;font-weight:600;line-height:24px">{text}</div>'


def part_title(k):
    """Returns the HTML over the map of POS, NEG or both."""
    return f'<div style="line-height:17px"><b>{TITLES[k]}</b><br>{_PARTS[k]}</div>'


def part_caption(top, total, log2_scale):
    """Returns the HTML under a map: the colour scale up to `top`, 0 for a map of zeros, and the total."""
    if not top:
        return '<div style="height:36px">zero everywhere</div>'
    end = number(top, log2_scale)
    image = base64.b64encode(scale_png()).decode()
    bar = f'<img alt="colour scale" src="data:image/png;base64,{image}" style="width:90px;height:10px;margin:0 6px">'
    return (
        f'<div style="line-height:18px"><span style="white-space:nowrap">-{end}{bar}{end}</span><br>'
        f'total <span class="pane-total">{number(total, log2_scale)}</span></div>'
    )


def drawn_words(channel, has_channels, inner):
    """Returns the HTML that says which channel of the source is drawn, and what a click does."""
    drawn = "all channels summed" if channel is None else f"channel {channel}"
    shown = f"Drawn: <b>{drawn}</b> (a number below draws that channel alone). " if has_channels else ""
    return shown + (
        "Click in a map, or <b>explain</b>, to go on." if inner else "The input is where the network starts."
    )


def legend(contribution):
    """Returns the HTML that says what the colours and the signs mean."""
    return f'<div style="line-height:18px">{_LEGENDS[contribution]} {_SIGN}</div>'


def bar(share, numbers):
    """Returns the HTML of one row of the table of channels: a bar from -1 to 1 and the numbers."""
    left, width = (50 + 50 * min(share, 0), 50 * abs(share))
    colour = "#b2182b" if share > 0 else "#2166ac"
    cells = "".join(f'<span style="{_CELL}">{text}</span>' for text in numbers)
    return (
        '<div style="display:flex;align-items:center">'
        '<span style="position:relative;width:84px;height:12px;background:#eee">'
        f'<span style="position:absolute;left:{left:.1f}%;width:{width:.1f}%;height:12px;background:{colour}"></span>'
        f"</span>{cells}</div>"
    )


def columns():
    """Returns the HTML of the table's head."""
    cells = "".join(f'<span style="{_CELL}">{text}</span>' for text in (TITLES[2], TITLES[0], TITLES[1]))
    return f'<div style="display:flex;color:#555"><span style="width:140px"></span>{cells}</div>'


def status(text, kind="ready", count=0):
    """Returns the HTML of the line that says what goes on: "ready", "busy" or "error", after how many answers."""
    colours = {"ready": ("#e7f4e8", "#14532d"), "busy": ("#fff4d6", "#6b4e00"), "error": ("#fde2e1", "#8a1c13")}
    back, front = colours[kind]
    style = f"background:{back};color:{front};padding:3px 10px;border-radius:4px;line-height:22px"
    words = escape(" ".join(text.split()))
    attributes = f'role="status" class="pane-status pane-{kind}" data-count="{count}" style="{style}"'
    return f"<div {attributes}>{words}</div>"


_CELL = "display:inline-block;width:64px;text-align:right;white-space:nowrap"
