"""The strongest channels of the source: draw one alone, or go on from it."""

import ipywidgets as widgets

from pane_keras.explorer.colours import number
from pane_keras.explorer.words import bar, columns

ROWS = 5
"""How many channels a table shows."""


class ChannelTable(widgets.VBox):
    """Channels that raise what is explained, or channels that lower it.

    Args:
        act: Function that runs `lambda state: ...` and shows what came of it.
        verb: "raise" or "lower".
    """

    def __init__(self, act, verb):
        self._verb, self._title, self._head = verb, widgets.HTML(), widgets.HTML(columns())
        self.rows = [ChannelRow(act) for _ in range(ROWS)]
        super().__init__([self._title, self._head, *self.rows], layout={"width": "390px"})

    def show(self, found, top, answer, inner):
        """Shows channels of an answer.

        Args:
            found: `Row`s, at most `ROWS`.
            top: The largest total in magnitude, which gets the longest bar.
            answer: The `Answer`.
            inner: Whether the source can be explained next.
        """
        word = "units" if answer.grid.channel_axis is None else "channels"
        title = f"<b>{word.capitalize()} that {self._verb} it most</b>, by POS + NEG"
        self._title.value = title if found else f"No {word} {self._verb} it."
        self._head.layout.visibility = "visible" if found else "hidden"
        for widget, row in zip(self.rows, [*found, *[None] * (ROWS - len(found))]):
            widget.show(row, top, answer, inner)


class ChannelRow(widgets.HBox):
    """One channel; hidden where there are fewer.

    Args:
        act: As for `ChannelTable`.
    """

    def __init__(self, act):
        self.draw = widgets.Button(tooltip="draw this channel alone", layout={"width": "52px"})
        self.numbers = widgets.HTML()
        self.explain = widgets.Button(
            description="explain", tooltip="go on: explain this one next", layout={"width": "54px"}
        )
        self.draw.on_click(lambda _: act(lambda state: state.choose_source_channel(self._channel)))
        self.explain.on_click(lambda _: act(lambda state: state.go_on_channel(self._channel)))
        super().__init__([self.draw, self.numbers, self.explain], layout={"align_items": "center"})
        self.add_class("pane-table")

    def show(self, row, top, answer, inner):
        """Shows a `Row`, or nothing for None; the rest is as for `ChannelTable.show`."""
        self.layout.visibility = "hidden" if row is None else "visible"
        if row is None:
            return
        self._channel, self.draw.description = row.channel, str(row.channel)
        self.draw.disabled, self.explain.disabled = answer.grid.channel_axis is None, not inner
        scales = (answer.sum_log2_scale, answer.log2_scale, answer.log2_scale)
        numbers = [number(v, scale) for v, scale in zip((row.sum, row.positive, row.negative), scales)]
        self.numbers.value = bar(row.sum / top, numbers)
