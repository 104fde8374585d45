"""Steps element by element, put off inside a compiled function, so that one pass over memory takes many of them.

Between two kernels lie biases, slopes, masks, signs and sums of branches. One by one, each reads and writes all of a
layer's values. In a graph that `compiled` traces for the host, a step is put off until a kernel needs its result, and
XLA makes one loop of all that were put off. Everywhere else a step is taken at once, by the framework's own kernels.
"""

import math
import types
from collections.abc import Callable
from functools import lru_cache

import tensorflow as tf

from pane_keras.backend.tensorflow.compiled import traced_for_host

# Smaller tensors stay in the caches of a core: what a loop saves on them does not pay for compiling it.
_SMALLEST = 2**20

# A result of more tensors of its own size, or of more steps, is written down rather than worked out again wherever it
# is read: along a chain of sums the one would add up, and where a step reads two that read one the other doubles.
_MOST_READ, _MOST_STEPS = 2, 100


class Step:
    """`function(*inputs)`, element by element, that is put off.

    Args:
        function: See `step`.
        inputs: Tensors and steps that broadcast to the first.
        dtype: Of the result.

    Attributes:
        shape: Static shape of the result, that of the first input.
        size: Number of steps that are worked out for it.
        reads: Ids of the tensors of the result's size that are read for it.
    """

    def __init__(self, function: Callable, inputs: tuple, dtype):
        self.function, self.inputs, self.dtype = function, tuple(map(_bounded, inputs)), dtype
        self.shape = inputs[0].shape
        self.size: int = 1 + sum(each.size for each in self.inputs if isinstance(each, Step) and not each.read_back)
        self.reads = frozenset().union(*(_reads(each, self.shape) for each in self.inputs))
        self.written = False
        self._result = None

    @property
    def read_back(self):
        """Whether others read the result from memory: it is there, and working it out takes more than that."""
        return self.written and (len(self.reads) > 1 or self.size > _MOST_STEPS)

    def result(self):
        """Returns the tensor, made by one loop."""
        if self._result is None:
            leaves = []
            structure = _structure(self, leaves, top=True)
            self._result = _loop(structure)(*leaves)
        return self._result


def step(function, *inputs, dtype=None):
    """Returns `function(*inputs)`, or a `Step` where it is put off.

    Args:
        function: Works element by element. It is put off only if it is a function of a module of Keras or of this
            library, or `lasting`: compiled loops are kept by what they are made of.
        inputs: Tensors and steps. Unless the others broadcast to the first one, nothing is put off.
        dtype: Of the result, by default that of the first input.
    """
    if puts_off(inputs[0]) and _lasts(function) and all(_broadcasts(each, inputs[0].shape) for each in inputs[1:]):
        return Step(function, inputs, dtype or inputs[0].dtype)
    return function(*map(taken, inputs))


def taken(value):
    """Returns the tensor that a `Step` results in, which is written to memory; a tensor as it is."""
    if not isinstance(value, Step):
        return value
    value.written = True
    return value.result()


def glanced(value):
    """Returns the same tensor for somebody who may not read it: a graph leaves out what nobody reads."""
    return value.result() if isinstance(value, Step) else value


def settled(value):
    """Returns the value, taken if too many tensors are read for it: along a chain of sums they would add up."""
    return taken(value) if isinstance(value, Step) and len(value.reads) > _MOST_READ else value


def _bounded(value):
    if isinstance(value, Step) and value.size > _MOST_STEPS:
        taken(value)
    return value


def puts_off(value):
    """Returns whether steps on a tensor, or on a `Step`, are put off here."""
    if not traced_for_host():
        return False
    shape = value.shape.as_list()
    return None not in shape and math.prod(shape) >= _SMALLEST


def lasting(function):
    """Returns a function that is made on the spot, marked as one and the same object each time."""
    function.lasts = True
    return function


def _lasts(function):
    if getattr(function, "lasts", False):
        return True
    # A method or a closure may compute something else next time.
    if not isinstance(function, types.FunctionType) or function.__closure__:
        return False
    return (function.__module__ or "").split(".")[0] in ("keras", "pane_keras") and "<" not in function.__qualname__


def _broadcasts(value, shape):
    own = value.shape.as_list() if isinstance(value, (tf.Tensor, Step)) else [None]
    return len(own) <= len(shape) and all(a in (1, b) for a, b in zip(own[::-1], shape.as_list()[::-1]))


def _reads(value, shape):
    if isinstance(value, Step) and not value.read_back:
        return value.reads
    return {id(value)} if value.shape == shape else set()


def _structure(value, leaves, top=False):
    """What is worked out, as nested tuples with numbers for the tensors, which are added to `leaves`."""
    if isinstance(value, Step) and (top or not value.read_back):
        return value.function, *(_structure(each, leaves) for each in value.inputs)
    tensor = taken(value)
    known = [number for number, leaf in enumerate(leaves) if leaf is tensor]
    if not known:
        leaves.append(tensor)
    return known[0] if known else len(leaves) - 1


@lru_cache(maxsize=1024)
def _loop(structure):
    return tf.function(lambda *leaves: _evaluated(structure, leaves), jit_compile=True, autograph=False)


def _evaluated(structure, leaves):
    if isinstance(structure, int):
        return leaves[structure]
    function, *inputs = structure
    return function(*(_evaluated(each, leaves) for each in inputs))
