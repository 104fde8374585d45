"""`Explorer`: the widgets of the explorer, for Jupyter and for the page."""

import logging
import time

import ipywidgets as widgets

from pane_keras.errors import PaneError
from pane_keras.explorer.source_panel import SourcePanel
from pane_keras.explorer.target_panel import TargetPanel
from pane_keras.explorer.words import heading, status, trail

_ABOUT = (
    "Choose a unit on the left. The maps on the right show what in an earlier layer excites and inhibits it. "
    "Click in a map to go on: the place that you click is explained next."
)
_ANSWERED = ("Answered", "The maps are zero: nothing in the source excites or inhibits this here. Answered")


class Explorer(widgets.VBox):
    """Choose a unit, see what excites it, click there to go on.

    Args:
        state: The `State`.

    Attributes:
        state: What is chosen, and the answer.
        target, source: The two panels.
    """

    def __init__(self, state):
        self.state, self._count = state, 0
        self.target, self.source = TargetPanel(self.act), SourcePanel(self.act)
        self.back = widgets.Button(description="← Back", layout={"width": "80px"})
        self.back.on_click(lambda _: self.act(lambda state: state.back()))
        self.status, self._trail = widgets.HTML(), widgets.HTML()
        top = widgets.HBox([self.back, self._trail], layout={"align_items": "center"})
        panels = widgets.HBox([self.target, self.source], layout={"flex_flow": "row wrap", "grid_gap": "10px"})
        about = widgets.HTML(heading("What excites it, and what holds it down?") + f"<div>{_ABOUT}</div>")
        super().__init__([about, self.status, top, panels], layout={"max_width": "1270px"})
        self.add_class("pane-explorer")
        self._show()
        self.status.value = status("Ready.")

    def act(self, choose):
        """Runs `choose(state)` and shows what came of it; what goes wrong is said in one line.

        Args:
            choose: Function of the `State`.
        """
        start = time.perf_counter()
        self._set_busy(True)
        try:
            choose(self.state)
            said = _ANSWERED[self.state.answer.is_zero], "ready"
        except PaneError as error:
            said = str(error), "error"
        except Exception as error:  # in a page nobody would see what a callback raises
            logging.getLogger(__name__).exception("The explorer could not answer.")
            said = f"{type(error).__name__}: {error}", "error"
        self._finish(*said, start)

    def _finish(self, text, kind, start):
        try:
            self._show()
        except PaneError as error:  # a released trace has nothing to show any more
            text, kind = str(error), "error"
        self._set_busy(False)
        took = f" in {time.perf_counter() - start:.2f} s." if kind == "ready" else ""
        self._count += 1
        self.status.value = status(text + took, kind, self._count)

    def _show(self):
        state = self.state
        self.target.show(state)
        self.source.show(state)
        self._trail.value = trail([state.words(choice) for choice in (*state.history, state.choice)])
        self.back.disabled = not state.history

    def _set_busy(self, busy):
        if busy:
            self.status.value = status("Computing ...", "busy", self._count)
        for panel in (self.target, self.source):
            panel.set_busy(busy)
