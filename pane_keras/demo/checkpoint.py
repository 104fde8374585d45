"""Reads the tensors of a legacy PyTorch checkpoint without PyTorch, and refuses anything else in the file.

The file is four pickles (magic number, protocol, system, state dict), a fifth with the storages' keys, then each
storage as an int64 count and its raw numbers. A pickle can run any code, so this unpickler knows an ordered
dictionary and the description of a tensor, and nothing more.
"""

import os
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pane_keras.errors import LoadError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read_checkpoint(path):
    """Returns the tensors of a legacy PyTorch state dict.

    Args:
        path: The file.

    Returns:
        Dict of name -> numpy array.

    Raises:
        LoadError: The file is missing, is no such checkpoint, is damaged or cut short, or holds anything but tensors.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise LoadError(f"Cannot read the checkpoint {str(path)!r}: {error.strerror}.") from None


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


class _Marker:
    """Stands for a class of PyTorch. Without attributes of its own, so a pickle can leave nothing on it."""

    __slots__ = ("name",)

    def __init__(self, name):
        object.__setattr__(self, "name", name)

    def __setattr__(self, name, value):
        raise TypeError(f"{self.name} takes no attributes")

    def __call__(self, storage, offset, shape, strides, *_):
        if self.name != "_rebuild_tensor_v2" or not isinstance(storage, _Storage):
            raise TypeError(f"{self.name} was called on {type(storage).__name__}")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, path):
        super().__init__(file)
        self.path = path

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2") or (module == "torch" and name in _DTYPES):
            return _Marker(name)
        raise LoadError(
            f"The checkpoint {str(self.path)!r} asks for {module}.{name}: only tensors are read, and nothing of the "
            "file was run. Do not open it with another tool unless you trust where it comes from."
        )

    def persistent_load(self, pid):
        word, kind, key, _, count = pid[:5]
        if word != "storage" or not isinstance(kind, _Marker) or not isinstance(count, int):
            raise LoadError(f"The checkpoint {str(self.path)!r} refers to {word!r}, which is no storage of numbers.")
        return _Storage(key, np.dtype(_DTYPES[kind.name]), count)


def _read(file, path):
    _check_magic(file, path)
    _check_system(file, path)
    tensors = _state_dict(file, path)
    storages = {t.storage.key: t.storage for t in tensors.values()}
    keys = _unpickled(file, path)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(map(str, storages)):
        raise _damaged(path, "its list of storages does not match its tensors")
    numbers = {key: _numbers(file, path, storages[key]) for key in keys}
    if file.read(1):
        raise _damaged(path, "bytes are left over after its last tensor")
    return {name: _array(path, name, tensor, numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _check_magic(file, path):
    start = file.read(2)
    file.seek(0)
    if start == b"PK":
        raise LoadError(
            f"The checkpoint {str(path)!r} is in PyTorch's zip format; only the legacy format is read. "
            "Save it with torch.save(..., _use_new_zipfile_serialization=False)."
        )
    if not start.startswith(b"\x80") or _unpickled(file, path) != _MAGIC:
        raise LoadError(f"{str(path)!r} is not a PyTorch checkpoint: it does not start with the magic number of one.")


def _check_system(file, path):
    protocol, system = _unpickled(file, path), _unpickled(file, path)
    if protocol != _PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise LoadError(
            f"The checkpoint {str(path)!r} expects protocol {_PROTOCOL} and little-endian numbers. "
            f"Received: protocol {protocol!r}, {system!r}."
        )


def _state_dict(file, path):
    tensors = _unpickled(file, path)
    if not isinstance(tensors, dict):
        raise LoadError(f"The checkpoint {str(path)!r} expects a state dict. Received: {type(tensors).__name__}.")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise LoadError(
                f"The checkpoint {str(path)!r} holds {type(value).__name__} under {name!r}: only tensors are read."
            )
    return tensors


def _unpickled(file, path):
    try:
        return _Unpickler(file, path).load()
    except LoadError:
        raise
    except EOFError:
        raise _damaged(path, "it ends too early") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def _numbers(file, path, storage):
    head = file.read(8)
    left = os.fstat(file.fileno()).st_size - file.tell()
    if len(head) < 8 or storage.count * storage.dtype.itemsize > left:
        raise _damaged(path, "it ends too early")
    if int.from_bytes(head, "little", signed=True) != storage.count:
        raise _damaged(path, f"storage {storage.key!r} does not hold the {storage.count} numbers that it announces")
    return np.frombuffer(file.read(storage.count * storage.dtype.itemsize), storage.dtype)


def _array(path, name, tensor, numbers):
    sizes = (tensor.offset, *tensor.shape, *tensor.strides)
    if not all(type(n) is int and n >= 0 for n in sizes) or len(tensor.shape) != len(tensor.strides):
        raise _damaged(path, f"tensor {name!r} has an impossible shape")
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides))
    # A tensor that reaches outside its storage would read foreign memory; one larger than it would be a memory bomb.
    if np.prod(tensor.shape, dtype=object) > len(numbers) or (0 not in tensor.shape and last >= len(numbers)):
        raise _damaged(path, f"tensor {name!r} reaches outside its storage")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()


def _damaged(path, what):
    return LoadError(f"The checkpoint {str(path)!r} is damaged or cut short: {what}. Install or download it again.")
