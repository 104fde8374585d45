"""What results on disk depend on, in few words: whether a model, its weights and its data are still the same."""

import hashlib
import json
import re

import numpy as np
from keras import tree

from pane_keras import backend
from pane_keras.graph import Value
from pane_keras.reading import read_graph


def fingerprint(model, data, **settings):
    """Returns what maps depend on: the settings, with digests of the model and of the ends of the data.

    Keras counts unnamed models up within a process, so the number at the end of a name says nothing.
    """
    shapes, ends = backend.ends(data)
    return {
        "model": _unnumbered(model.name),
        "architecture": _architecture(model),
        "weights": digest(variable.numpy() for variable in model.weights),
        "shapes": shapes,
        "data": digest(ends),
        **settings,
    }


def digest(arrays):
    """Returns the SHA-256 of the bytes of some arrays, as hexadecimal digits."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def _architecture(model):
    """The digest of every call: which layer, its settings, and what it reads."""
    calls = [(type(call.operation).__name__, _config(call.operation), _read(call)) for call in read_graph(model).calls]
    text = json.dumps(calls, sort_keys=True, default=lambda other: type(other).__name__)
    return hashlib.sha256(re.sub(r'"(\w+)"', lambda word: f'"{_unnumbered(word[1])}"', text).encode()).hexdigest()


def _config(operation):
    try:
        return operation.get_config()
    except Exception:  # a user's layer that cannot be saved can be explained
        return None


def _read(call):
    return [_argument(leaf) for leaf in tree.flatten((call.args, call.kwargs))]


def _argument(leaf):
    if isinstance(leaf, Value):
        return leaf.index
    return digest([leaf]) if backend.is_tensor(leaf) or isinstance(leaf, np.ndarray) else repr(leaf)


def _unnumbered(name):
    return re.sub(r"_\d+$", "", name)
