"""The self-check of a trace: local completeness of every layer, and completeness from the logits to the input."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from pane_keras.block import accumulate, closing
from pane_keras.selection import class_rows

END_TO_END = "end to end"


@dataclass(frozen=True)
class Report:
    """Residuals of a trace, relative. Prints as a table.

    Attributes:
        layers: Local residual of each layer: max |o - (E+ x + E- x + b)| / max(|o|, |b|).
        end_to_end: |logit - sum S x - sum S b| / (sum |S x| + sum |S b|) for the top logit of each sample, the worst.
        tolerance: What counts as rounding for the dtype.
    """

    layers: dict
    end_to_end: float
    tolerance: float

    @property
    def max_residual(self):
        """The largest residual, end to end included."""
        return float(np.max([*self.layers.values(), self.end_to_end]))

    @property
    def ok(self):
        """Whether every residual is at rounding level."""
        return all(residual <= self.tolerance for residual in [*self.layers.values(), self.end_to_end])

    def __str__(self):
        rows = {**self.layers, END_TO_END: self.end_to_end}
        width = max(map(len, rows))
        lines = [_line(name, value, width, self.tolerance) for name, value in rows.items()]
        verdict = "complete" if self.ok else "NOT complete"
        closing_line = f"{verdict}: largest residual {self.max_residual:.1e}, tolerance {self.tolerance:.0e}"
        return "\n".join([f"{'layer':{width}}  residual", *lines, closing_line])


def _line(name, value, width, tolerance):
    return f"{name:{width}}  {value:.1e}{'' if value <= tolerance else '  TOO LARGE'}"


def check_record(record, inputs, targets):
    """Returns the `Report` of a record.

    Args:
        record: What a forward pass recorded.
        inputs: Slots of the inputs.
        targets: Slots of the logits, one an output.
    """
    layers = {}
    for stage in record.stages:
        layers[stage.name] = float(np.maximum(layers.get(stage.name, 0.0), _local(record, stage)))
    end = float(np.max([_end_to_end(record, inputs, target) for target in targets]))
    double = "float64" in str(record.slots[0].value.dtype)
    return Report(layers, end, 1e-11 if double else 1e-4)


def _local(record, stage):
    """o against E+ x + E- x + b, with b from parameters, f(0) or held statistics."""
    output = _array(record.slots[stage.output].value)
    total = np.zeros_like(output)
    for edge in stage.edges:
        total += _values(edge.operand.push(closing(edge.operand.x[None])).sum)
    bias = _bias(stage)
    residual = np.abs(output - total - bias).max(initial=0)
    return float(residual / max(np.abs(output).max(initial=0), np.abs(bias).max(initial=0), np.finfo("float32").tiny))


def _end_to_end(record, inputs, target):
    """logit = sum(S x) + what the biases of all layers contribute through S (section 5)."""
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
