"""`pane-keras demo`: a really trained network explained on real photographs."""

import time

import numpy as np

from pane_keras.commands.output import OutputFolder, ranked, verdict
from pane_keras.demo.efficientnet_lite import PACKAGE, efficientnet_lite0
from pane_keras.demo.labels import class_names
from pane_keras.demo.photographs import PHOTOGRAPHS, photograph
from pane_keras.plotting import plot, save_png
from pane_keras.wrapping import wrap

_SIGNS = (
    "The network's pixels are centred at 127: over darker ones a coefficient of POS is mostly blue, and of NEG red."
)


def run(arguments):
    """Explains the demo's photographs and writes a figure for each.

    Args:
        arguments: The parsed arguments `out`.
    """
    start = time.perf_counter()
    folder = OutputFolder(arguments.out)
    model = efficientnet_lite0()
    print(f"EfficientNet-Lite0, trained on ImageNet ({model.count_params():,} parameters, from {PACKAGE})")
    pane = wrap(model)
    for name in PHOTOGRAPHS:
        _explain(pane, name, folder)
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")


def _explain(pane, name, folder):
    pixels = photograph(name)
    print(f"\n{name}: {pixels.shape[1]} x {pixels.shape[0]} pixels, the middle of scikit-image's photograph")
    trace = pane.trace(pixels[None])
    title = _seen(name, np.asarray(trace.logits())[0], np.asarray(trace["probabilities"].output)[0])
    maps = trace.saliency()
    note = f"{_SIGNS}\n{maps.diagnose()}"
    path = folder.file(name)
    save_png(plot(maps, pixels[None], titles=[title], note=note), path)
    print("  " + note.replace("\n", "\n  "))
    print(f"  {verdict(trace.check())}\n  written: {path}")


def _seen(name, logits, probabilities):
    for k, probability in ranked(probabilities):
        print(f"  {probability:6.1%}  {class_names()[k]} (class {k}, logit {logits[k]:.2f})")
    (top, probability), *_ = ranked(probabilities, 1)
    print(f"  explained: which pixels excite and which inhibit the logit of {class_names()[top]!r}")
    return f"{name}: the logit {logits[top]:.2f} of {class_names()[top]!r} (class {top}, probability {probability:.1%})"
