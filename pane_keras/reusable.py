"""Memory of maps that are gone: the framework keeps it, so the system does not count it as free."""

import threading
import weakref

import numpy as np
from keras.backend import standardize_dtype

from pane_keras import backend
from pane_keras.portions import entries


class Reusable:
    """Counts bytes that large results took and left to the framework's allocator, which takes them again first.

    Attributes:
        bytes: How many.
    """

    def __init__(self):
        self.bytes, self._lock = 0, threading.RLock()

    def watch(self, *tensors):
        """Counts a result of several tensors: it takes what is there, and leaves its bytes once it is gone."""
        for tensor in tensors:
            if not backend.is_symbolic(tensor):
                size = entries(tensor) * np.dtype(standardize_dtype(tensor.dtype)).itemsize
                self._add(-size)
                weakref.finalize(tensor, self._add, size).atexit = False

    def _add(self, count):
        with self._lock:
            self.bytes = max(0, self.bytes + count)


REUSABLE = Reusable()
"""Of this process."""
