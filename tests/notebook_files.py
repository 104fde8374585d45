"""The notebooks: executed in a fresh kernel, and put into the form in which they are stored.

`python tests/notebook_files.py [notebooks/3_tensor_network.ipynb ...]` executes notebooks, by default all, and stores
their outputs. Running it again changes little: no times, no notices, no state of widgets, the same names of cells.
"""

import base64
import io
import os
import pathlib
import re
import sys
import tempfile

import nbclient
import nbformat
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

SECONDS = 600
"""How long a cell may take before the test gives up."""

NOTICES = re.compile(
    r"All log messages before absl::InitializeLog"  # TensorFlow: what it says of CPU and GPU
    r"|^(20\d\d-.* )?[IWE]\d{4} .*\.cc:\d+\]|^20\d\d-.*: [IWE] (external|tensorflow)/"
    r"|computation_placer|To enable the following instructions|TF_ENABLE_ONEDNN_OPTS"
    r"|Kernel is running over TCP"  # ipykernel
)
"""Lines on stderr that say nothing of the notebook."""

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_KEPT_METADATA = ("tags",)
_COLOURS = 256

WIDGET = "application/vnd.jupyter.widget-view+json"
"""What a cell shows of a widget; it means nothing without the kernel."""


def read(path):
    """Returns a notebook as nbformat's node."""
    return nbformat.read(path, as_version=4)


def executed(path):
    """Returns a copy of a notebook as a fresh kernel leaves it, which ran in an empty folder.

    Raises:
        CellExecutionError: A cell raised.
    """
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        how = {"timeout": SECONDS, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
        client = nbclient.NotebookClient(notebook, resources=where, **how)
        client.execute(env=_environment(folder))
    return notebook


def code_cells(notebook):
    """Returns the code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def on_stderr(cell):
    """Returns the lines that a cell wrote to stderr, but for known notices."""
    streams = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
    lines = "".join(streams).splitlines()
    return [line for line in lines if line.strip() and not NOTICES.search(line)]


def cleaned(notebook, pictures=True):
    """Returns an executed notebook in the form in which it is stored.

    Args:
        notebook: The notebook.
        pictures: Whether to take colours out of its pictures.
    """
    cells = [cleaned_cell(number, cell, pictures) for number, cell in enumerate(notebook.cells, 1)]
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def refresh(path):
    """Executes a notebook and stores it with its outputs."""
    nbformat.write(cleaned(executed(path)), path)


def _environment(folder):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3", "IPYTHONDIR": folder}
    return {**os.environ, **own}


def cleaned_cell(number, cell, pictures=False):
    """Returns a cell as it is stored: a dict. Arguments as for `cleaned`."""
    metadata = {key: value for key, value in cell.metadata.items() if key in _KEPT_METADATA}
    kept = {"id": f"cell-{number:02}", "cell_type": cell.cell_type, "metadata": metadata, "source": cell.source}
    if cell.cell_type == "code":
        outputs = [_cleaned_output(o, pictures) for o in cell.outputs if o.get("name") != "stderr"]
        kept |= {"execution_count": cell.execution_count, "outputs": [o for o in outputs if o is not None]}
    return kept


def with_few_colours(png):
    """Returns a PNG in base64 with at most 256 colours: noise in full colour fills a repository.

    Without kmeans Pillow turns deep blue grey.
    """
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    return _png(image.quantize(_COLOURS, kmeans=3, dither=Image.Dither.NONE))


def png_of(pixels):
    """Returns a uint8 array (height, width, 3) as PNG in base64."""
    return _png(Image.fromarray(pixels))


def pixels_of(png):
    """Returns the array of a PNG in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _cleaned_output(output, pictures):
    """Returns an output without metadata and widgets; None where nothing is left."""
    if "data" not in output:
        return output
    data = {kind: value for kind, value in output.data.items() if kind != WIDGET}
    if pictures and "image/png" in data:
        data["image/png"] = with_few_colours(data["image/png"])
    return {**output, "data": data, "metadata": {}} if data else None


if __name__ == "__main__":
    for notebook_path in map(pathlib.Path, sys.argv[1:] or NOTEBOOKS):
        refresh(notebook_path)
