"""The command `pane-keras`: demo, evaluate, explain, explore, layers.

TensorFlow is imported only by a command that computes, so `--help` and `--version` answer at once.
"""

import argparse
import importlib
import os
import sys

from pane_keras import option_types as take
from pane_keras.errors import PaneError
from pane_keras.version import __version__

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit codes as shells give them to what SIGINT and SIGPIPE ended."""

_MODEL = (
    "a .keras file, loaded in Keras's safe mode; the name of an architecture of keras.applications (ImageNet); or "
    "demo, EfficientNet-Lite0 with ImageNet weights that need no download (extra demo)"
)
_IMAGE = "a picture, a folder of pictures, or a pattern in quotes"
_EXIT = """\
exit code:
  0    done
  1    a bug in pane-keras, with a traceback
  2    what was asked for cannot be done; one line on stderr says why
  3    done, but a self-check failed: the parts of a map do not add up
  130  interrupted (Ctrl-C); what is unfinished is not written
  141  nobody reads the output any more (| head)

Colours are for terminals only, and NO_COLOR=1 turns them off."""
_EXAMPLES = """\
examples:
  pane-keras demo
  pane-keras explain model.keras cat.jpg
  pane-keras layers model.keras
  pane-keras evaluate model.keras --data photographs
Each command has its own: pane-keras explain --help"""
_DEMO_EXAMPLES = """\
examples:
  pane-keras demo                       two PNGs in the current folder
  pane-keras demo --out figures --npz   and the maps as arrays
  pane-keras demo --json | jq '.pictures[].top[0].name'"""
_EXPLAIN_EXAMPLES = """\
examples:
  pane-keras explain demo cat.jpg
      with an ImageNet network that needs no download
  pane-keras explain model.keras cat.jpg
      the top class over the pixels: cat_pane.png in the current folder
  pane-keras explain model.keras photos 'more/**/*.jpg' --out figures
      every picture in a folder, and whatever matches a pattern
  pane-keras explain model.keras cat.jpg --target 285 --scale 0.0078125 --offset -1
      another class, for a model that takes pixels from -1 to 1
  pane-keras explain model.keras cat.jpg --scale 0.0171,0.0175,0.0174 --offset -2.12,-2.04,-1.80
      one number for each channel
  pane-keras explain model.keras cat.jpg --source block1_conv1 --layer block5_conv3 --unit 7,7,40
      what in one layer excites a unit of another
  pane-keras explain model.keras photos --json --npz --no-png > maps.json
      for a script: one JSON document, and the maps as arrays

Pictures may have any format that Pillow reads. They are resized to what the model takes and converted to its number of
channels, and each such change is said. What cannot be read is skipped where it lay in a folder or matched a pattern,
and an error where it was named."""
_EXPLORE_EXAMPLES = """\
examples:
  pane-keras explore demo
  pane-keras explore model.keras cat.jpg photos --classes names.txt"""
_EVALUATE_EXAMPLES = """\
examples:
  pane-keras evaluate model.keras --data photographs --out report
      all experiments with all methods; interrupted and called again, it goes on
  pane-keras evaluate model.keras --data test.npz --samples 100 --methods pos,pos+neg,grad-cam,random
  pane-keras evaluate model.keras --data photographs --scale 0.0171,0.0175,0.0174 --offset -2.12,-2.04,-1.80
      one number for each channel
  pane-keras evaluate model.keras --data test.npz --json | jq '.verdicts[]'"""
_LAYERS_EXAMPLES = """\
examples:
  pane-keras layers model.keras
  pane-keras layers model.keras --json | jq -r '.layers[] | select(.treated_as == "unsupported") | .name'

The exit code is 2 where a layer is unsupported."""


def main(argv=None):
    """Runs the command.

    Args:
        argv: Arguments; by default those of the process.

    Returns:
        The exit code, as `pane-keras --help` lists them.
    """
    arguments = _parser().parse_args(take.joined(sys.argv[1:] if argv is None else argv))
    try:
        _check(arguments)
        _load_framework()
        code = importlib.import_module(f"pane_keras.commands.{arguments.command}").run(arguments)
        sys.stdout.flush()
    except PaneError as error:
        return _failed(" ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        return _failed("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Python flushes stdout once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code or 0


def _failed(message, code):
    from pane_keras.commands.console import painted

    print(f"{painted('pane-keras:', 'red', stream=sys.stderr)} {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(_failed(f"{message} (see {self.prog} --help)", 2))


def _parser():
    about = "What excites and what inhibits any unit of a Keras model."
    parser = _Parser(prog="pane-keras", description=about, **_ending(_EXAMPLES))
    parser.add_argument("--version", action="version", version=f"pane-keras {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_explain(commands)
    _add_evaluate(commands)
    _add_explore(commands)
    _add_layers(commands)
    return parser


def _ending(examples):
    return {"epilog": f"{examples}\n\n{_EXIT}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def _add_demo(commands):
    what = "explain two photographs with a trained ImageNet network"
    demo = commands.add_parser("demo", help=what, description=f"{what.capitalize()}.", **_ending(_DEMO_EXAMPLES))
    _add_results(demo)


def _add_layers(commands):
    what = "list a model's layers, their shapes and kinds of excitation"
    layers = commands.add_parser("layers", help=what, description=f"{what.capitalize()}.", **_ending(_LAYERS_EXAMPLES))
    layers.add_argument("model", metavar="MODEL", help=_MODEL)
    _add_json(layers)


def _add_explain(commands):
    what = "explain pictures with your own model"
    explain = commands.add_parser(
        "explain", help=what, description=f"{what.capitalize()}.", **_ending(_EXPLAIN_EXAMPLES)
    )
    add = explain.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add("images", metavar="IMAGE", nargs="+", help=_IMAGE)
    add("--target", metavar="CLASS", type=int, help="class to explain (default: each picture's top one)")
    add("--source", metavar="LAYER", help="layer to draw the map over (default: the pixels)")
    add("--layer", metavar="LAYER", help="layer to explain a unit of (default: the model's logits)")
    add("--unit", metavar="I,J,K", type=take.unit, help="unit of --layer (default: its strongest)")
    _add_classes(add)
    _add_units(add)
    _add_results(explain)


def _add_evaluate(commands):
    what = "run the paper's experiments on your own model and pictures"
    evaluate = commands.add_parser(
        "evaluate", help=what, description=f"{what.capitalize()}.", **_ending(_EVALUATE_EXAMPLES)
    )
    add = evaluate.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add(
        "--data",
        metavar="DIR|FILE.npz|DATASET",
        required=True,
        help="a folder of class folders, a folder of pictures, arrays: images (and labels), or Keras's test pictures: "
        "cifar10, cifar100, fashion_mnist or mnist",
    )
    add("--methods", metavar="A,B", help="methods to compare (default: all)")
    add("--experiments", metavar="A,B", help="experiments to run (default: all)")
    add("--samples", metavar="N", type=take.positive, default=1000, help="images at most (default: 1000)")
    add(
        "--limits",
        metavar="NAME=N,..",
        type=take.limits,
        default={},
        help="images at most for single methods or experiments (default: 100 for score-cam, smooth-grad and "
        "class-sensitivity, 50 for randomisation)",
    )
    add("--all-images", action="store_true", help="keep images whose predicted class is not their label")
    add("--classes", metavar="FILE", help="the class folders' names in the model's order (default: alphabetical)")
    add("--count", choices=("pixels", "elements", "both"), default="pixels", help="what a region's size counts")
    _add_units(add)
    add("--black", metavar="B[,B,B]", type=take.numbers, help="what removed pixels are set to (default: what 0 is)")
    add(
        "--step",
        metavar="U[,U,U]",
        type=take.numbers,
        help="1/255 of a pixel's range (default: what one grey level is)",
    )
    add("--seed", metavar="N", type=take.natural, default=0, help="of everything that is random (default: 0)")
    add("--batch-size", metavar="N", type=take.positive, default=32, help="images computed at once (default: 32)")
    add("--out", metavar="DIR", default="pane_evaluation", help="folder for the results (default: pane_evaluation)")
    _add_json(evaluate)


def _add_explore(commands):
    what = "open the explorer in the browser, on your own model and pictures"
    explore = commands.add_parser(
        "explore", help=what, description=f"{what.capitalize()}.", **_ending(_EXPLORE_EXAMPLES)
    )
    add = explore.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add("images", metavar="IMAGE", nargs="*", help=_IMAGE)
    _add_classes(add)
    _add_units(add)
    add("--port", metavar="N", type=take.natural, default=0, help="port to serve on (default: any that is free)")
    add("--no-browser", action="store_true", help="print the address, and open no browser")


def _add_classes(add):
    add("--classes", metavar="FILE", help="the classes' names, one a line, in the model's order")


def _add_units(add):
    add("--scale", metavar="S[,S,S]", type=take.numbers, help="the model takes pixel * S + O, pixels 0 to 255")
    add("--offset", metavar="O[,O,O]", type=take.numbers, help="see --scale (default: 0)")


def _add_results(parser):
    parser.add_argument("--out", metavar="DIR", default=".", help="folder for the results (default: the current one)")
    parser.add_argument("--npz", action="store_true", help="write the maps as arrays, too: NAME_pane.npz")
    parser.add_argument("--no-png", action="store_false", dest="png", help="write no figures")
    _add_json(parser)


def _add_json(parser):
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


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
