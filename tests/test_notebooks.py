"""The notebooks run from first to last, print what is stored in them, and are stored readable and small."""

import itertools
import re
import statistics

import notebook_files
import numpy as np
import pytest
from nbformat import v4 as nbformat
from notebook_files import NOTEBOOKS, code_cells
from PIL import Image

RELATIVE, NOISE = 0.05, 1e-5
"""Printed numbers may differ by this share; below `NOISE` both are rounding of float32."""
GREY_LEVELS, COARSE = 5, (24, 16)
"""How far pictures of so many squares may be apart, on average."""
KILOBYTES, MOST_LINES, USUAL_LINES = 700, 10, 5
IGNORED = "nbval-ignore-output"
"""The tag of a cell whose text differs between machines, as nbval calls it."""

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
_FIGURE = re.compile(r"<\w*Figure size .*>")
_MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|work|usr|opt|private|Users|var|mnt)/\w|[A-Z]:\\\\|0x[0-9a-f]{8}"
)
_SECONDS = re.compile(r"\b(?:seconds?|minutes?)\b")


def each(*paths):
    """Parametrises a test with the notebooks."""
    paths = paths or NOTEBOOKS
    return pytest.mark.parametrize("path", paths, ids=[path.name for path in paths])


@each()
def test_a_notebook_runs_and_shows_what_is_stored(path):
    found, stored = notebook_files.executed(path), notebook_files.read(path)
    for cell in code_cells(found):
        assert not notebook_files.on_stderr(cell), f"{path.name} complains in the cell:\n{cell.source}"
    found = notebook_files.cleaned(found, pictures=False)
    for new, kept in zip(code_cells(found), code_cells(stored), strict=True):
        assert_same_output(new, kept, f"{path.name}, the cell:\n{new.source}\n")


def assert_same_output(new, stored, where):
    """Asserts that two cells show the same kinds of things and words, and nearly the same numbers and pictures."""
    assert kinds(new) == kinds(stored), f"{where} now shows {kinds(new)}."
    if IGNORED in stored.metadata.get("tags", ()):
        return
    for shown, kept in zip(texts(new), texts(stored), strict=True):
        assert_same_text(shown, kept, where)
    for shown, kept in zip(pictures(new), pictures(stored), strict=True):
        difference = np.abs(_coarse(shown) - _coarse(kept)).mean()
        assert difference < GREY_LEVELS, f"{where} shows another picture: it differs by {difference:.0f} grey levels."


def assert_same_text(new, stored, where):
    """Asserts the same words, spacing aside, and numbers that agree to two digits."""
    (words, numbers), (kept_words, kept_numbers) = map(_words_and_numbers, (new, stored))
    assert words == kept_words, f"{where} prints:\n{new}\nand is stored with:\n{stored}"
    far = [pair for pair in zip(numbers, kept_numbers) if not _close(*pair)]
    assert not far, f"{where} prints:\n{new}\nwhere {far} differ from what is stored."


def kinds(cell):
    """Returns what each output of a cell is, without the state of widgets."""
    return [sorted(output.get("data", {output.output_type: None})) for output in cell.outputs]


def texts(cell):
    """Returns the text of each output of a cell, and of a figure only that it is one."""
    plain = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return [_FIGURE.sub("<Figure>", text) for text in plain]


def pictures(cell):
    """Returns the PNGs of a cell."""
    found = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [png for png in found if png]


def _coarse(png):
    """Without what another version of a font changes."""
    grey = Image.fromarray(notebook_files.pixels_of(png)).convert("L")
    return np.asarray(grey.resize(COARSE, Image.Resampling.BOX), "float64")


def _words_and_numbers(text):
    return _NUMBER.sub("#", text).split(), _NUMBER.findall(text)


def _close(new, stored):
    """Whole numbers are the same; of others, the last digit that is printed may be rounded another way."""
    if new == stored or (new + stored).isdigit():
        return new == stored
    a, b = float(new), float(stored)
    last = 1.01 * max(_unit(new), _unit(stored))
    return max(abs(a), abs(b)) < NOISE or abs(a - b) <= max(RELATIVE * max(abs(a), abs(b)), last)


def _unit(number):
    """The size of the last digit, where a number is written without an exponent."""
    return 0.0 if "e" in number.lower() else 10.0 ** -len(number.partition(".")[2])


def test_notebooks_are_numbered_from_one():
    numbers = [int(path.name.partition("_")[0]) for path in NOTEBOOKS]
    assert numbers == list(range(1, len(NOTEBOOKS) + 1))
    assert len(NOTEBOOKS) >= 3


@each()
def test_a_notebook_begins_with_its_title_and_how_long_it_takes(path):
    number = path.name.partition("_")[0]
    first = notebook_files.read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {number}. ")
    assert _SECONDS.search(first.source), "The first cell says about how long the notebook takes."


@each()
def test_cells_are_short(path):
    lines = [len(cell.source.splitlines()) for cell in code_cells(notebook_files.read(path))]
    assert max(lines) <= MOST_LINES
    assert statistics.median(lines) <= USUAL_LINES


@each()
def test_a_notebook_is_stored_clean(path):
    notebook = notebook_files.read(path)
    cells = code_cells(notebook)
    assert notebook == notebook_files.cleaned(notebook, pictures=False), "python tests/notebook_files.py cleans it."
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) / 3
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]


@each()
def test_a_notebook_is_small_and_knows_no_machine(path):
    assert path.stat().st_size < KILOBYTES * 1000
    notebook = notebook_files.read(path)
    for cell in notebook.cells:
        shown = [str(value) for o in cell.get("outputs", ()) for value in _without_pictures(o)]
        found = [_MACHINE_PATH.search(text) for text in (cell.source, *shown)]
        assert not [match[0] for match in found if match], cell.source


def _without_pictures(output):
    yield output.get("text", "")
    yield from (value for kind, value in output.get("data", {}).items() if not kind.startswith("image/"))


@pytest.mark.parametrize(
    ("new", "stored"),
    [
        ("loss 0.5", "loss 0.7"),
        ("class 967", "class 968"),
        ("loss 0.5", "cost 0.5"),
        ("967 espresso", "968 cup"),
        ("-1.5 and 2", "1.5 and 2"),
        ("residual 2e-3", "residual 2e-8"),
        ("1 of 2", "1 of 2 of 3"),
    ],
)
def test_other_words_and_numbers_are_told(new, stored):
    with pytest.raises(AssertionError, match="prints"):
        assert_same_text(new, stored, "here")


@pytest.mark.parametrize(
    ("new", "stored"),
    [("logit 10.98", "logit  11.02"), ("0.004 left", "0.005 left"), ("noise 3e-8", "noise 7.1e-08"), ("-0.00", "0.00")],
)
def test_rounding_is_none_of_them(new, stored):
    assert_same_text(new, stored, "here")


def test_a_lost_figure_and_an_ignored_text_are_told_apart():
    said = [nbformat.new_output("stream", text=text) for text in ("1\n", "2\n")]
    lost = nbformat.new_output("display_data", {"text/plain": "<Figure size 3x4 with 1 Axes>"})
    cells = [nbformat.new_code_cell(outputs=[output]) for output in (figure(0, "3x4"), lost, *said)]
    assert_same_output(cells[0], nbformat.new_code_cell(outputs=[figure(0, "5x6")]), "here")
    for new, stored in itertools.combinations(cells, 2):
        with pytest.raises(AssertionError, match="here"):
            assert_same_output(new, stored, "here")
    cells[3].metadata["tags"] = [IGNORED]
    assert_same_output(cells[2], cells[3], "here")


def test_another_picture_is_told_and_a_few_pixels_are_none():
    cells = [nbformat.new_code_cell(outputs=[figure(rows)]) for rows in (0, 1, 20)]
    assert_same_output(cells[0], cells[1], "here")
    with pytest.raises(AssertionError, match="another picture: it differs by 50 grey levels"):
        assert_same_output(cells[0], cells[2], "here")


def figure(rows, size="3x4"):
    """Returns an output with a white picture, and so many of its 100 rows black."""
    pixels = np.full((100, 90, 3), 255, "uint8")
    pixels[:rows] = 0
    png = notebook_files.png_of(pixels)
    return nbformat.new_output("display_data", {"image/png": png, "text/plain": f"<Figure size {size} with 1 Axes>"})


def test_stderr_counts_unless_the_line_is_a_known_notice():
    lines = (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n\nUserWarning: odd\n"
    )
    cell = nbformat.new_code_cell(outputs=[nbformat.new_output("stream", name="stderr", text=lines)])
    assert notebook_files.on_stderr(cell) == ["UserWarning: odd"]


def test_cleaning_takes_notices_and_widgets_away_and_keeps_colours():
    view = {notebook_files.WIDGET: {"model_id": "5"}}
    kept = nbformat.new_output("execute_result", {**view, "text/plain": "VBox()"}, metadata={"needs": "x"})
    noise = nbformat.new_output("stream", name="stderr", text="odd")
    cell = nbformat.new_code_cell("1", outputs=[noise, nbformat.new_output("display_data", view), kept])
    cell.metadata = {"tags": ["a"], "collapsed": True}
    notebook = nbformat.new_notebook(
        cells=[cell], metadata={"widgets": {}, "language_info": {"name": "python", "version": "3.11.4"}}
    )
    found = notebook_files.cleaned(notebook)
    assert found.metadata.language_info == {"name": "python"}
    assert "widgets" not in found.metadata
    assert found.cells[0].id == "cell-01"
    assert found.cells[0].metadata == {"tags": ["a"]}
    (output,) = found.cells[0].outputs
    assert output.data == {"text/plain": "VBox()"}
    assert output.metadata == {}


def test_pictures_lose_few_of_their_colours():
    ramp = np.stack(np.meshgrid(np.arange(200), np.arange(200)), axis=-1).astype("uint8")
    pixels = np.concatenate([ramp, np.full((200, 200, 1), 90, "uint8")], axis=-1)
    smaller = notebook_files.pixels_of(notebook_files.with_few_colours(notebook_files.png_of(pixels)))
    assert len(np.unique(smaller.reshape(-1, 3), axis=0)) <= 256
    assert np.abs(smaller.astype(int) - pixels).mean() < 6
