"""Trace and saliency as one compiled function."""

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.maps import ExcitationMap
from pane_keras.selection import checked_classes

_PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale", "signal")


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
        key = (output, split_below, xla, target is None)
        explanation = self._functions.setdefault(key, _Explanation(self._run, output, split_below, xla))
        maps = explanation(tensors, target)
        if not all(bool(ops.all(ops.isfinite(m.sum))) for m in maps.values()):
            # The eager pass sweeps with care, or says what is not finite.
            return self._run(tensors).saliency(target, output=output, split_below=split_below)
        return maps if explanation.several else next(iter(maps.values()))


class _Explanation:
    """One compiled function: tensors and classes in, the parts of the maps out, by the name of the input.

    Attributes:
        several: Whether the model has several inputs.
    """

    def __init__(self, run, output, split_below, xla):
        self._run, self._asked = run, {"output": output, "split_below": split_below}
        self._function, self._classes, self.several = backend.compiled(self._parts, xla), None, False

    def __call__(self, tensors, target):
        batch = tensors[0].shape[0]
        given = () if target is None else (_one_each(target, batch, self._classes),)
        parts = self._function(list(tensors), *given)
        if target is not None:
            checked_classes(target, (batch, self._classes), "logits")
        of = "top class" if target is None else f"class {target}"
        return {name: ExcitationMap(*values, over=name, of=of) for name, values in parts.items()}

    def _parts(self, tensors, *classes):
        trace = self._run(tensors)
        maps = trace.saliency(*classes, **self._asked)
        # Facts of the graph, noted while it is traced.
        self.several, self._classes = isinstance(maps, dict), trace.logits(self._asked["output"]).shape[-1]
        maps = maps if self.several else {trace.input_names[0]: maps}
        return {name: [getattr(one, part) for part in _PARTS] for name, one in maps.items()}


def _one_each(target, batch, count):
    """Classes as a tensor of one signature; whether they are classes is checked once their number is known."""
    chosen = np.asarray(target)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (batch,)):
        checked_classes(target, (batch, count or 1), "logits")
    return ops.convert_to_tensor(np.broadcast_to(chosen % (count or 2**31), (batch,)).astype("int32"))
