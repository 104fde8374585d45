"""`pane-keras explore`: the explorer on a user's own model and pictures, served to this machine's browser."""

import contextlib
import signal
import tempfile
import webbrowser
from pathlib import Path
from typing import NamedTuple

from pane_keras.commands.class_names import class_names
from pane_keras.commands.preprocessing import Preprocessing, picture_input
from pane_keras.demo.labels import class_names as imagenet_names
from pane_keras.errors import InputError
from pane_keras.explorer.page import Settings, write_page
from pane_keras.explorer.server import free_port, served
from pane_keras.extras import needed
from pane_keras.loading import DEMO, load_model
from pane_keras.picture_files import picture_files
from pane_keras.pictures import read_picture
from pane_keras.wrapping import wrap


class Shown(NamedTuple):
    """What the page is to show: its `Settings`, pictures (height, width, channels) and inputs (1, *shape)."""

    settings: Settings
    pictures: list
    inputs: list


def run(arguments):
    """Serves the explorer until it is stopped.

    Args:
        arguments: The parsed arguments of the command.
    """
    for package, name in (("voila", "Voila"), ("anywidget", "anywidget"), ("ipykernel", "ipykernel")):
        needed(package, name, "explore")
    port = free_port(arguments.port)
    shown = _demo() if _is_demo(arguments) else _own(arguments)
    with tempfile.TemporaryDirectory(prefix="pane_keras_") as folder, _stoppable():
        _serve(write_page(folder, *shown), port, not arguments.no_browser)
    print("Stopped.")


def _serve(notebook, port, in_browser):
    with served(notebook, port) as (address, process):
        print(f"The explorer is at {address}\nIt loads the model when the page is opened. Ctrl-C stops it.", flush=True)
        if in_browser:
            webbrowser.open(address)
        process.wait()


@contextlib.contextmanager
def _stoppable():
    """Ctrl-C, or a request to end, leaves what is within it in order, also where a shell had SIGINT ignored."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        print()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_demo(arguments):
    return arguments.model == DEMO and not arguments.images and not Path(DEMO).exists()


def _demo():
    from pane_keras.demo.efficientnet_lite import weights_file
    from pane_keras.demo.photographs import PHOTOGRAPHS, photograph

    weights_file()
    pictures = [photograph(name) for name in PHOTOGRAPHS]
    print("EfficientNet-Lite0, trained on ImageNet")
    return Shown(Settings(DEMO, PHOTOGRAPHS, imagenet_names()), pictures, [pixels[None] for pixels in pictures])


def _own(arguments):
    """The model is loaded here once, so that what is wrong with it is said before any page is served."""
    if not arguments.images:
        raise InputError("explore needs at least one picture. Only `pane-keras explore demo` brings its own.")
    names = class_names(arguments)
    model = load_model(arguments.model)
    pane = wrap(model)
    shape = picture_input(pane)
    prepare = Preprocessing(pane, shape.channels, arguments)
    files = [file.path for file in picture_files(arguments.images)]
    pictures = [read_picture(path, shape.channels, shape.size) for path in files]
    print(f"{model.name} ({model.count_params():,} parameters, {arguments.model})\npixels: {prepare.said}")
    for path, picture in zip(files, pictures):
        print(f"{path.name}{''.join(f', {notice}' for notice in picture.notices)}")
    path = Path(arguments.model)
    settings = Settings(
        str(path.resolve()) if path.exists() else arguments.model,
        tuple(path.name for path in files),
        names,
        -1 if shape.axis is None else shape.axis,
    )
    return Shown(settings, [p.pixels for p in pictures], [shape.batch(prepare(p.pixels)) for p in pictures])
