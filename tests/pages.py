"""The Python blocks of a page of the documentation, run in order in one namespace, and what they print.

A block of ```text right below a block of Python is what that prints: the same words, and numbers that agree to a few
percent, since training and rounding differ between machines.

One thing is substituted, and only this: `weights="imagenet"` becomes `weights=None`, because pretrained weights are
downloaded and tests are run without the internet. The architecture is the same, and its random weights are seeded.
"""

import contextlib
import io
import pathlib
import re
from typing import NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"

TOLERANCE = 0.03
"""Largest difference of a printed number, relative to its size, or absolute below 1."""

_BLOCK = re.compile(
    r"^```python\n(?P<source>.*?)^```\n(?:\n*^```text\n(?P<printed>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:e[-+]?\d+)?")
_DOWNLOADED, _RANDOM = 'weights="imagenet"', "weights=None"


class Block(NamedTuple):
    """A block of Python of a page.

    Attributes:
        line: Number of its first line.
        source: The code.
        printed: What the page says that it prints, or None.
    """

    line: int
    source: str
    printed: str | None


def blocks(path):
    """Returns the `Block`s of a page."""
    text = path.read_text()
    return [
        Block(text.count("\n", 0, match.start("source")) + 1, match["source"], match["printed"])
        for match in _BLOCK.finditer(text)
    ]


def run(path, **names):
    """Runs the blocks of a page in one namespace, compares what they print, and returns the namespace.

    Args:
        path: The page.
        **names: What is there before its first block.
    """
    names = {"__name__": path.stem, **names}
    for block in blocks(path):
        written = io.StringIO()
        source = "\n" * (block.line - 1) + block.source.replace(_DOWNLOADED, _RANDOM)
        with contextlib.redirect_stdout(written):
            exec(compile(source, str(path), "exec"), names)
        if block.printed is not None:
            assert_printed(written.getvalue(), block.printed, f"{path.name}, line {block.line}")
    return names


def assert_printed(actual, shown, where):
    """Asserts that the words are the same, spacing aside, and the numbers nearly."""
    words, numbers = zip(*map(_words_and_numbers, (actual, shown)), strict=True)
    assert words[0] == words[1], f"{where} prints:\n{actual}"
    close = np.isclose(*numbers, rtol=TOLERANCE, atol=TOLERANCE)
    assert close.all(), f"{where} prints:\n{actual}"


def _words_and_numbers(text):
    return _NUMBER.sub("#", text).split(), np.array([float(number) for number in _NUMBER.findall(text)])
