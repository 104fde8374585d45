"""`pane-keras demo`: a really trained network explained on real photographs."""

import time

import numpy as np

from pane_keras.commands.console import Console
from pane_keras.commands.output import SELF_CHECK_FAILED, OutputFolder, map_facts, ranked, said_check, write_maps
from pane_keras.demo.efficientnet_lite import PACKAGE, efficientnet_lite0
from pane_keras.demo.labels import class_names
from pane_keras.demo.photographs import PHOTOGRAPHS, photograph
from pane_keras.wrapping import wrap

_SIGNS = (
    "The network's pixels are centred at 127: over darker ones a coefficient of POS is mostly blue, and of NEG red."
)


def run(arguments):
    """Explains the demo's photographs and writes a figure for each.

    Args:
        arguments: The parsed arguments of the command.

    Returns:
        The exit code: 0, or SELF_CHECK_FAILED.
    """
    start = time.perf_counter()
    with Console(arguments.json) as console:
        folder = OutputFolder(arguments.out)
        model = efficientnet_lite0()
        console.say(f"EfficientNet-Lite0, trained on ImageNet ({model.count_params():,} parameters, from {PACKAGE})")
        pane = wrap(model)
        found = [_explain(pane, name, folder, console, arguments) for name in PHOTOGRAPHS]
        console.say(f"\nDone in {time.perf_counter() - start:.0f} s.")
        about = {"name": model.name, "parameters": model.count_params(), "from": PACKAGE}
        console.finish("demo", model=about, pictures=found)
    return 0 if all(picture["self_check"]["ok"] for picture in found) else SELF_CHECK_FAILED


def _explain(pane, name, folder, console, arguments):
    pixels = photograph(name)
    console.say(f"\n{name}: {pixels.shape[1]} x {pixels.shape[0]} pixels, the middle of scikit-image's photograph")
    trace = pane.trace(pixels[None])
    logits, probabilities = np.asarray(trace.logits())[0], np.asarray(trace["probabilities"].output)[0]
    title = _seen(name, logits, probabilities, console)
    maps = trace.saliency()
    diagnosis = maps.diagnose()
    note = f"{_SIGNS}\n{diagnosis}"
    written = write_maps(maps, pixels, title, folder.file(name), arguments, note=note)
    report = trace.check()
    console.say("  " + note.replace("\n", "\n  "))
    said_check(console, report)
    for file in filter(None, written.values()):
        console.say(f"  written: {file}")
    top = [
        {"class": k, "name": class_names()[k], "logit": logits[k], "probability": p} for k, p in ranked(probabilities)
    ]
    explained = {"target": "logits", "unit": [top[0]["class"]], "value": logits[top[0]["class"]], "over": "input"}
    facts = {"explained": explained, "top": top, **map_facts(maps, diagnosis, report)}
    return {"file": name, "changes": [], **facts, **written}


def _seen(name, logits, probabilities, console):
    for k, probability in ranked(probabilities):
        console.say(f"  {probability:6.1%}  {class_names()[k]} (class {k}, logit {logits[k]:.2f})")
    (top, probability), *_ = ranked(probabilities, 1)
    console.say(f"  explained: which pixels excite and which inhibit the logit of {class_names()[top]!r}")
    return f"{name}: the logit {logits[top]:.2f} of {class_names()[top]!r} (class {top}, probability {probability:.1%})"
