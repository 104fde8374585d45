"""Images and labels as arrays, from memory, from a `.npz` file or from one of Keras's data sets by name."""

from pathlib import Path

import keras
import numpy as np

from pane_keras.errors import LoadError

DATASETS = ("cifar10", "cifar100", "fashion_mnist", "mnist")
"""Names of Keras's data sets of pictures."""


def read_arrays(source):
    """Returns (images, labels) as they are, labels None where there are none.

    Args:
        source: A `.npz` file with `images` and, if they are known, `labels`; the name of one of `DATASETS`, whose test
            pictures are meant; an array of images; or (images, labels).

    Raises:
        LoadError: Nothing there, another kind of file, or a data set that cannot be downloaded.
    """
    if isinstance(source, (str, Path)):
        return _test_part(source) if is_dataset(source) else _from_npz(Path(source))
    pair = isinstance(source, (tuple, list)) and len(source) == 2
    return (np.asarray(source[0]), source[1]) if pair else (np.asarray(source), None)


def is_dataset(source):
    """Whether this is the name of one of Keras's data sets; a file or folder of that name comes first."""
    return isinstance(source, str) and _name(source) in DATASETS and not Path(source).exists()


def keras_dataset(name, otherwise):
    """Returns ((pictures, labels), (test pictures, test labels)) of one of `DATASETS`, which Keras downloads once.

    Args:
        name: Its name, with - or _.
        otherwise: What to do where it cannot be downloaded, a sentence.

    Raises:
        LoadError: It cannot be downloaded.
    """
    try:
        return getattr(keras.datasets, _name(name)).load_data()
    except Exception as error:  # Keras raises a plain Exception where it cannot download
        why = " ".join(str(error).split())[:200]
        raise LoadError(f"Keras could not download {name} ({why}). {otherwise}") from None


def _name(source):
    return source.replace("-", "_").lower()


def _test_part(name):
    _, held_out = keras_dataset(
        name,
        f"Where it can, call keras.datasets.{_name(name)}.load_data() once and copy the folder .keras/datasets here, "
        "or pass a .npz file with the arrays images and labels.",
    )
    return held_out


def _from_npz(path):
    if path.suffix != ".npz" or not path.is_file():
        what = "no such folder or file" if not path.exists() else "another kind of file"
        raise LoadError(
            f"Expected a folder of pictures, a .npz file, or one of {', '.join(DATASETS)}. Received: {str(path)!r}, "
            f"{what}."
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file)
            arrays = {name: file[name] for name in names if name in ("images", "labels")}
    except Exception as error:  # NumPy raises anything from BadZipFile to ValueError here
        raise LoadError(f"{str(path)!r} is no .npz file of plain arrays: {error}.") from None
    if "images" not in arrays:
        raise LoadError(f"Expected the array 'images' in {str(path)!r}, and 'labels' if known. Received: {names}.")
    return arrays["images"], arrays.get("labels")
