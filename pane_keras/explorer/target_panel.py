"""The left half of the explorer: which unit is explained."""

from html import escape

import ipywidgets as widgets
import numpy as np

from pane_keras.explorer.colours import map_png, number, picture_png
from pane_keras.explorer.picture import ClickablePicture
from pane_keras.explorer.wiring import offer, put, silent, watch
from pane_keras.explorer.words import heading, unit_words
from pane_keras.plotting import limit

_WIDE = {"width": "auto"}
_SIDE = 205


class TargetPanel(widgets.VBox):
    """The sample, the target layer, and its unit, class or channel.

    Args:
        act: Function that runs `lambda state: ...` and shows what came of it.
    """

    def __init__(self, act):
        self._listing, self._chosen = (), None
        self.sample = widgets.Dropdown(description="Picture", layout=_WIDE, style={"description_width": "84px"})
        self.layer = widgets.Dropdown(description="Target layer", layout=_WIDE, style={"description_width": "84px"})
        self.picture = ClickablePicture(_SIDE, smooth=True)
        self.output = ClickablePicture(_SIDE)
        self.find = widgets.Text(placeholder="find a class", continuous_update=True, layout=_WIDE)
        self.units = widgets.Select(rows=11, layout=_WIDE)
        self.channel = widgets.BoundedIntText(
            description="Channel", layout={"width": "170px"}, style={"description_width": "84px"}
        )
        self.whole = widgets.Checkbox(description="explain all of it", indent=False, layout={"width": "140px"})
        self.value = widgets.HTML()
        self._captions = [widgets.HTML(), widgets.HTML()]
        self._connect(act)
        super().__init__(self._arranged(), layout={"width": "428px"})

    def show(self, state):
        """Shows a `State`."""
        names = tuple((sample.name, k) for k, sample in enumerate(state.samples))
        put(self.sample, state.choice.sample, options=names)
        offer(self.layer, state.targets, state.choice.target)
        grid = state.target_grid
        self._show_picture(state, grid)
        self._vector.layout.display = "flex" if grid.is_vector else "none"
        self._map.layout.display = "none" if grid.is_vector else "flex"
        if grid.is_vector:
            self._show_units(state)
        else:
            self._show_output(state, grid)
        words = unit_words(state.choice, grid.place(state.choice.unit), state.names)
        shown = "sum of its output" if state.choice.whole else "output"
        self.value.value = f"<b>{escape(words)}</b>: {shown} {number(state.value)}"

    def set_busy(self, busy):
        """Says whether an answer is on its way."""
        self.picture.busy = self.output.busy = busy

    def _connect(self, act):
        watch(self.sample, lambda value: act(lambda state: state.choose_sample(value)))
        watch(self.layer, lambda value: act(lambda state: state.choose_target(value)))
        watch(self.units, lambda value: value is not None and act(lambda state: state.choose_unit(value)))
        watch(self.channel, lambda value: act(lambda state: state.choose_channel(value)))
        watch(self.whole, lambda value: act(lambda state: state.choose_channel(self.channel.value, value)))
        watch(self.find, lambda value: self._list())
        for picture in (self.picture, self.output):
            picture.on_place(lambda row, column: act(lambda state: state.choose_place(row, column)))

    def _arranged(self):
        self._vector = widgets.VBox([self.find, self.units], layout={"width": "210px"})
        self._map = widgets.VBox([self._captions[1], self.output])
        pictures = widgets.HBox([widgets.VBox([self._captions[0], self.picture], layout={"width": "214px"}),
                                 widgets.VBox([self._vector, self._map])])  # fmt: skip
        self._channels = widgets.HBox([self.channel, self.whole])
        title = widgets.HTML(heading("1. What is to be explained"))
        return [title, self.sample, self.layer, pictures, self._channels, self.value]

    def _show_picture(self, state, grid):
        places = not grid.is_line
        shape = (grid.rows, grid.columns) if places else (1, 1)
        marked = list(grid.place(state.choice.unit)[:2]) if places and not state.choice.whole else []
        pixels = state.looks
        line = pixels.ndim < 2
        self._captions[0].value = f"The {'input' if line else 'picture'}" + (": click a place" if places else "")
        png = map_png(pixels[None], limit(pixels), as_bars=True) if line else picture_png(pixels)
        label = f"{state.sample.name}, marked at the explained unit"
        aspect = (1, pixels.size) if line else pixels.shape[:2]
        self.picture.show(png, shape, aspect=aspect, marked=marked, clickable=places, label=label)

    def _show_output(self, state, grid):
        row, column, channel = grid.place(state.choice.unit)
        plane = grid.plane(state.output, channel)
        self._captions[1].value = f"Channel {channel}: click a unit" if grid.channels > 1 else "Click a unit"
        png = map_png(plane, limit(plane), grid.is_line)
        marked = [] if state.choice.whole else [row, column]
        label = f"output of {state.choice.target}, channel {channel}; arrow keys and Enter choose a unit"
        self.output.show(png, plane.shape, plane, marked=marked, label=label)
        self._channels.layout.visibility = "visible" if grid.channels > 1 else "hidden"
        put(self.channel, channel, max=grid.channels - 1)
        put(self.whole, state.choice.whole)

    def _show_units(self, state):
        self._channels.layout.visibility = "hidden"
        output, names = np.ravel(state.output), state.names
        self.find.placeholder = "find a class" if names else "find a unit by its number"
        order = np.argsort(-output if names else -np.abs(output), kind="stable")
        said = lambda k: f"{k}{f'  {names[k]}' if names else ''}  ({number(output[k])})"  # noqa: E731
        index = (lambda k: (int(k),)) if output.size and state.output.ndim else lambda k: ()
        self._listing, self._chosen = [(said(k), index(k)) for k in order], state.choice.unit
        self._list()

    def _list(self):
        """Lists the units whose text holds what is looked for; the chosen one stays chosen where it is among them."""
        wanted = self.find.value.casefold()
        found = [(text, unit) for text, unit in self._listing if wanted in text.casefold()]
        chosen = self._chosen if self._chosen in [unit for _, unit in found] else None
        with silent(self.units):
            self.units.options = found
            self.units.value = chosen
