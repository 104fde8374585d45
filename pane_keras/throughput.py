"""Maps of many images: batched, prefetched, with a progress bar, and written so that nothing is lost."""

import pathlib

import numpy as np
from keras import tree
from tqdm.auto import tqdm

from pane_keras import backend
from pane_keras.errors import InputError, SaveError
from pane_keras.files import claim_folder, written
from pane_keras.fingerprints import digest

_PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale")
_SETTINGS, _DIGEST = "explained.json", "inputs_sha256"


def explained(explain, data, batch_size, done=lambda number, inputs: False, progress=True):
    """Yields (number, inputs, maps, number of samples) for each batch of `data`; no maps where they are done already.

    Args:
        explain: Function of a batch of inputs -> maps.
        data: An array, a list of arrays, or a `tf.data.Dataset` of inputs or of (inputs, anything).
        batch_size: Samples a batch; None for a dataset that is batched already.
        done: Function (number, inputs) of a batch -> whether it is done.
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
        yield number, inputs, None if done(number, inputs) else explain(inputs), count


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

    def done(self, number, inputs):
        """Returns whether the maps of a batch are there.

        Raises:
            SaveError: They are those of other inputs.
        """
        path = self._path(number)
        if not path.exists():
            return False
        with np.load(path) as file:
            kept = str(file[_DIGEST])
        if kept != _digest_of(inputs):
            raise SaveError(
                f"The file {str(path)!r} holds the maps of other inputs. Choose another folder, or remove it first."
            )
        return True

    def save(self, number, inputs, maps, count):
        """Writes the first `count` samples of a batch, unless its maps are None, and returns the path of its file."""
        path = self._path(number)
        if maps is None:
            return path
        named = first_samples(maps if isinstance(maps, dict) else {"": maps}, count)
        arrays = {
            f"{name}/{part}".lstrip("/"): np.asarray(getattr(one, part))
            for name, one in named.items()
            for part in _PARTS
        }
        arrays[_DIGEST] = np.array(_digest_of(inputs))
        return written(path, lambda file: np.savez_compressed(file, **arrays))

    def _path(self, number):
        return self.path / f"maps_{number:05d}.npz"


def _digest_of(inputs):
    return digest(np.asarray(leaf) for leaf in tree.flatten(inputs))


def first_samples(maps, count):
    """Returns maps, or a dict of them, without the samples that filled the batch up."""
    if isinstance(maps, dict):
        return {name: first_samples(one, count) for name, one in maps.items()}
    return maps if maps.sum.shape[0] == count else maps.samples(slice(count))
