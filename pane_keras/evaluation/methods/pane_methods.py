"""Maps of PANE: positive, negative and sum, as coefficients and as contributions, whole and split below a layer.

All numbers of a map are in units of one power of two of its own (`log2_scale`), which does not change their order.
"""

import numpy as np

from pane_keras.errors import ModelError
from pane_keras.evaluation.methods.literal_chain import literal_chain
from pane_keras.wrapping import wrap

# name -> (attribute of the map, whether it is multiplied by the signal).
WHOLE = {
    "pos": ("positive", False),
    "neg": ("negative", False),
    "pos+neg": ("sum", False),
    "pos-contribution": ("positive", True),
    "neg-contribution": ("negative", True),
    "pos+neg-contribution": ("sum", True),
}
SPLIT, LITERAL = "pos-split", "pos+neg-float32"


class Excitations:
    """POS, NEG, POS+NEG and their contributions from one compiled pass, and `pos-split` from a second one.

    Raises:
        PaneError: As `wrap`; UnknownLayerError where no layer is called `split_below`.
    """

    def __init__(self, model, names, settings):
        self._pane, self._names = wrap(model), names
        self._split_below = settings.split_below
        if SPLIT in names and self._split_below is None:
            self._split_below = middle_layer(self._pane)

    def __call__(self, images, targets):
        """Returns {name: maps}, (n, height, width, channels)."""
        maps, whole = {}, [name for name in self._names if name in WHOLE]
        if whole:
            explained = self._pane.explain(images, targets)
            forms = {False: explained, True: explained.contribution()}
            maps = {name: np.asarray(getattr(forms[WHOLE[name][1]], WHOLE[name][0])) for name in whole}
        if SPLIT in self._names:
            maps[SPLIT] = np.asarray(self._pane.explain(images, targets, split_below=self._split_below).positive)
        return maps


class LiteralSum:
    """POS + NEG of the literal chain in the model's float dtype; an entry that overflowed is 0: it tells nothing."""

    def __init__(self, model, names, settings):
        self._pane = wrap(model)

    def __call__(self, images, targets):
        """Returns {"pos+neg-float32": maps}, (n, height, width, channels)."""
        positive, negative = literal_chain(self._pane.trace(images), targets)
        return {LITERAL: np.nan_to_num(np.asarray(positive + negative), nan=0, posinf=0, neginf=0)}


def middle_layer(pane):
    """Returns the name of the layer in the middle of a network.

    Of its L layers with a kernel (a weight of two axes or more), in the order in which they run, it is number L / 2,
    rounded up: above a cut there, half of the network carries the sum, which is what keeps the map's class-sensitivity.

    Args:
        pane: A `PaneModel`.

    Raises:
        ModelError: No layer has a kernel.
    """
    kernels = [
        call.name
        for call in pane.graph.calls
        if any(len(weight.shape) > 1 for weight in getattr(call.operation, "weights", ()))
    ]
    if not kernels:
        raise ModelError(
            f"Model {pane.model.name!r} has no layer with a kernel to cut it at. Name one: Settings(split_below=...)."
        )
    return kernels[(len(kernels) - 1) // 2]
