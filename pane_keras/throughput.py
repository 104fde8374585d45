"""Maps of many images: batched, prefetched, with a progress bar, and written so that nothing is lost."""

import hashlib
import pathlib
import re

import numpy as np
from tqdm.auto import tqdm

from pane_keras import backend
from pane_keras.errors import InputError
from pane_keras.files import claim_folder, written

_PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale")
_SETTINGS = "explained.json"


def explained(explain, data, batch_size, done=(), progress=True):
    """Yields (number, maps, number of samples) for each batch of `data`; no maps where they are done already.

    Args:
        explain: Function of a batch of inputs -> maps.
        data: An array, a list of arrays, or a `tf.data.Dataset` of inputs or of (inputs, anything).
        batch_size: Samples a batch; None for a dataset that is batched already.
        done: Numbers of the batches that are done.
        progress: Whether to show a progress bar.

    Raises:
        InputError: The data are neither arrays nor a dataset.
    """
    lengths = {len(array) for array in data} if isinstance(data, (list, tuple)) else set()
    if len(lengths) > 1:
        raise InputError(f"Expected as many samples of each input. Received arrays of {sorted(lengths)} samples.")
    batches, total = backend.batches(data, batch_size)
    if batches is None:
        raise InputError(f"Expected an array or a tf.data.Dataset. Received: {type(data).__name__}.")
    for number, (inputs, count) in enumerate(tqdm(batches, total=total, disable=not progress, unit="batch")):
        yield number, None if number in done else explain(inputs), count


class MapFolder:
    """A folder of `maps_00000.npz`, ..., one for each batch, and the settings they were made with.

    A batch is written to a temporary file and moved into place, so what is there is whole; asked again with the same
    settings, the batches that are there are not computed again.

    Args:
        path: The folder; it is made where there is none.
        settings: Dict of what the maps depend on.

    Raises:
        SaveError: The folder cannot be made, or holds maps of other settings.
    """

    def __init__(self, path, settings):
        self.path = pathlib.Path(path)
        claim_folder(self.path / _SETTINGS, settings)

    @property
    def done(self):
        """Numbers of the batches that are there."""
        names = (re.fullmatch(r"maps_(\d+)\.npz", path.name) for path in self.path.iterdir())
        return {int(name[1]) for name in names if name}

    def save(self, number, maps, count):
        """Writes the first `count` samples of a batch, unless its maps are None, and returns the path of its file."""
        path = self.path / f"maps_{number:05d}.npz"
        if maps is None:
            return path
        named = first_samples(maps if isinstance(maps, dict) else {"": maps}, count)
        arrays = {
            f"{name}/{part}".lstrip("/"): np.asarray(getattr(one, part))
            for name, one in named.items()
            for part in _PARTS
        }
        return written(path, lambda file: np.savez_compressed(file, **arrays))


def first_samples(maps, count):
    """Returns maps, or a dict of them, without the samples that filled the batch up."""
    if isinstance(maps, dict):
        return {name: first_samples(one, count) for name, one in maps.items()}
    return maps if maps.sum.shape[0] == count else maps.samples(slice(count))


def fingerprint(model, data, **settings):
    """Returns what maps depend on: the settings, with a digest of the model's weights and of the ends of the data.

    Keras counts unnamed models up within a process, so the number at the end of a name says nothing.
    """
    name = re.sub(r"_\d+$", "", model.name)
    shapes, ends = backend.ends(data)
    weights = _digest(variable.numpy() for variable in model.weights)
    return {"model": name, "weights": weights, "shapes": shapes, "data": _digest(ends), **settings}


def _digest(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
