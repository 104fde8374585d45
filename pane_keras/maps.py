"""`ExcitationMap`: positive, negative and sum over a layer's units, with their power-of-two scales."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.block import Block
from pane_keras.diagnosis import Diagnosis, diagnosis_of
from pane_keras.display.maps import maps_html, maps_text
from pane_keras.errors import InputError
from pane_keras.reusable import REUSABLE
from pane_keras.scaled import half_sum_and_difference, normalized, unscaled
from pane_keras.types import Tensor
from pane_keras.windows import Window

_SIGNED = ("positive", "negative", "sum")
_COEFFICIENTS = (*_SIGNED, "log2_scale", "sum_log2_scale")
_TENSORS = (*_COEFFICIENTS, "signal")
_SPACE = {1: ("unit",), 2: ("step", "channel"), 3: ("height", "width", "channel"),
          4: ("depth", "height", "width", "channel")}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ExcitationMap:
    """Excitation coefficients over the units of one layer.

    Positive means towards the sign that the explained unit has without its bias: for a unit below zero, `positive`
    is evidence for keeping it below zero. Coefficients carry the sign of the signal that they multiply as well;
    `contribution` has the sign of the effect alone.

    Attributes:
        positive, negative: POS and NEG, tensors (batch, *shape), or (batch, n, *shape) for a list of n units, in
            units of `2**log2_scale`.
        sum: POS + NEG from the sum chain, in units of `2**sum_log2_scale`. On a deep network it is many orders of
            magnitude smaller than either part, so adding the parts up in float32 would give rounding noise.
        log2_scale: int32 tensor (batch,) or (batch, n): 0 wherever the true values fit in float32.
        sum_log2_scale: The same for `sum`.
        signal: The layer's output at the sample, (batch, *shape), or None.
        over, of: What the map lies over and what it explains, in words.
        quantity: "coefficient", or "contribution": coefficient times signal.
        asker: The `Asker` for maps of other classes, or None. It holds the model and the inputs, so that `diagnose`
            can ask again; `samples(slice(None))` returns the same maps without it, which keep neither alive.
    """

    positive: Tensor
    negative: Tensor
    sum: Tensor
    log2_scale: Tensor
    sum_log2_scale: Tensor
    signal: Tensor | None = None
    over: str = ""
    of: str = ""
    quantity: str = "coefficient"
    asker: object = field(default=None, repr=False)

    def __getstate__(self):
        # A copy in another process or file has no model to ask.
        return {**self.__dict__, "asker": None}

    def diagnose(self) -> Diagnosis:
        """Returns the `Diagnosis`: whether the map depends on the class, how POS and NEG agree, their size against S.

        It takes the maps of two more classes. If the trace is gone, that is a new one of the same inputs.

        Raises:
            TargetError: The maps are not those that `saliency` or `explain` returned, whole; or inside a graph.
            ModelError: The trace is gone, and the model has changed since the maps were made.
        """
        return diagnosis_of(self)

    def contribution(self, x: Any = None) -> "ExcitationMap":
        """Returns coefficient times signal: what each unit adds to the explained unit, in the same scales.

        Args:
            x: Tensor (batch, *shape); by default the signal at which the map was taken.

        Raises:
            InputError: They are contributions already, or have no signal.
        """
        known = x is not None or self.signal is not None
        if self.quantity == "contribution" or not known:
            why = "are contributions already" if known else "have no signal"
            raise InputError(f"A contribution is a coefficient times its signal. Received: maps that {why}: {self!r}.")
        x = ops.cast(self.signal if x is None else x, self.sum.dtype)
        batch, *shape = backend.dims(x)
        x = ops.reshape(x, (batch, *[1] * (len(self.log2_scale.shape) - 1), *shape))
        parts = {name: getattr(self, name) * x for name in _SIGNED}
        return replace(self, **parts, quantity="contribution", asker=None)

    def plot(self, pictures=None, **how):
        """Returns a matplotlib Figure with POS, NEG and POS+NEG side by side: see `pane_keras.plotting.plot`."""
        from pane_keras.plotting import plot

        return plot(self, pictures, **how)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of `positive`, `negative` and `sum`, in order."""
        rank = len(self.sum.shape) - len(self.log2_scale.shape)
        return ("sample", *["selection"][: len(self.log2_scale.shape) - 1], *axes_of(rank))

    def samples(self, index: slice) -> "ExcitationMap":
        """Returns the maps of some samples, chosen by a slice of the batch."""
        parts = {name: getattr(self, name) for name in _TENSORS}
        parts = {name: None if part is None else part[index] for name, part in parts.items()}
        return replace(self, asker=None, **parts)

    def __repr__(self):
        scale = "" if not _host(self.log2_scale).any() else f", log2_scale={_host(self.log2_scale).tolist()}"
        return f"ExcitationMap(of {self.of}, over {self.over}, shape={tuple(self.sum.shape)}{scale})"

    def __str__(self):
        return maps_text(self)

    def _repr_html_(self):
        return maps_html(self)


def axes_of(rank):
    """Returns names for the axes of a sample, channels last."""
    return _SPACE.get(rank) or tuple(f"axis{k}" for k in range(rank))


def map_of(block, several, **words):
    """Returns the `ExcitationMap` of a block, (rows, batch, *shape), as batch first.

    Args:
        block: What a query ended with.
        several: Whether to keep the axis of the rows.
        **words: The attributes `signal`, `over` and `of`.
    """
    terms = _terms(block)
    # The terms of the negative part are those of the positive one, the second with the other sign.
    signed = backend.sum_and_difference_of_rows(*terms.pop("positive"))
    del terms["negative"]
    parts = dict(zip(_SIGNED, signed)) | {name: backend.sum_of_rows(each) for name, each in terms.items()}
    return ExcitationMap(**{name: _batch_first(part, block.rows, several) for name, part in parts.items()}, **words)


class PartOfMaps(NamedTuple):
    """Maps that are a part of those that were asked for.

    Attributes:
        block: What they are made of: `Block`.
        numbers: int array (k,), which of the maps they are; None for the only one.
        window: `Window` of the source that they fill, zero outside of it; None for all of it.
    """

    block: Block
    numbers: np.ndarray | None
    window: Window | None


def joined_maps(parts, count, shape, **words):
    """Returns maps (batch, n, *shape) of parts of them, or (batch, *shape) of the only one.

    Args:
        parts: Iterator of `PartOfMaps`; each is gone before the next one comes.
        count: How many maps there are together.
        shape: Of the layer that the maps lie over.
        **words: As for `map_of`.
    """
    joined = {name: backend.Joined(count, shape if name in _SIGNED else ()) for name in _COEFFICIENTS}
    for block, numbers, window in parts:
        if numbers is None:
            maps = map_of(block, False, **words)
            REUSABLE.watch(maps.positive, maps.negative, maps.sum)
            return maps if window is None else _placed(maps, window, shape)
        for name, terms in _terms(block).items():
            joined[name].add(terms, numbers, window.slices if window and name in _SIGNED else ())
        del block, terms
    REUSABLE.watch(*(joined[name].rows() for name in _SIGNED if not joined[name].written))
    return ExcitationMap(**{name: rows.rows() for name, rows in joined.items()}, **words)


def _terms(block):
    """What each tensor of the maps is the sum of, as `backend.sum_of_rows` takes it."""
    s = normalized(block.sum)
    positive, negative, scale = half_sum_and_difference(s, block.difference if block.split else s)
    total, sum_scale = unscaled(s)
    scales = [((scale, ops.ones_like(scale)),) for scale in (scale, sum_scale)]
    return dict(zip(_COEFFICIENTS, (positive, negative, total, *scales)))


def _placed(maps, window, shape):
    """The only map with zeros around the window that it fills."""
    return replace(maps, **{name: window.placed(getattr(maps, name), shape[:-1]) for name in _SIGNED})


def _batch_first(tensor, rows, several):
    if not several:
        return tensor
    n, *rest = backend.dims(tensor)
    if isinstance(n, int) and n == rows:
        return tensor[None]  # of one sample: nothing moves
    return ops.swapaxes(ops.reshape(tensor, (rows, -1, *rest)), 0, 1)


def _host(scale):
    try:
        return np.asarray(scale)
    except (NotImplementedError, TypeError):  # inside a graph the host has no values
        return np.zeros(1)
