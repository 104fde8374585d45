"""A dense pair that is larger than memory, written to files block by block, and resumed after an interruption."""

import hashlib
import math
import pathlib
import shutil

import keras
import numpy as np
from keras import ops
from tqdm.auto import tqdm

from pane_keras import backend
from pane_keras.dense import DenseExcitation
from pane_keras.errors import SaveError
from pane_keras.files import claim_folder, refuse_other_settings, saving
from pane_keras.maps import map_of
from pane_keras.sizes import size

_COEFFICIENTS, _SCALES = ("positive", "negative", "sum"), ("log2_scale", "sum_log2_scale")
_SETTINGS, _DONE = "pair.json", "done.npy"


def stream_dense(pair, out, max_bytes, progress):
    """Returns the `DenseExcitation` of a pair that lies in the files of a folder, computed as far as they lack it.

    Args:
        pair: The `Excitation`.
        out: The folder.
        max_bytes: Size of what is computed at a time.
        progress: Whether to show a progress bar.

    Raises:
        SaveError: As `Excitation.dense`.
    """
    if backend.is_symbolic(pair.signal):
        raise SaveError("dense(out=...) writes files, which a tf.function cannot. Call it outside of it.")
    whole, settings = pathlib.Path(out), _settings(pair)
    if whole.is_file():
        raise SaveError(f"{str(whole)!r} is a file. Choose a folder for out=, one that there is not yet.")
    if whole.exists() and any(whole.iterdir()):
        refuse_other_settings(whole / _SETTINGS, settings)
    else:
        dense = pair.dense_pair()
        dense.keep_within(max_bytes)
        with saving(whole):
            part = whole.with_name(f"{whole.name}.part")
            _fill(dense, _Folder(part, pair, settings), max_bytes, progress)
            part.replace(whole)
            (whole / _DONE).unlink()
    arrays = [_read(whole / f"{name}.npy") for name in (*_COEFFICIENTS, *_SCALES)]
    return DenseExcitation(*arrays, pair.signal, pair.source, pair.target)


def _read(path):
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError):
        raise SaveError(f"{str(path)!r} is missing or damaged. Remove the folder, and it is computed again.") from None


def _fill(dense, folder, max_bytes, progress):
    stripes = [rows for rows in dense.stripes(max_bytes) if not folder.done[rows.start : rows.stop].all()]
    for rows in tqdm(stripes, disable=not progress, unit="block"):
        folder.write(rows, map_of(dense.row_block(rows), True))


class _Folder:
    """The files of a dense pair that is being computed, and which rows of it are there."""

    def __init__(self, path, pair, settings):
        self.path, self._units = path, math.prod(pair.target_shape)
        if path.is_dir() and any(path.iterdir()):
            refuse_other_settings(path / _SETTINGS, settings)
        claim_folder(path / _SETTINGS, settings)
        self._shapes = _shapes(pair)
        self.done = self._begun()
        if self.done is None:
            self._refuse_full_disk()
            self._allocate()
            self.done = self._begun()

    def write(self, rows, maps):
        """Writes the rows of some units of the target, and only then notes that they are there."""
        for name, (shape, _) in self._shapes.items():
            # Maps of several rows have the batch first, then the rows.
            array = np.load(self.path / f"{name}.npy", mmap_mode="r+")
            flat = array.reshape(shape[0], self._units, -1)
            flat[:, rows.start : rows.stop] = np.reshape(getattr(maps, name), (shape[0], len(rows), -1))
            array.flush()
        self.done[rows.start : rows.stop] = True
        self.done.flush()

    def _begun(self):
        """Which rows are there, or None where nothing is, or where that cannot be read."""
        try:
            return np.load(self.path / _DONE, mmap_mode="r+")
        except (OSError, EOFError, ValueError):
            return None

    def _allocate(self):
        for name, (shape, dtype) in self._shapes.items():
            np.lib.format.open_memmap(self.path / f"{name}.npy", "w+", dtype, shape)
        np.lib.format.open_memmap(self.path / _DONE, "w+", bool, (self._units,))

    def _refuse_full_disk(self):
        needed = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self._shapes.values())
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise SaveError(
                f"The dense pair takes {size(needed)}, and {size(free)} are free where "
                f"{str(self.path)!r} lies. Choose another disk, or ask for map(), effect() or channels()."
            )


def _shapes(pair):
    dtype = keras.backend.standardize_dtype(pair.signal.dtype)
    scales = (pair.signal.shape[0], *pair.target_shape)
    return {
        **{name: ((*scales, *pair.source_shape), dtype) for name in _COEFFICIENTS},
        **{name: (scales, "int32") for name in _SCALES},
    }


def _settings(pair):
    """What tells a pair at a sample from another: its layers, every signal in between, and the kernels."""
    digest = hashlib.sha256()
    for tensor in (pair.signal, pair.output, *pair.composition().tensors()):
        digest.update(np.ascontiguousarray(ops.convert_to_numpy(tensor)).tobytes())
    shapes = [list(pair.signal.shape), list(pair.output.shape)]
    return {"source": pair.source, "target": pair.target, "shapes": shapes, "signals": digest.hexdigest()}
