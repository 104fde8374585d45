"""Voila as a child process: started on a free port of this machine, stopped with all its kernels."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from pane_keras.errors import PaneError

_HOST, _STARTS_WITHIN, _STOPS_WITHIN = "127.0.0.1", 60, 10


class ServerError(PaneError, RuntimeError):
    """The page cannot be served."""


def free_port(port=0):
    """Returns a port that nothing listens on: the one asked for, or with 0 any.

    Raises:
        ServerError: The port that was asked for is taken, or may not be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except (OSError, OverflowError):
            raise ServerError(
                f"Port {port} is taken, or is none that may be used. Choose another one with --port, or leave it out."
            ) from None
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(notebook, port):
    """Within it, Voila serves a notebook to this machine alone; yields (address, process).

    Args:
        notebook: Path of the notebook; kernels are looked for in the folder `kernels` beside it.
        port: A free port.

    Raises:
        ServerError: Voila does not start.
    """
    # Other users of this machine reach the port, too: they do not know the token.
    token, log = secrets.token_urlsafe(16), Path(notebook).with_name("voila.log")
    with log.open("wb") as file:
        process = _started(notebook, port, token, file)
        try:
            _wait(process, port, log)
            yield f"http://{_HOST}:{port}/?token={token}", process
        finally:
            _stop(process)


def _started(notebook, port, token, log):
    command = [
        *(sys.executable, "-m", "voila", str(notebook), "--no-browser", "--theme=light", f"--port={port}"),
        *(f"--Voila.ip={_HOST}", "--Voila.port_retries=0", f"--token={token}"),
        # Kernels of pages that were closed without notice.
        *("--MappingKernelManager.cull_idle_timeout=600", "--MappingKernelManager.cull_interval=60"),
    ]
    paths = [str(Path(notebook).parent), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    environment = {**os.environ, "JUPYTER_PATH": os.pathsep.join(paths)}
    # In a session of its own: Ctrl-C reaches this process alone, which stops Voila in order.
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )


def _wait(process, port, log):
    """Until it listens; asking for the page would start a kernel."""
    for _ in range(10 * _STARTS_WITHIN):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
            return
        time.sleep(0.1)
    said = log.read_text(errors="replace").strip().splitlines()
    raise ServerError(f"Voila did not start: {said[-1] if said else f'nothing answers on port {port}'}.")


def _stop(process):
    """An interrupt lets Voila shut its kernels down; kernels whose server was killed end by themselves."""
    for stop in (lambda: process.send_signal(signal.SIGINT), process.terminate, process.kill):
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                stop()
                process.wait(_STOPS_WITHIN)
