"""`ChannelExcitation`: how much every channel of one layer excites and inhibits every channel of another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.dense import joined, transposed
from pane_keras.display.pairs import Rows, channels_html, channels_text
from pane_keras.errors import TargetError
from pane_keras.indices import checked_channel, is_int
from pane_keras.maps import map_of
from pane_keras.portions import in_blocks, rows_at_a_time
from pane_keras.scaled import BITS, Scaled, normalized
from pane_keras.selection import Selection
from pane_keras.types import Tensor


@dataclass(frozen=True, eq=False)
class ChannelExcitation:
    """The channel-to-channel excitation of a pair.

    Entry (t, s) is the sum of the coefficients from every unit of source channel s to every unit of target channel t;
    with `contribution`, of coefficient times signal: what channel s adds to the sum of channel t.

    Attributes:
        positive, negative: Tensors (batch, target channels, source channels) in units of `2**log2_scale`.
        sum: Positive plus negative from the sum chain, in units of `2**sum_log2_scale`.
        log2_scale, sum_log2_scale: int32 (batch, target channels).
        source, target: Names of the layers.
        contribution: Whether the entries are contributions.
    """

    positive: Tensor
    negative: Tensor
    sum: Tensor
    log2_scale: Tensor
    sum_log2_scale: Tensor
    source: str
    target: str
    contribution: bool

    def top(self, k: int = 5, channel: int | None = None, sample: int = 0) -> Any:
        """Returns the strongest source channels of a target channel, by the sum: k positive ones and k negative ones.

        Args:
            k: How many of either sign.
            channel: Target channel; by default the one with the largest entry.
            sample: Index into the batch.

        Returns:
            A pandas DataFrame where pandas is installed, else a list of dicts: target, source, positive, negative, sum;
            true values, float64, the strongest first.

        Raises:
            TargetError: There is no such channel or sample.
        """
        values = {name: self._true(name, sample) for name in ("positive", "negative", "sum")}
        count = values["sum"].shape[0]
        if channel is None:
            channel = int(np.argmax(np.abs(values["sum"]).max(axis=1)))
        channel = checked_channel(channel, count, self.target)
        order = np.argsort(values["sum"][channel], kind="stable")
        chosen = [s for s in order[::-1][:k] if values["sum"][channel, s] > 0]
        chosen += [s for s in order[:k] if values["sum"][channel, s] < 0]
        rows = [{"target": channel, "source": int(s), **{n: float(v[channel, s]) for n, v in values.items()}}
                for s in chosen]  # fmt: skip
        return _table(rows)

    def plot(self, k=8, **how):
        """Returns a matplotlib Figure with the k strongest pairs named: see `pane_keras.plotting.channels`."""
        from pane_keras.plotting import channels

        return channels(self, k, **how)

    def _true(self, name, sample):
        mantissa = np.asarray(getattr(self, name))
        if not is_int(sample) or not -len(mantissa) <= sample < len(mantissa):
            raise TargetError(f"The trace has the samples 0 to {len(mantissa) - 1}. Received: sample={sample!r}.")
        scale = np.asarray(self.sum_log2_scale if name == "sum" else self.log2_scale)[sample]
        return np.ldexp(mantissa[sample].astype("float64"), scale[:, None])

    def __repr__(self):
        what = "contributions" if self.contribution else "coefficients"
        return f"ChannelExcitation({what} of {self.source!r} in {self.target!r}, shape={tuple(self.sum.shape)})"

    def __str__(self):
        return channels_text(self)

    def _repr_html_(self):
        return channels_html(self)


def channel_excitation(pair, contribution, axes):
    """Returns the `ChannelExcitation` of an `Excitation`, from the side with fewer channels, in one batched sweep.

    Args:
        pair: The excitation.
        contribution: Whether coefficients are multiplied by the signal.
        axes: Channel axis of the source and of the target.

    Raises:
        TargetError: A layer has no channel axis of this number.
    """
    source, target = (_Channels(*each) for each in zip((pair.signal, pair.output), axes, (pair.source, pair.target)))
    at_a_time = rows_at_a_time(pair.composition())
    if target.count <= source.count:
        block = joined([
            pair.pull(rows).each(lambda t: source.summed(t, contribution)) for rows in target.rows(at_a_time, False)
        ])  # fmt: skip
    else:
        parts = [
            pair.push(rows).each(lambda t: target.summed(t, False)) for rows in source.rows(at_a_time, contribution)
        ]
        block = transposed(joined(parts), (backend.dims(source.tensor)[0], source.count))
    maps = map_of(block, True)
    parts = (maps.positive, maps.negative, maps.sum, maps.log2_scale, maps.sum_log2_scale)
    return ChannelExcitation(*parts, pair.source, pair.target, contribution)


class _Channels:
    """The channels of a layer's output."""

    def __init__(self, tensor, axis, name):
        self.tensor, self.name = tensor, name
        shape = tensor.shape[1:]
        if not shape or not -len(shape) <= axis < len(shape):
            raise TargetError(f"Layer {name!r} of shape {tuple(shape)} has no axis {axis} for its channels.")
        self.axis = axis % len(shape)
        self.count = shape[self.axis]

    def rows(self, at_a_time, weighted):
        """Yields rows (n, batch, *shape), one a channel: 1, or the signal, on its units."""
        for channels in in_blocks(self.count, at_a_time):
            rows, _ = Selection(channel=list(channels), channel_axis=self.axis).rows(self.tensor, self.name, "channel")
            yield rows * self.tensor[None] if weighted else rows

    def summed(self, t, weighted):
        """Returns rows over the layer added up over every axis but that of the channels."""
        t = normalized(t)
        mantissa = backend.multiply_rows(t.mantissa, self.tensor, t.rows) if weighted else t.mantissa
        axes = [k + 1 for k in range(len(mantissa.shape) - 1) if k != self.axis]
        return Scaled(ops.sum(mantissa, axis=axes) if axes else mantissa, t.rows, t.exponent, growth=BITS)


def _table(rows):
    try:
        import pandas as pd
    except ImportError:
        return Rows(rows)
    return pd.DataFrame(rows, columns=["target", "source", "positive", "negative", "sum"])
