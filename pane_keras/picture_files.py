"""Which pictures are meant: files, folders and patterns."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from pane_keras.errors import LoadError

ENDINGS = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".ico", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"}
    | {".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
"""Endings of what counts as a picture in a folder; a file that is named may have any."""


@dataclass(frozen=True)
class PictureFile:
    """A file that should hold a picture.

    Attributes:
        path: The file.
        named: Whether the user named this very file, so that it has to be one.
    """

    path: Path
    named: bool


def pictures_in(folder, nested=False):
    """Returns the pictures in a folder by their endings, sorted; hidden files are left out.

    Args:
        folder: Path of the folder.
        nested: Whether to look into the folders in it, too.
    """
    inside = Path(folder).rglob("*") if nested else Path(folder).iterdir()
    return sorted(path for path in inside if _is_picture(path))


def picture_files(names):
    """Returns the `PictureFile`s that names stand for, in their order.

    Args:
        names: Files, folders (the pictures in them, sorted) and patterns such as "photos/*.jpg" or "**/*.png" that the
            shell has not expanded.

    Raises:
        LoadError: Nothing has this name, a folder has no pictures, or nothing matches a pattern.
    """
    return [file for name in names for file in _files(os.path.expanduser(name))]


def _is_picture(path):
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()


def _files(name):
    path = Path(name)
    if path.is_dir():
        return _found(pictures_in(path), f"No pictures in {name!r}: no file with an ending such as .jpg or .png.")
    if not path.exists() and glob.has_magic(name):
        matching = sorted(file for file in map(Path, glob.glob(name, recursive=True)) if file.is_file())
        return _found(matching, f"No file matches {name!r}.")
    return [PictureFile(path, True)]


def _found(paths, otherwise):
    if not paths:
        raise LoadError(otherwise)
    return [PictureFile(path, False) for path in paths]
