"""The names of ImageNet's 1000 classes."""

from functools import cache
from importlib import resources


@cache
def class_names():
    """Returns the names of ImageNet's 1000 classes, in the order of the networks' outputs."""
    text = resources.files("pane_keras.demo").joinpath("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
