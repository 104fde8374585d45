"""Checks what is in a wheel and in an sdist: `python .ci/package_contents.py WHEEL SDIST`."""

import sys
import tarfile
import zipfile

NEEDED = (
    "pane_keras/__init__.py",
    "pane_keras/py.typed",
    "pane_keras/demo/imagenet_labels.txt",
    "pane_keras/explorer/explorer.css",
    "pane_keras/explorer/picture.js",
    "pane_keras/evaluation/methods/__init__.py",
    "LICENSE",
)
# setuptools puts tests into every sdist; a wheel must have none.
OF_SDIST = ("tests/",)
UNWANTED = ("shared/", "notebooks/", "docs/_site/", "__pycache__/", ".ci/")


def names_in(path):
    """Returns the names of the files in an archive, without the folder that an sdist wraps around them."""
    if path.endswith(".whl"):
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path) as archive:
        return [member.name.partition("/")[2] for member in archive if member.isfile()]


def problems(path, names):
    """Returns what is missing in an archive and what should not be there, in words."""
    unwanted = UNWANTED + (OF_SDIST if path.endswith(".whl") else ())
    missing = [f"{path} lacks {name}" for name in NEEDED if not any(n.endswith(name) for n in names)]
    return missing + [f"{path} has {name}" for name in names if any(f"/{u}" in f"/{name}" for u in unwanted)]


def main(paths):
    """Returns the exit code: 1 where something is missing or should not be there."""
    found = [problem for path in paths for problem in problems(path, names_in(path))]
    print("\n".join(found) or f"{len(paths)} packages hold what they should")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
