"""`ClickablePicture`: a picture whose places can be clicked, on anywidget, in Jupyter and on the page."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

_HERE = Path(__file__).parent
_LONGEST = 4


class ClickablePicture(anywidget.AnyWidget):
    """A PNG with places in rows and columns.

    Attributes:
        png: Its bytes.
        rows, columns: How many places there are.
        values: Little-endian float64 of every place, row by row, that pointing at it tells; or nothing.
        unit: What is written behind these values, such as " x 2^40".
        marked: [row, column] of the place that is marked, or [].
        width, height: CSS pixels.
        clickable: Whether a click is told to `on_place`.
        smooth: Whether pixels are blurred when enlarged, as for a photograph.
        busy: Whether an answer is on its way.
        label: For readers of the screen.
    """

    _esm = _HERE / "picture.js"
    _css = _HERE / "explorer.css"
    png = traitlets.Bytes(b"").tag(sync=True)
    rows = traitlets.Int(1).tag(sync=True)
    columns = traitlets.Int(1).tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True)
    unit = traitlets.Unicode("").tag(sync=True)
    marked = traitlets.List(traitlets.Int()).tag(sync=True)
    width = traitlets.Int(240).tag(sync=True)
    height = traitlets.Int(240).tag(sync=True)
    clickable = traitlets.Bool(True).tag(sync=True)
    smooth = traitlets.Bool(False).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)

    def __init__(self, side=240, **traits):
        super().__init__(**traits)
        self._side, self._listeners = side, []
        self.on_msg(self._received)

    def on_place(self, listener):
        """Calls `listener(row, column)` for every place that is clicked."""
        self._listeners.append(listener)

    def show(self, png, shape, values=None, aspect=None, **traits):
        """Shows another picture, all traits in one message.

        Args:
            png: Its bytes.
            shape: (rows, columns) of its places.
            values: Array (rows, columns) or None.
            aspect: (height, width) of the picture where its places are not square.
            **traits: Other attributes.
        """
        told = b"" if values is None else np.asarray(values, dtype="<f8").tobytes()
        width, height = fitted(aspect or shape, self._side)
        size = {"rows": shape[0], "columns": shape[1], "width": width, "height": height}
        with self.hold_sync():
            self.set_trait("png", png)
            for name, value in {**size, "values": told, **traits}.items():
                self.set_trait(name, value)

    def _received(self, _, content, buffers):
        del buffers
        for listener in self._listeners:
            listener(int(content["row"]), int(content["column"]))


def fitted(shape, side):
    """Returns (width, height) in a square of this side: square places, unless the picture would be a thin line."""
    rows, columns = shape
    if rows == 1 or max(shape) > _LONGEST * min(shape):
        return (side, side // 2) if rows <= columns else (side // 2, side)
    scale = side / max(shape)
    return max(1, round(columns * scale)), max(1, round(rows * scale))
