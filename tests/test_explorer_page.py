"""The explorer as a page, without a browser: what is written for it, what is refused before and while it is served."""

import json
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import pane_keras
from pane_keras.cli import main
from pane_keras.commands import explore as explore_command
from pane_keras.explorer import server
from pane_keras.explorer.page import KERNEL, Settings, page, write_page
from pane_keras.explorer.server import ServerError, free_port, served


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user's folder with a model, a picture that has to be resized, and names of classes."""
    keras.saving.save_model(model(), tmp_path / "model.keras")
    pixels = np.random.default_rng(5).integers(0, 256, (20, 24, 3), dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model():
    return keras.Sequential(
        [
            keras.Input((12, 12, 3), name="picture"),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, activation="softmax", name="predictions"),
        ],
        name="small",
    )


@pytest.fixture
def shown(monkeypatch):
    """What the command would serve; nothing is served."""
    calls = []
    monkeypatch.setattr(explore_command, "_serve", lambda *given: calls.append(given))
    monkeypatch.setattr(explore_command, "write_page", lambda folder, *given: given)
    return calls


def run(capsys, *arguments):
    try:
        code = main(["explore", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def test_what_the_command_serves(user, shown, capsys):
    options = ("--scale", "0.5", "--offset", "-1", "--classes", "names.txt", "--no-browser")
    code, out, err = run(capsys, "model.keras", "photo.png", *options)
    assert (code, err) == (0, "")
    [((settings, pictures, inputs), port, in_browser)] = shown
    assert settings == Settings(str(user / "model.keras"), ("photo.png",), ("ant", "bee", "cat"))
    assert pictures[0].shape == (12, 12, 3)
    np.testing.assert_array_equal(inputs[0], pictures[0][None].astype("float32") * 0.5 - 1)
    assert port > 0
    assert not in_browser
    assert "small (1,315 parameters, model.keras)" in out
    assert "pixels: pixel * 0.5 + -1" in out
    assert "photo.png, resized from 24 x 20 to 12 x 12" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model.keras",), "explore needs at least one picture. Only `pane-keras explore demo` brings its own."),
        (("none.keras", "photo.png"), "No model at 'none.keras': no such file."),
        (("model.keras", "none.png"), "No picture at 'none.png': no such file."),
        (("model.keras", "photo.png", "--classes", "none.txt"), "Cannot read the classes in 'none.txt': No such file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(user, shown, capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert shown == []


def test_a_port_that_is_taken(user, shown, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = run(capsys, "model.keras", "photo.png", "--port", port)
    assert code == 2
    assert f"Port {port} is taken, or is none that may be used. Choose another one with --port" in err
    with pytest.raises(ServerError, match="Port 70000 is taken, or is none that may be used"):
        free_port(70000)


@pytest.mark.parametrize("package", ["voila", "ipykernel"])
def test_missing_packages_are_named(user, shown, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = run(capsys, "model.keras", "photo.png")
    assert code == 2
    assert 'pip install "pane-keras[explore]"' in err


def test_the_notebook_shows_what_was_written(user, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    picture = np.full((12, 12, 3), 200, "uint8")
    inputs = np.random.default_rng(7).normal(size=(2, 1, 12, 12, 3)).astype("float32")
    settings = Settings(str(user / "model.keras"), ("a", "b"), ("ant", "bee", "cat"))
    notebook = write_page(folder, settings, [picture] * 2, inputs)
    explorer = page(folder)
    trace = pane_keras.wrap(keras.saving.load_model(user / "model.keras")).trace(inputs[1])
    explorer.target.sample.value = 1
    assert explorer.state.sample.name == "b"
    maps = trace.between(explorer.state.choice.source, "logits").map(target=explorer.state.choice.unit)
    np.testing.assert_array_equal(explorer.state.answer.sum, np.asarray(maps.sum[0]))
    written = json.loads(notebook.read_text())
    assert "page()" in written["cells"][0]["source"]
    assert written["metadata"]["kernelspec"]["name"] == KERNEL
    assert json.loads((folder / "kernels" / KERNEL / "kernel.json").read_text())["argv"][0] == sys.executable


def test_a_page_that_cannot_be_made_says_why_in_one_line(user, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    one = np.zeros((1, 12, 12, 3), "float32")
    for settings, message in (
        (Settings("gone.keras", ("a",)), "No model at &#x27;gone.keras&#x27;: no such file."),
        (
            Settings(str(user / "model.keras"), ("a",), ("ant",)),
            "Expected a name for each of the 3 classes. Received: 1.",
        ),
    ):
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        write_page(folder, settings, [one[0]], [one])
        shown = page(folder).value
        assert message in shown
        assert "pane-error" in shown


def test_a_server_that_ends_at_once_says_why(tmp_path, monkeypatch):
    def failing(notebook, port, token, log):
        return subprocess.Popen([sys.executable, "-c", "print('first'); print('no such option')"], stdout=log)

    monkeypatch.setattr(server, "_started", failing)
    with pytest.raises(ServerError, match=r"Voila did not start: no such option\."), served(tmp_path / "a.ipynb", 1):
        pytest.fail("nothing is served")
