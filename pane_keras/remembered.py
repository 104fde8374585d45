"""Values that repeated queries share."""

from keras import tree

from pane_keras import backend


class Remembered:
    """A value made on demand, and kept from the second time on.

    One sweep over a network needs the magnitudes of every kernel once. Kept from the start, they would double the
    memory that the weights take in the common case of a single query.

    Args:
        make: Function without arguments.
    """

    def __init__(self, make):
        self._make, self._asked, self._value = make, False, None

    def __call__(self):
        if self._value is not None:
            return self._value
        value = self._make()
        # What a graph computes ends with the graph.
        if self._asked and not any(map(backend.is_symbolic, tree.flatten(value))):
            self._value = value
        self._asked = True
        return value
