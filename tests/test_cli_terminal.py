"""The command at a terminal: colours, the progress bar, Ctrl-C, a reader that went away, and what --help says.

What runs in a process of its own goes without TensorFlow, which takes seconds to import.
"""

import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from pane_keras import cli
from pane_keras.cli import main
from pane_keras.commands.console import Console, painted
from pane_keras.version import __version__

RED, GREEN, YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"
CONSOLE = """
from pane_keras.commands.console import Console
with Console() as console:
    for name in console.progress(["a.png", "b.png", "c.png"], "picture"):
        console.say(name)
    console.say("self-check passed", "green")
    console.notice("skipped")
"""
COMMAND = """
import os, signal, sys, types
from pane_keras import cli
cli._load_framework = lambda: None
def run(arguments):
    {body}
sys.modules["pane_keras.commands.layers"] = types.SimpleNamespace(run=run)
sys.exit(cli.main(["layers", "model.keras"]))
"""


def at_a_terminal(code, *arguments, **variables):
    """Returns (exit code, everything that Python code writes to a terminal)."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    done = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**environment, "TERM": "xterm", **variables},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    written = b""
    try:
        while part := os.read(controller, 4096):
            written += part
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(controller)
    return done.wait(), written.decode()


def test_colours_and_a_progress_bar_at_a_terminal():
    code, written = at_a_terminal(CONSOLE)
    assert code == 0
    assert f"{GREEN}self-check passed" in written
    assert f"{YELLOW}pane-keras: notice:\x1b[0m skipped" in written
    assert "3/3 [" in written, "the bar counts pictures"
    # Each line has the row to itself: the bar is taken away before it.
    assert re.search(r"(^|\n|\r)a\.png\r\n", written)


def test_an_error_is_red_at_a_terminal_and_only_there():
    failing = "import sys; from pane_keras.cli import main; main(sys.argv[1:])"
    code, written = at_a_terminal(failing, "paint")
    assert code == 2
    assert written.startswith(f"{RED}pane-keras:\x1b[0m argument COMMAND: invalid choice: 'paint'")
    assert at_a_terminal(failing, "paint", NO_COLOR="1")[1].startswith("pane-keras: argument COMMAND")


def test_no_colours_and_no_bar_in_a_pipe(capsys):
    with Console() as console:
        assert list(console.progress([1, 2, 3], "picture")) == [1, 2, 3]
        console.say("self-check passed", "green")
        console.notice("skipped")
    assert capsys.readouterr() == ("self-check passed\n", "pane-keras: notice: skipped\n")


def test_colours_are_for_the_stream_that_is_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)

    class Stream:
        def __init__(self, terminal):
            self.isatty = lambda: terminal

    assert painted("pane-keras:", "red", stream=Stream(True)).startswith(RED)
    assert painted("pane-keras:", "red", stream=Stream(False)) == "pane-keras:"


def command(body, **streams):
    return subprocess.run([sys.executable, "-c", COMMAND.format(body=body)], text=True, check=False, **streams)


@pytest.mark.parametrize("body", ["print(1)", "print('line\\n' * 100000)"])
def test_a_reader_that_went_away(body):
    """`| head -1`: the rest has nowhere to go, which is not worth a word."""
    reader, writer = os.pipe()
    os.close(reader)
    done = command(body, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (cli.BROKEN_PIPE, "")


def test_interrupted_by_a_signal():
    # A job in the background has SIGINT ignored, and the tests may be one.
    handler = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = command(f"{handler}; os.kill(os.getpid(), signal.SIGINT)", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (cli.INTERRUPTED, "", "pane-keras: interrupted\n")


def test_a_bug_is_exit_code_1_with_its_traceback():
    done = command("raise RuntimeError('not foreseen')", capture_output=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert "RuntimeError: not foreseen" in done.stderr


def test_what_a_command_returns_is_the_exit_code():
    assert [command(f"return {code}").returncode for code in (None, 3)] == [0, 3]


@pytest.mark.parametrize("command", ["demo", "evaluate", "explain", "explore", "layers"])
def test_help_has_examples_that_parse_and_the_exit_codes(command, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    said = capsys.readouterr().out
    for code in (0, 1, 2, 3, cli.INTERRUPTED, cli.BROKEN_PIPE):
        assert re.search(rf"^  {code} ", said, re.MULTILINE)
    examples = re.findall(r"^  (pane-keras .*)$", said, re.MULTILINE)
    assert len(examples) > 1
    for example in examples:
        arguments = re.split(r"  +| \| | > ", example)[0].replace("'", "").split()[1:]
        assert cli._parser().parse_args(cli.take.joined(arguments)).command == command


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--offset", "-1,-2,3"], ["--offset=-1,-2,3"]),
        (["--offset", "-1e-3", "x.png"], ["--offset=-1e-3", "x.png"]),
        (["--scale", "1,2", "--offset", "-.5"], ["--scale", "1,2", "--offset=-.5"]),
        (["--offset", "--json"], ["--offset", "--json"]),
        (["--target", "-1"], ["--target", "-1"]),
        (["--offset"], ["--offset"]),
    ],
)
def test_a_list_may_start_with_a_minus(given, expected):
    assert cli.take.joined(given) == expected


def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "pane_keras", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pane-keras {__version__}\n"
