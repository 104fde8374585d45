"""E+ and E- of one layer, as it emits them: lazy views of the excitation from its inputs to its output."""

from functools import partial

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.display.traces import view_html
from pane_keras.excitation import Excitation


class ExcitationView:
    """E+ or E- of one layer: a lazy view that becomes an array only when asked.

    Args:
        excitation: The layer's own `Excitation`, from one of its inputs to its output.
        part: "positive" or "negative".

    Attributes:
        shape: (batch, *output shape, *input shape).
    """

    def __init__(self, excitation, part):
        self.excitation, self.part = excitation, part
        self.shape = (excitation.signal.shape[0], *excitation.target_shape, *excitation.source_shape)

    def dense(self, max_bytes=None):
        """Returns the tensor of coefficients. Raises DenseSizeError over `max_bytes`."""
        return self._values(self.excitation.dense(max_bytes))

    def map(self, target=None, *, weights=None):
        """Returns the tensor (batch, *input shape) of coefficients for units of the output, as `Excitation.map`."""
        return self._values(self.excitation.map(target, weights=weights))

    def plot(self, target=None, *, weights=None, **how):
        """Returns a matplotlib Figure of E+, E- and their sum for a unit of the output: see `ExcitationMap.plot`."""
        return self.excitation.map(target, weights=weights).plot(**how)

    def _values(self, maps):
        """The coefficients of one layer are numbers of the dtype, so their scale can be multiplied out."""
        values = getattr(maps, self.part)
        factor = backend.power_of_two(maps.log2_scale, values.dtype)
        missing = len(values.shape) - len(factor.shape)
        return values * ops.reshape(factor, (*backend.dims(factor), *[1] * missing))

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.dense(), dtype=dtype)

    def __repr__(self):
        return f"ExcitationView({self.part} of {self.excitation.target!r}, shape={self.shape})"

    def _repr_html_(self):
        return view_html(self)


def views(record, sources, target, name, several):
    """Returns (positive, negative) views of a layer; lists with one view an input where it has several."""
    pairs = [
        Excitation(
            record, source, target, (f"input {k} of {name}", name), partial(_own_edges, record, name, sources, k), False
        )
        for k, source in enumerate(sources)
    ]
    positive, negative = ([ExcitationView(pair, part) for pair in pairs] for part in ("positive", "negative"))
    return (positive, negative) if several else (positive[0], negative[0])


def _own_edges(record, name, sources, k):
    """The edges of a layer from its k-th input on: not what reaches it around another layer, or as another input."""
    occurrence = sources[:k].count(sources[k])
    edges = []
    for stage in record.stages:
        if stage.name == name:
            from_input = [e for e in stage.edges if e.source == sources[k]]
            edges += [e for e in stage.edges if e not in from_input] + from_input[occurrence : occurrence + 1]
    return edges
