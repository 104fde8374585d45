"""Maps of many images: batched, prefetched, with a progress bar, and written so that nothing is lost."""

import hashlib
import json
import pathlib
import re
import tempfile

import numpy as np
from tqdm.auto import tqdm

from pane_keras import backend
from pane_keras.errors import InputError, SaveError

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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(f"Cannot make the folder {str(self.path)!r}: {error.strerror}.") from None
        known, settings = self.path / _SETTINGS, json.loads(json.dumps(settings, default=_plain))
        if known.exists() and _read(known) != settings:
            raise SaveError(
                f"The folder {str(self.path)!r} holds maps of another model, data or settings. Choose another folder, "
                "or remove it first."
            )
        self._write(known, lambda file: file.write(json.dumps(settings).encode()))

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
        self._write(path, lambda file: np.savez_compressed(file, **arrays))
        return path

    def _write(self, path, write):
        part = None
        try:
            with tempfile.NamedTemporaryFile(dir=self.path, suffix=".part", delete=False) as file:
                part = pathlib.Path(file.name)
                write(file)
            part.replace(path)
        except OSError as error:
            if part is not None:
                part.unlink(missing_ok=True)
            raise SaveError(f"Cannot write {str(path)!r}: {error.strerror}.") from None


def first_samples(maps, count):
    """Returns maps, or a dict of them, without the samples that filled the batch up."""
    if isinstance(maps, dict):
        return {name: first_samples(one, count) for name, one in maps.items()}
    return maps if maps.sum.shape[0] == count else maps.samples(slice(count))


def fingerprint(model, data, **settings):
    """Returns what maps depend on: the settings, with a digest of the model's weights and of the ends of the data."""
    shapes, ends = backend.ends(data)
    weights = _digest(variable.numpy() for variable in model.weights)
    return {"model": model.name, "weights": weights, "shapes": shapes, "data": _digest(ends), **settings}


def _read(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def _plain(value):
    """Numbers and arrays of NumPy as JSON takes them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _digest(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
