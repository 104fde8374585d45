"""The right half of the explorer: what in the source excites the unit, and where to go on from there."""

import ipywidgets as widgets

from pane_keras.explorer.channel_table import ROWS, ChannelTable
from pane_keras.explorer.colours import map_png
from pane_keras.explorer.picture import ClickablePicture
from pane_keras.explorer.wiring import offer, put, watch
from pane_keras.explorer.words import TITLES, drawn_words, heading, legend, part_caption, part_title
from pane_keras.plotting import limit

_SIDE = 225


class SourcePanel(widgets.VBox):
    """POS, NEG and their sum over the source, and its strongest channels.

    Args:
        act: Function that runs `lambda state: ...` and shows what came of it.
    """

    def __init__(self, act):
        self.layer = widgets.Dropdown(
            description="Source layer", layout={"width": "470px"}, style={"description_width": "84px"}
        )
        self.quantity = widgets.ToggleButtons(
            options=[("coefficients", False), ("contributions", True)], style={"button_width": "106px"}
        )
        self.pictures = [ClickablePicture(_SIDE) for _ in TITLES]
        self._captions, self._legend, self._drawn = [widgets.HTML() for _ in TITLES], widgets.HTML(), widgets.HTML()
        self.all_channels = widgets.Button(description="draw all channels", layout={"width": "130px", "height": "24px"})
        self.tables = ChannelTable(act, "raise"), ChannelTable(act, "lower")
        self._connect(act)
        super().__init__(self._arranged(), layout={"width": "782px"})

    def show(self, state):
        """Shows a `State`."""
        choice, answer = state.choice, state.answer
        inner = choice.source in state.trace
        offer(self.layer, state.sources, choice.source)
        put(self.quantity, choice.contribution)
        self._legend.value = legend(choice.contribution)
        self._drawn.value = drawn_words(choice.channel, answer.grid.channel_axis is not None, inner)
        self.all_channels.layout.display = "none" if choice.channel is None else "inline-block"
        self._show_maps(choice, answer, inner)
        found = answer.strongest(ROWS)
        top = max((abs(row.sum) for rows in found for row in rows), default=1.0)
        for table, rows in zip(self.tables, found):
            table.show(rows, top, answer, inner)

    def set_busy(self, busy):
        """Says whether an answer is on its way."""
        for picture in self.pictures:
            picture.busy = busy

    def _connect(self, act):
        watch(self.layer, lambda value: act(lambda state: state.choose_source(value)))
        watch(self.quantity, lambda value: act(lambda state: state.choose_quantity(value)))
        self.all_channels.on_click(lambda _: act(lambda state: state.choose_source_channel(None)))
        for picture in self.pictures:
            picture.on_place(lambda row, column: act(lambda state: state.go_on(row, column)))

    def _arranged(self):
        maps = [
            widgets.VBox([widgets.HTML(part_title(k)), picture, caption], layout={"width": "258px"})
            for k, (picture, caption) in enumerate(zip(self.pictures, self._captions))
        ]
        return [
            widgets.HTML(heading("2. What in the source excites and inhibits it")),
            widgets.HBox([self.layer, self.quantity], layout={"align_items": "center"}),
            widgets.HBox(maps),
            self._legend,
            widgets.HBox([self._drawn, self.all_channels], layout={"height": "30px", "align_items": "center"}),
            widgets.HBox(self.tables),
        ]

    def _show_maps(self, choice, answer, inner):
        planes = answer.planes(choice.channel)
        tops = [limit(*planes[:2])] * 2 + [limit(planes[2])]
        scales = [answer.log2_scale] * 2 + [answer.sum_log2_scale]
        for k, (picture, plane) in enumerate(zip(self.pictures, planes)):
            unit = f" x 2^{scales[k]}" if scales[k] else ""
            label = f"{TITLES[k]} over {choice.source}" + ("; arrow keys and Enter go on from a place" if inner else "")
            png = map_png(plane, tops[k], answer.grid.is_line)
            picture.show(png, plane.shape, plane, unit=unit, label=label, clickable=inner)
            self._captions[k].value = part_caption(tops[k] if plane.any() else 0, float(plane.sum()), scales[k])
