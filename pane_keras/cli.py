"""The command `pane-keras`: demo, evaluate, explain, layers.

TensorFlow is imported only by a command that computes, so `--help` and `--version` answer at once.
"""

import argparse
import importlib
import math
import os
import sys

from pane_keras.errors import PaneError
from pane_keras.version import __version__

_MODEL = "a .keras file, loaded in Keras's safe mode, or the name of an architecture of keras.applications (ImageNet)"


def main(argv=None):
    """Runs the command.

    Args:
        argv: Arguments; by default those of the process.

    Returns:
        The exit code: 0, or 2 after one line on stderr that says what is wrong.
    """
    arguments = _parser().parse_args(argv)
    try:
        _check(arguments)
        _load_framework()
        importlib.import_module(f"pane_keras.commands.{arguments.command}").run(arguments)
    except PaneError as error:
        print(f"pane-keras: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"pane-keras: {message} (see {self.prog} --help)\n")


def _parser():
    parser = _Parser(prog="pane-keras", description="What excites and what inhibits any unit of a Keras model.")
    parser.add_argument("--version", action="version", version=f"pane-keras {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="explain two photographs with a trained ImageNet network")
    _add_out(demo)
    _add_explain(commands)
    _add_evaluate(commands)
    layers = commands.add_parser("layers", help="list a model's layers, their shapes and kinds of excitation")
    layers.add_argument("model", metavar="MODEL", help=_MODEL)
    return parser


def _add_explain(commands):
    explain = commands.add_parser("explain", help="explain pictures with your own model")
    explain.add_argument("model", metavar="MODEL", help=_MODEL)
    explain.add_argument("images", metavar="IMAGE", nargs="+")
    explain.add_argument(
        "--target", metavar="CLASS", type=int, help="class to explain (default: each picture's top one)"
    )
    explain.add_argument("--source", metavar="LAYER", help="layer to draw the map over (default: the pixels)")
    explain.add_argument("--layer", metavar="LAYER", help="layer to explain a unit of (default: the model's logits)")
    explain.add_argument("--unit", metavar="I,J,K", type=_unit, help="unit of --layer (default: its strongest)")
    explain.add_argument("--scale", metavar="S", type=_number, help="the model takes pixel * S + O, pixels 0 to 255")
    explain.add_argument("--offset", metavar="O", type=_number, help="see --scale (default: 0)")
    _add_out(explain)


def _add_evaluate(commands):
    evaluate = commands.add_parser("evaluate", help="run the paper's experiments on your own model and pictures")
    add = evaluate.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add(
        "--data",
        metavar="DIR|FILE.npz",
        required=True,
        help="a folder of class folders, a folder of pictures, or arrays: images (and labels)",
    )
    add("--methods", metavar="A,B", help="methods to compare (default: all)")
    add("--experiments", metavar="A,B", help="experiments to run (default: all)")
    add("--samples", metavar="N", type=_positive, default=1000, help="images at most (default: 1000, as in the paper)")
    add("--all-images", action="store_true", help="keep images whose predicted class is not their label")
    add("--classes", metavar="FILE", help="the class folders' names in the model's order (default: alphabetical)")
    add("--count", choices=("pixels", "elements", "both"), default="pixels", help="what a region's size counts")
    add("--scale", metavar="S", type=_number, help="the model takes value * S + O, pixels 0 to 255")
    add("--offset", metavar="O", type=_number, help="see --scale (default: 0)")
    add("--black", metavar="B[,B,B]", type=_numbers, help="what removed pixels are set to (default: what pixel 0 is)")
    add("--step", metavar="U[,U,U]", type=_numbers, help="1/255 of a pixel's range (default: what one grey level is)")
    add("--seed", metavar="N", type=_natural, default=0, help="of everything that is random (default: 0)")
    add("--batch-size", metavar="N", type=_positive, default=32, help="images computed at once (default: 32)")
    add("--out", metavar="DIR", default="pane_evaluation", help="folder for the results (default: pane_evaluation)")


def _add_out(parser):
    parser.add_argument("--out", metavar="DIR", default=".", help="folder for the PNGs (default: the current one)")


def _unit(text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers such as 7,7,40. Received: {text!r}") from None


def _number(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a finite number. Received: {text!r}")
    return number


def _numbers(text):
    numbers = [_number(part) for part in text.split(",")]
    return numbers if len(numbers) > 1 else numbers[0]


def _positive(text):
    return _whole(text, 1)


def _natural(text):
    return _whole(text, 0)


def _whole(text, least):
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}. Received: {text!r}")
    return number


def _check(arguments):
    if getattr(arguments, "target", None) is not None and arguments.layer is not None:
        raise PaneError("--target is a class of the model's output. A unit of --layer is chosen with --unit.")
    if getattr(arguments, "unit", None) is not None and arguments.layer is None:
        raise PaneError("--unit is a unit of a layer: say which layer with --layer.")


def _load_framework():
    """Imports TensorFlow without its start-up notices, unless the user has set how much it is to say."""
    if "tensorflow" in sys.modules or "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    # TensorFlow writes some notices before it reads that setting, so the stream itself is turned away.
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import keras

        # The first tensor starts the devices: where there is no GPU, the framework says so in several lines.
        keras.ops.zeros(())
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
