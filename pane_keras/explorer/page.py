"""The explorer as a page of its own: a notebook in a folder, which Voila executes for every visitor."""

import json
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pane_keras.errors import PaneError
from pane_keras.extras import needed

KERNEL = "pane-keras-explorer"
_NOTEBOOK, _SETTINGS, _ARRAYS = "explorer.ipynb", "settings.json", "pictures.npz"
_KEPT_TRACES = 3


@dataclass(frozen=True)
class Settings:
    """What a page shows, besides the pictures.

    Attributes:
        model: Path of a .keras file, name of an architecture, or `loading.DEMO`.
        names: Of the pictures.
        class_names: Of the classes, or None.
        channel_axis: As for `explore`.
    """

    model: str
    names: tuple
    class_names: tuple | None = None
    channel_axis: int = -1


def write_page(folder, settings, pictures, inputs):
    """Writes the notebook, what it needs and the kernel that runs it, and returns the notebook's path.

    Args:
        folder: An empty folder.
        settings: The `Settings`.
        pictures: Arrays to look at, one a name.
        inputs: What the model takes, arrays (1, *shape), one a name.

    Raises:
        MissingExtraError: nbformat, which Voila brings along, is not installed.
    """
    v4 = needed("nbformat.v4", "Voila", "explore")
    folder = Path(folder)
    (folder / _SETTINGS).write_text(json.dumps(asdict(settings)), encoding="utf-8")
    arrays = {f"picture_{k}": picture for k, picture in enumerate(pictures)}
    np.savez(folder / _ARRAYS, **arrays, **{f"input_{k}": value for k, value in enumerate(inputs)})
    cell = v4.new_code_cell("from pane_keras.explorer.page import page\n\npage()")
    kernel = {"name": KERNEL, "display_name": "pane-keras", "language": "python"}
    notebook = v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel, "title": "pane-keras explorer"})
    (folder / _NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")
    _write_kernel(folder)
    return folder / _NOTEBOOK


def page(folder="."):
    """Returns what the notebook shows: the explorer, or one line that says why there is none.

    Args:
        folder: Where `write_page` wrote.
    """
    import ipywidgets

    from pane_keras.explorer.words import status

    try:
        return _explorer(Path(folder))
    except PaneError as error:
        return ipywidgets.HTML(status(str(error), "error"))


def _explorer(folder):
    from pane_keras.explorer.samples import Sample
    from pane_keras.explorer.state import State
    from pane_keras.explorer.view import Explorer
    from pane_keras.loading import load_model
    from pane_keras.wrapping import wrap

    settings = Settings(**json.loads((folder / _SETTINGS).read_text(encoding="utf-8")))
    arrays = dict(np.load(folder / _ARRAYS))
    pane = wrap(load_model(settings.model))
    # A trace is as large as all signals of the model, so only the last ones that were looked at are kept.
    traced = lru_cache(_KEPT_TRACES)(lambda k: pane.trace(arrays[f"input_{k}"]))
    samples = [Sample(name, arrays[f"picture_{k}"], lambda k=k: traced(k)) for k, name in enumerate(settings.names)]
    return Explorer(State(samples, settings.class_names, settings.channel_axis))


def _write_kernel(folder):
    """A kernel of this very Python: the one that Jupyter would choose by itself may lack the package."""
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": command, "display_name": "pane-keras", "language": "python", "env": {"TF_CPP_MIN_LOG_LEVEL": "2"}}
    (folder / "kernels" / KERNEL).mkdir(parents=True)
    (folder / "kernels" / KERNEL / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
