"""The verdict on a map: whether it depends on the class at all, and what its precision rests on."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pane_keras import backend
from pane_keras.display.reports import diagnosis_html
from pane_keras.errors import ModelError, TargetError
from pane_keras.types import Tensor

OTHERS = 2
"""How many other classes a map is compared with: those with the highest logits."""

_ALIKE, _FLOAT32_BITS = 0.95, 24

# Compiled or not, and on an accelerator, the same logits differ by rounding; a share of the largest of them.
_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What can be said of the maps of a batch. Prints as one sentence; a notebook shows the numbers below it.

    Rank correlations are Spearman's, over all entries of a map, from -1 to 1; NaN where a map is constant.

    Attributes:
        classes: int array (batch, n): the classes with the highest logits besides the explained one.
        positive, sum: Arrays (batch, n): rank correlation of POS, and of POS+NEG, with those of the other classes.
        agreement: Array (batch,): rank correlation of POS with -NEG.
        range_bits: Array (batch,): log2 of max |D| / max |S|. Above 24, POS and NEG added up in float32 are noise.
        split_below: The layer below which the maps tell POS from NEG, or None for everywhere.
    """

    classes: np.ndarray
    positive: np.ndarray
    sum: np.ndarray
    agreement: np.ndarray
    range_bits: np.ndarray
    split_below: str | None = None

    def __str__(self):
        agreement, bits = _typical(self.agreement), _typical(self.range_bits)
        # Between logits of different signs POS turns around: "positive" is towards the sign that a logit has.
        blind = _typical(np.abs(self.positive)) >= _ALIKE
        facts = [self._dependence(blind)]
        if agreement >= _ALIKE:
            facts.append(f"ranks the pixels as -NEG does ({agreement:.2f})")
        if bits > _FLOAT32_BITS:
            facts.append(f"is 2^{bits:.0f} times as large as POS+NEG, which float32 could not add up")
        sentence = facts[0] if len(facts) == 1 else f"{', '.join(facts[:-1])} and {facts[-1]}"
        lower = "split_below" if self.split_below is None else "a lower split_below"
        return sentence + (f": read POS+NEG, or POS with {lower}." if blind else ".")

    def _dependence(self, blind):
        if not self.classes.size:
            return "POS is that of the only class there is"
        if np.isnan(self.positive).all():
            return "POS cannot be compared with the next classes' maps here (it or they are constant, without an order)"
        total = "unknown" if np.isnan(self.sum).all() else f"{_typical(self.sum):.2f}"
        return (
            f"POS {'barely depends' if blind else 'depends'} on the class here (rank correlation "
            f"{_in_size(self.positive)} with the next classes' maps, POS+NEG {total})"
        )

    __repr__ = __str__

    def _repr_html_(self):
        return diagnosis_html(self)


@dataclass(frozen=True)
class Asker:
    """Where the maps of other classes come from: the trace while it is there, else a new one of the same inputs.

    Args:
        trace: Function without arguments -> the `Trace`, or None where it is gone.
        again: Function without arguments -> a `Trace` of the same inputs.
        target: The class that was asked for, as in `Trace.saliency`.
        how: The other arguments.
        logits: Tensor (batch, classes) from which the maps started.
        name: The input that the maps lie over, or None where the model has one.
    """

    trace: Callable
    again: Callable
    target: object
    how: dict
    logits: Tensor
    name: str | None = None

    @classmethod
    def of(cls, trace, again, target, how, logits):
        """Returns the `Asker` of a trace, which it does not keep alive."""
        return cls(weakref.ref(trace), again, target, how, logits)

    def diagnose(self, maps):
        """Returns the `Diagnosis` of maps (batch, *shape). Raises TargetError inside a graph, and ModelError."""
        if backend.is_symbolic(self.logits):
            raise TargetError("diagnose() reads values, which are not known inside a graph: call it on eager maps.")
        logits, trace = np.asarray(self.logits), self.trace()
        if trace is None or trace.released:
            trace = self.again()
            _refuse_change(logits, np.asarray(trace.logits(self.how.get("output"))))
        classes = _next_classes(logits, self.target)
        others = [self._maps(trace, column) for column in classes.T]
        positive, total = (
            np.stack([rank_correlations(getattr(maps, part), getattr(other, part)) for other in others], axis=1)
            if others
            else np.zeros((len(logits), 0))
            for part in ("positive", "sum")
        )
        agreement = rank_correlations(maps.positive, -np.asarray(maps.negative))
        return Diagnosis(classes, positive, total, agreement, _range_bits(maps), self.how.get("split_below"))

    def _maps(self, trace, classes):
        maps = trace.saliency(classes, **self.how)
        return maps if self.name is None else maps[self.name]


def diagnosis_of(maps):
    """Returns the `Diagnosis` of maps that know where they come from.

    Raises:
        TargetError: They do not.
    """
    if maps.asker is None:
        raise TargetError(
            "Only the maps that saliency() and explain() return can be compared with those of other classes. "
            f"Received: {maps!r}."
        )
    return maps.asker.diagnose(maps)


def _refuse_change(logits, again):
    """A new trace has the weights of today, and maps of two models say nothing about either."""
    change = np.abs(logits.astype("float64") - again).max(initial=0)
    if change > _ROUNDING * np.abs(logits).max(initial=0):
        raise ModelError(
            f"The model has changed since these maps were made: its logits differ by up to {change:.3g}, so maps of "
            "other classes would be another model's. Make the maps again, or diagnose them while their trace is there."
        )


def _next_classes(logits, target):
    """The other classes with the highest logits, the lower class first on ties."""
    batch, count = logits.shape
    chosen = np.argmax(logits, axis=1) if target is None else np.broadcast_to(np.asarray(target) % count, (batch,))
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.stack([row[row != own][:OTHERS] for row, own in zip(order, chosen)])


def rank_correlations(maps, others):
    """Returns Spearman's rank correlation of the maps of each sample, (batch,); NaN where one is constant."""
    return np.array([_correlation(np.ravel(a), np.ravel(b)) for a, b in zip(np.asarray(maps), np.asarray(others))])


def _correlation(a, b):
    a, b = (ranks - ranks.mean() for ranks in (_ranks(a), _ranks(b)))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else np.nan


def _ranks(values):
    """Ranks from 0; ties share their mean."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[which.reshape(-1)]


def _range_bits(maps):
    """D = P - N; its scale is that of the parts."""
    difference = np.asarray(maps.positive, "float64") - np.asarray(maps.negative, "float64")
    d, s = (np.abs(t).reshape(len(t), -1).max(axis=1) for t in (difference, np.asarray(maps.sum, "float64")))
    scale = np.asarray(maps.log2_scale, "float64") - np.asarray(maps.sum_log2_scale)
    known = (d > 0) & (s > 0)
    return np.where(known, np.log2(np.where(known, d, 1)) - np.log2(np.where(known, s, 1)) + scale, np.nan)


def _in_size(values):
    """The median size of correlations, with the sign where they share one."""
    known = np.asarray(values)[~np.isnan(values)]
    sign = "" if (known >= 0).all() else "-" if (known <= 0).all() else "±"
    return f"{sign}{_typical(np.abs(values)):.2f}"


def _typical(values):
    """The median of what is known."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")
