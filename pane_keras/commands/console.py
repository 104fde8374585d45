"""What a command says: lines for people on stdout, or one JSON document; notices on stderr either way."""

import contextlib
import json
import math
import sys

import numpy as np
from termcolor import colored
from tqdm import tqdm

from pane_keras.version import __version__


class Console:
    """Where the words of a command go, as a context manager.

    Args:
        as_json: Whether stdout is for one JSON document alone: what libraries print goes to stderr then.
    """

    def __init__(self, as_json=False):
        self.as_json = as_json
        self._notices, self._stack = [], contextlib.ExitStack()

    def __enter__(self):
        self._out = sys.stdout
        if self.as_json:
            self._stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return self

    def __exit__(self, *error):
        self._stack.close()

    def say(self, text="", *colour):
        """Prints a line for people, above a progress bar; nothing where JSON was asked for.

        Args:
            text: The line or lines.
            *colour: Of termcolor, such as "green", on a terminal.
        """
        if not self.as_json:
            tqdm.write(painted(text, *colour, stream=self._out), file=self._out)

    def notice(self, text):
        """Says on stderr, and in the JSON document, what the user should know and cannot see in the result."""
        self._notices.append(text)
        tqdm.write(f"{painted('pane-keras: notice:', 'yellow', stream=sys.stderr)} {text}", file=sys.stderr)

    def finish(self, command, **content):
        """Prints the JSON document where it was asked for.

        Args:
            command: The command's name.
            **content: What it found; NumPy's arrays become lists, and what JSON has no number for, null.
        """
        if self.as_json:
            head = {"pane_keras": __version__, "command": command}
            print(json.dumps(_plain({**head, **content, "notices": self._notices}), indent=1), file=self._out)

    def progress(self, items, unit):
        """Returns the items, with a progress bar on stderr where that is a terminal and there are several."""
        return tqdm(items, unit=unit, disable=len(items) < 2 or not sys.stderr.isatty())


def painted(text, *colour, stream):
    """Returns text in a colour where the stream is a terminal and NO_COLOR is not set."""
    return colored(text, *colour, no_color=None if stream.isatty() else True) if colour else text


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
