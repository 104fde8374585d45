"""The only file that touches what Keras does not publish: names it counts, nodes it adds, masks it hangs on tensors.

Each function says what it relies on; `tests/test_keras_internals.py` pins that behaviour.
"""

from contextlib import contextmanager

import keras
from keras.src.backend.common import global_state
from keras.src.utils import naming  # noqa: F401  its counters are what `same_names` keeps

_COUNTERS = "object_name_uids"
_ARITHMETIC = ("__add__", "__sub__", "__mul__", "__truediv__", "__matmul__", "__pow__")


@contextmanager
def same_names():
    """Keeps the counters behind Keras's automatic names (of this thread) as they are: what is built inside is ours."""
    before = global_state.get_global_attribute(_COUNTERS)
    kept = None if before is None else before.copy()
    try:
        yield
    finally:
        global_state.set_global_attribute(_COUNTERS, kept)


@contextmanager
def same_nodes(layer):
    """Takes back every node that symbolic calls inside add to `layer` and its sublayers.

    Keras lists the calls of a layer in `_inbound_nodes` and who reads them in `_outbound_nodes`; a layer's `output`
    reads these lists.
    """
    lists = [getattr(part, word) for part in _parts(layer) for word in ("_inbound_nodes", "_outbound_nodes")]
    before = [list(nodes) for nodes in lists]
    try:
        yield
    finally:
        for nodes, kept in zip(lists, before):
            nodes[:] = kept


@contextmanager
def symbolic_variables():
    """Lets `variable * tensor` be a node of a graph, as `tensor * variable` is.

    Keras's variables compute with values only; told to leave a symbolic tensor alone, Python asks the tensor instead.
    """
    changed = {name: getattr(keras.Variable, name) for name in _ARITHMETIC}
    try:
        for name, method in changed.items():
            setattr(keras.Variable, name, _unless_symbolic(method))
        yield
    finally:
        for name, method in changed.items():
            _restore(name, method)


def mask_of(tensor):
    """Returns the mask that Keras hangs on a tensor as `_keras_mask`, or None."""
    return getattr(tensor, "_keras_mask", None)


def hang_mask(tensor, mask):
    """Hangs a mask on a symbolic tensor, where Keras's layers look for it."""
    tensor._keras_mask = mask


def _parts(layer):
    """The layer and all its sublayers; `keras.Model.layers` shows the first level only."""
    return list(layer._flatten_layers()) if isinstance(layer, keras.Layer) else [layer]


def _unless_symbolic(method):
    def wrapped(self, other):
        return NotImplemented if isinstance(other, keras.KerasTensor) else method(self, other)

    return wrapped


def _restore(name, method):
    """A method that `keras.Variable` only inherits is deleted from it again."""
    inherited = any(vars(cls).get(name) is method for cls in keras.Variable.__mro__[1:])
    delattr(keras.Variable, name) if inherited else setattr(keras.Variable, name, method)
