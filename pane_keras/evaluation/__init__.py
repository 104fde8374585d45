"""Do the maps tell the truth? The experiments of the paper's section V, as functions on (model, images, maps).

`remove_salient`, `remove_minor` and `remove_negative_salient` (V.A, V.B, V.C.4), `change_logits` (V.C.5),
`iterative_fgsm` and `guided_attack` (V.C.3), `class_sensitivity`, `cascade_randomisation` and `parts_agreement`. Each
gives a number a sample, of which `bootstrap_interval` makes a mean with a confidence interval. A `Ranking` says how
the entries of a map are put in order; a `Classifier` saves reading and compiling a model for every metric again.
"""

import importlib

_HOME = {
    "Classifier": "classifier",
    "GuidedAttack": "attack",
    "Interval": "intervals",
    "LogitChange": "logit_change",
    "Options": "experiments",
    "Randomisation": "randomisation",
    "Ranking": "ranking",
    "Removal": "removal",
    "bootstrap_interval": "intervals",
    "cascade_randomisation": "randomisation",
    "change_logits": "logit_change",
    "class_sensitivity": "sensitivity",
    "evaluate": "runner",
    "guided_attack": "attack",
    "iterative_fgsm": "attack",
    "load_pictures": "data",
    "logits_of": "heads",
    "parts_agreement": "agreement",
    "probabilities_of": "heads",
    "rank_correlation": "similarity",
    "remove": "removal",
    "remove_minor": "removal",
    "remove_negative_salient": "removal",
    "remove_salient": "removal",
    "top_classes": "sensitivity",
}

__all__ = [*_HOME]


def __getattr__(name):
    # The maps themselves need none of the packages that the metrics need.
    if name not in _HOME:
        raise AttributeError(f"module 'pane_keras.evaluation' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pane_keras.evaluation.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
