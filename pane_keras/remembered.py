"""Values that repeated queries share."""


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
        self._value = value if self._asked else None
        self._asked = True
        return value
