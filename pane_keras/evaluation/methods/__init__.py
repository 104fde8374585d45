"""The methods that the experiments compare: PANE's own maps, and those that others proposed."""

import difflib

from pane_keras.errors import PaneError
from pane_keras.evaluation.methods import peer
from pane_keras.evaluation.methods.class_activation import ClassActivation, ScoreCAM
from pane_keras.evaluation.methods.full_gradient import FullGradient
from pane_keras.evaluation.methods.gradient_methods import Gradients, IntegratedGradients, SmoothGrad
from pane_keras.evaluation.methods.guided import GuidedBackpropagation
from pane_keras.evaluation.methods.method import Explainers, Method, Settings
from pane_keras.evaluation.methods.pane_methods import LITERAL, SPLIT, Excitations, LiteralSum
from pane_keras.evaluation.methods.random_maps import RandomMaps

__all__ = ["Explainers", "Method", "Settings", "UnknownMethodError", "chosen", "methods"]

_GUIDED, _INTEGRATED = "guided-backpropagation", "integrated-gradients"
# (name, title, what it is, family, extra), in the order of the tables.
_SINGLE = (
    ("pos", "POS", "what excites the logit: positive coefficients", Excitations, None),
    ("neg", "NEG", "what inhibits it: negative coefficients", Excitations, None),
    ("pos+neg", "POS+NEG", "their sum, from a chain of its own", Excitations, None),
    ("pos-contribution", "POS x signal", "positive coefficients times the picture", Excitations, None),
    ("neg-contribution", "NEG x signal", "negative coefficients times the picture", Excitations, None),
    ("pos+neg-contribution", "POS+NEG x signal", "the sum times the picture", Excitations, None),
    (SPLIT, "POS, split below", "POS that tells positive from negative only below a layer", Excitations, None),
    (LITERAL, "POS+NEG, float32", "POS plus NEG as literally computed in float32: rounding noise", LiteralSum, None),
    ("gradient", "Gradient", "the gradient of the logit", Gradients, None),
    (_INTEGRATED, "Integrated gradients", "the mean gradient on a path to the picture", IntegratedGradients, None),
    ("smooth-grad", "SmoothGrad", "the mean gradient over noisy copies", SmoothGrad, peer.EXTRA),
    (_GUIDED, "Guided BP", "the gradient with every ReLU applied to it as well", GuidedBackpropagation, peer.EXTRA),
    ("grad-cam", "Grad-CAM", "a layer's channels weighted by their mean gradients", ClassActivation, peer.EXTRA),
    ("grad-cam++", "Grad-CAM++", "a layer's channels weighted by higher derivatives", ClassActivation, peer.EXTRA),
    ("score-cam", "Score-CAM", "a layer's channels weighted by what they alone let pass", ScoreCAM, peer.EXTRA),
    ("full-grad", "Full-Grad", "gradients of the picture and of every bias, by magnitude", FullGradient, None),
    ("random", "Random", "uniform numbers", RandomMaps, None),
)
# (name, title, first factor): each times guided backpropagation, as in the paper's Fig. 1.
_PRODUCTS = (
    ("guided-pane", "Guided PANE", "pos"),
    ("guided-grad-cam", "Guided Grad-CAM", "grad-cam"),
    ("guided-full-grad", "Guided Full-Grad", "full-grad"),
)


class UnknownMethodError(PaneError, ValueError):
    """No method has the name that was asked for."""


def methods(settings=None):
    """Returns {name: `Method`} of all methods, in the order of the tables.

    Args:
        settings: `Settings`; by default the defaults.
    """
    settings = settings or Settings()
    known = {
        name: Method(name, title, about, settings, family, extra=extra) for name, title, about, family, extra in _SINGLE
    }
    for name, title, first in _PRODUCTS:
        about = f"{known[first].title} times guided backpropagation"
        factors = (known[first], known[_GUIDED])
        known[name] = Method(name, title, about, settings, factors=factors, extra=peer.EXTRA)
    return known


def chosen(names=None, settings=None):
    """Returns the list of `Method`s with these names or titles, in the order given; each once.

    Args:
        names: A list of names, such as ["pos", "grad-cam"], or one string of them with commas; None for all.
        settings: As for `methods`.

    Raises:
        UnknownMethodError: No method has such a name.
        MissingExtraError: A method needs a package that is not installed.
    """
    known = methods(settings)
    by_word = {word.casefold(): method for method in known.values() for word in (method.name, method.title)}
    wanted = known if names is None else _listed(names)
    found = list({method.name: method for method in (_found(by_word, known, name) for name in wanted)}.values())
    if any(method.extra for method in found):
        peer.module("saliency")
    return found


def _listed(names):
    parts = names.split(",") if isinstance(names, str) else list(names)
    if not parts:
        raise UnknownMethodError(f"Expected at least one method. Received: none. The methods: {', '.join(methods())}.")
    return parts


def _found(by_word, known, name):
    word = str(name).strip().casefold()
    if word in by_word:
        return by_word[word]
    close = difflib.get_close_matches(word, list(by_word), n=3)
    hint = f" Did you mean {', '.join(repr(by_word[c].name) for c in close)}?" if close else ""
    raise UnknownMethodError(f"No method is called {name!r}.{hint} The methods: {', '.join(known)}.")
