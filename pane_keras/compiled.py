"""Trace and saliency as one compiled function."""

from dataclasses import replace
from functools import partial

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.diagnosis import Asker
from pane_keras.maps import ExcitationMap
from pane_keras.selection import checked_classes, said_classes

_PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale", "signal")


# A number of classes that no class lies outside of.
_ANY = 2**31


class Explainer:
    """Compiled functions of a model, one for each way of asking.

    Args:
        run: Function list of tensors -> `Trace`.
    """

    def __init__(self, run):
        self._run = run
        self._functions = {}

    def explain(self, tensors, target, output, split_below, xla):
        """Returns the maps that `Trace.saliency` returns; arguments as for `PaneModel.explain`."""
        if not all(isinstance(word, (str, int, type(None))) for word in (output, split_below)):
            return self._run(tensors).saliency(target, output=output, split_below=split_below)  # says what is wrong
        key = (output, split_below, xla, target is None)
        explanation = self._functions.setdefault(key, _Explanation(self._run, output, split_below, xla))
        try:
            maps, in_range = explanation(tensors, target)
        except backend.KernelError:
            # The eager pass names the layer whose kernel cannot take its numbers, if that is what it was.
            self._run(tensors).saliency(target, output=output, split_below=split_below)
            raise
        if not backend.is_symbolic(in_range) and not bool(in_range):
            # The eager pass sweeps with care, or says what is not finite.
            return self._run(tensors).saliency(target, output=output, split_below=split_below)
        return maps if explanation.several else next(iter(maps.values()))


class _Explanation:
    """One compiled function: tensors and classes in; maps by the name of the input out, and whether they are in range.

    Attributes:
        several: Whether the model has several inputs.
    """

    def __init__(self, run, output, split_below, xla):
        self._run, self._asked = run, {"output": output, "split_below": split_below}
        self._function, self._classes, self.several = backend.compiled(self._parts, xla), None, False

    def __call__(self, tensors, target):
        batch = tensors[0].shape[0]
        given = () if target is None else (_one_each(target, tensors[0]),)
        parts, logits, in_range = self._function(list(tensors), *given)
        if target is not None:
            checked_classes(target, (batch, self._classes), "logits")
        of = said_classes(target)
        asker = Asker(lambda: None, partial(self._run, tensors), target, self._asked, logits)
        return {
            name: ExcitationMap(*values, over=name, of=of, asker=replace(asker, name=name if self.several else None))
            for name, values in parts.items()
        }, in_range

    def _parts(self, tensors, *classes):
        trace = self._run(tensors)
        # Facts of the graph, noted while it is traced.
        logits = trace.logits(self._asked["output"])
        self._classes = logits.shape[-1]
        maps = trace.saliency(*classes, **self._asked)
        self.several = isinstance(maps, dict)
        maps = maps if self.several else {trace.input_names[0]: maps}
        values = {name: [getattr(one, part) for part in _PARTS] for name, one in maps.items()}
        return values, logits, ops.all(ops.stack([_in_range(one) for one in maps.values()]))


def _in_range(excitation):
    """Whether no number left the range of the dtype, as far as a map tells: too large for it, or so small as to be 0.

    The parts can be too large where their sum, in which they cancel, is not. A signal that is all zero has no map.
    """
    parts = [excitation.positive, excitation.negative, excitation.sum]
    lost = ~_any_of_samples(parts[0]) & ~_any_of_samples(parts[1]) & _any_of_samples(excitation.signal)
    return ops.all(ops.stack([ops.all(ops.isfinite(part)) for part in parts])) & ~ops.any(lost)


def _any_of_samples(tensor):
    return ops.any(ops.reshape(tensor != 0, (backend.dims(tensor)[0], -1)), axis=1)


def _one_each(target, samples):
    """Classes as a tensor of one signature; whether they lie inside is checked once the number of classes is known."""
    batch = samples.shape[0]
    checked_classes(target, (batch, _ANY), "logits")
    if backend.is_symbolic(target) or batch is None:
        return ops.broadcast_to(ops.cast(target, "int32"), backend.dims(samples)[:1])
    return ops.convert_to_tensor(np.broadcast_to(np.asarray(target, "int64"), (batch,)).astype("int32"))
