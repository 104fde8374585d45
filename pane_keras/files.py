"""Results on disk: written to a temporary file and moved into place, with the settings they belong to beside them."""

import contextlib
import json
import secrets

from pane_keras.errors import SaveError


@contextlib.contextmanager
def saving(path):
    """Raises SaveError, naming `path`, where the file system refuses."""
    try:
        yield
    except OSError as error:
        raise SaveError(f"Cannot write {str(path)!r}: {error.strerror}.") from None


def written(path, write):
    """Writes a file whole or not at all, and returns its path.

    Args:
        path: The file.
        write: Function that writes to an open binary file.

    Raises:
        SaveError: The file system refuses.
    """
    # Not by tempfile: others could not read what it makes.
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with saving(path):
        try:
            with part.open("xb") as file:
                write(file)
            part.replace(path)
        except BaseException:  # Ctrl-C, too
            part.unlink(missing_ok=True)
            raise
    return path


def claim_folder(path, settings):
    """Makes a folder for results of some settings, or finds it again.

    Args:
        path: The JSON file in the folder that holds the settings.
        settings: Dict; arrays and numbers of NumPy are written as lists and numbers.

    Raises:
        SaveError: The folder cannot be made, or holds results of other settings.
    """
    with saving(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        refuse_other_settings(path, settings)
    else:
        written(path, lambda file: file.write(json.dumps(settings, default=_plain).encode()))


def refuse_other_settings(path, settings):
    """Raises SaveError where the JSON file at `path` does not hold these settings."""
    if _read(path) != json.loads(json.dumps(settings, default=_plain)):
        raise SaveError(
            f"The folder {str(path.parent)!r} holds results of another model, data or settings. Choose another folder, "
            "or remove it first."
        )


def _read(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else str(value)
