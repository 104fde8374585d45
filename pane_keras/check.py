"""The self-check of a trace: local completeness of every layer, and completeness from the logits to the input."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from keras import ops

from pane_keras.block import accumulate, closing
from pane_keras.display.reports import report_html, report_text
from pane_keras.selection import class_rows


@dataclass(frozen=True)
class Report:
    """Residuals of a trace, relative. Prints as a table, and shows as one in a notebook.

    Attributes:
        layers: Local residual of each layer: max |o - (E+ x + E- x + b)| / max(|o|, |b|).
        end_to_end: |logit - sum S x - sum S b| / (sum |S x| + sum |S b|) for the top logit of each sample, the worst.
        tolerance: What counts as rounding for the dtype.
        shares: Share of E+ in what adds up to the layer's o': sum E+ x / sum (|E+ x| + |E- x|), over all units and
            samples; NaN where nothing adds up. A fused activation, whose E- is 0, is left out.
    """

    layers: dict[str, float]
    end_to_end: float
    tolerance: float
    shares: dict = field(default_factory=dict)

    @property
    def max_residual(self) -> float:
        """The largest residual, end to end included."""
        return float(np.max([*self.layers.values(), self.end_to_end]))

    @property
    def ok(self) -> bool:
        """Whether every residual is at rounding level."""
        return all(residual <= self.tolerance for residual in [*self.layers.values(), self.end_to_end])

    def __str__(self):
        return report_text(self)

    __repr__ = __str__

    def _repr_html_(self):
        return report_html(self)


class LocalFacts(NamedTuple):
    """What can be said of one layer at the sample.

    Attributes:
        residual: As in `Report.layers`.
        share: As in `Report.shares`.
    """

    residual: float
    share: float


def check_record(record, inputs, targets):
    """Returns the `Report` of a record.

    Args:
        record: What a forward pass recorded.
        inputs: Slots of the inputs.
        targets: Slots of the logits, one an output.
    """
    facts = local_facts(record, record.stages)
    end = float(np.max([_end_to_end(record, inputs, target) for target in targets]))
    residuals, shares = ({name: getattr(one, word) for name, one in facts.items()} for word in LocalFacts._fields)
    return Report(residuals, end, 1e-11 if record.dtype == "float64" else 1e-4, shares)


def local_facts(record, stages):
    """Returns the `LocalFacts` of each layer that stages belong to, by its name.

    Args:
        record: What a forward pass recorded.
        stages: Some of its stages.
    """
    found = {}
    for stage in stages:
        found.setdefault(stage.name, []).append(_local(record, stage))
    return {name: LocalFacts(_worst(each), _share(each)) for name, each in found.items()}


def _worst(stages):
    return float(np.max([residual for residual, *_ in stages]))


def _share(stages):
    """E+ x is (S x + D x) / 2, and |S x| is |o'|. Stages of single terms would hide the others: E- is 0 there."""
    several = [sums for _, single, *sums in stages if not single] or [sums for _, _, *sums in stages]
    own, size = np.sum(several, axis=0)
    return float((size + own) / (2 * size)) if size else float("nan")


def _local(record, stage):
    """Returns the residual of o against E+ x + E- x + b, whether E- = 0, sum |o'|, and sum |E+ x| + |E- x|.

    b comes from parameters, f(0) or held statistics. S x is E+ x + E- x, and D x is their difference.
    """
    output = _array(record.slots[stage.output].value)
    total, difference = np.zeros_like(output), np.zeros_like(output)
    for edge in stage.edges:
        block = edge.operand.push(closing(edge.operand.x[None]))
        total += _values(block.sum)
        difference += _values(block.difference)
    bias = _bias(stage)
    residual = np.abs(output - total - bias).max(initial=0)
    size = max(np.abs(output).max(initial=0), np.abs(bias).max(initial=0), np.finfo("float32").tiny)
    single = all(edge.operand.single for edge in stage.edges)
    return residual / size, single, np.abs(total).sum(), np.abs(difference).sum()


def _end_to_end(record, inputs, target):
    """logit = sum(S x) + what the biases of all layers contribute through S."""
    logits = record.slots[target].value
    flat = ops.reshape(logits, (ops.shape(logits)[0], -1))
    row = ops.reshape(class_rows(None, flat, "logits"), (1, *ops.shape(logits)))
    logit, terms = _array(ops.max(flat, axis=-1)), []
    arrived = {target: [closing(row)]}
    stages = {stage.output: stage for stage in record.stages}
    for slot in sorted(range(target + 1), reverse=True):
        if slot not in arrived:
            continue
        block = accumulate(arrived.pop(slot))
        if slot in stages and slot not in inputs:
            terms.append(_per_sample(block.sum, _bias(stages[slot])))
            for edge in stages[slot].edges:
                arrived.setdefault(edge.source, []).append(_sum_only(edge.operand.pull(block)))
        else:
            terms.append(_per_sample(block.sum, _array(record.slots[slot].value)))
    total = sum(t for t, _ in terms)
    size = sum(s for _, s in terms)
    return float(np.max(np.abs(logit - total) / np.maximum(size, np.finfo("float32").tiny)))


def _sum_only(block):
    return block._replace(difference=block.sum)


def _per_sample(scaled, signal):
    """Returns sum(S v) and sum |S v| for each sample, as float64 on the host."""
    product = _values(scaled) * signal
    product = product.reshape(product.shape[0], -1)
    return product.sum(axis=1), np.abs(product).sum(axis=1)


def _values(scaled):
    mantissa, exponent = _array(scaled.mantissa), np.asarray(scaled.exponent)
    return np.ldexp(mantissa, np.clip(exponent, -2000, 1023).reshape(*exponent.shape, *[1] * (mantissa.ndim - 1)))


def _bias(stage):
    return np.float64(0) if stage.bias is None else _array(stage.bias())


def _array(tensor):
    return np.asarray(tensor).astype("float64")
