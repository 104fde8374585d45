"""`pane-keras evaluate`: the experiments of the paper on a user's own model and pictures."""

import dataclasses
import difflib
import io
import json
import sys
from pathlib import Path

import numpy as np

from pane_keras.commands.console import Console
from pane_keras.commands.output import OutputFolder
from pane_keras.commands.preprocessing import scale_and_offset
from pane_keras.errors import InputError
from pane_keras.evaluation.classifier import Classifier
from pane_keras.evaluation.data import load_pictures, selected
from pane_keras.evaluation.experiments import EXPERIMENTS, Options, chosen_experiments
from pane_keras.evaluation.figures import FIGURES, draw
from pane_keras.evaluation.methods import chosen, methods
from pane_keras.evaluation.page import page, verdicts
from pane_keras.evaluation.runner import evaluate
from pane_keras.evaluation.tables import csv_text, tables
from pane_keras.extras import needed
from pane_keras.files import written
from pane_keras.loading import load_model

_SHOWN = 6
"""Names of methods that are listed on the terminal; the report has all of them."""


def run(arguments):
    """Runs the experiments and writes numbers, tables, figures and the report.

    Args:
        arguments: The parsed arguments of the command.
    """
    options = _options(arguments)
    with Console(arguments.json) as console:
        model = load_model(arguments.model)
        pictures, sample = _data(arguments, Classifier(model, arguments.batch_size))
        about = _about(arguments, model, pictures, sample)
        console.say("\n".join(f"{word}: {text}" for word, text in about.items()))
        folder = OutputFolder(arguments.out).path
        results = _evaluated(arguments, model, pictures, sample, folder, options)
        results = dataclasses.replace(results, left_out=_summarised(results.left_out))
        files = _write(folder, results, about)
        _say(console, results, folder, files)
        console.finish("evaluate", **_document(arguments, model, sample, results), files=files)


def _data(arguments, classifier):
    scale, offset, turned = scale_and_offset(arguments, classifier.shape[-1])
    how = {"scale": scale, "offset": offset, "blue_first": turned, "classes": arguments.classes}
    pictures = load_pictures(arguments.data, classifier, **how)
    only_correct = not arguments.all_images
    return pictures, selected(pictures, classifier, arguments.samples, seed=arguments.seed, only_correct=only_correct)


def _evaluated(arguments, model, pictures, sample, folder, options):
    units = {"black": _or(arguments.black, pictures.black), "step": _or(arguments.step, pictures.step)}
    how = {"bounds": pictures.bounds, "options": options, "progress": sys.stderr.isatty()}
    return evaluate(model, sample.images, sample.targets, out=folder, **units, **how)


def _summarised(left_out):
    """{methods that were left out for the same reason: the reason in one line}."""
    by_reason = {}
    for what, why in left_out.items():
        by_reason.setdefault(" ".join(why.split()), []).append(what)
    return {", ".join(names): why for why, names in by_reason.items()}


def _options(arguments):
    """What is missing or mistyped is said at once, and not after half an hour."""
    needed("matplotlib.figure", "matplotlib", "plot")
    chosen(arguments.methods)
    chosen_experiments(arguments.experiments)
    counts = ("pixels", "elements") if arguments.count == "both" else (arguments.count,)
    own = {"batch_size": arguments.batch_size, "seed": arguments.seed, **_limits(arguments.limits)}
    return Options(arguments.methods, arguments.experiments, counts, **own)


def _limits(given):
    """The limits of methods, beside those they have, and the limits of experiments."""
    known = list(methods())
    for name in [name for name in given if name not in (*known, *EXPERIMENTS)]:
        close = difflib.get_close_matches(name.lower(), [*known, *EXPERIMENTS], n=3)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise InputError(
            f"--limits: no method or experiment is called {name!r}.{hint} The methods: {', '.join(known)}. "
            f"The experiments: {', '.join(EXPERIMENTS)}."
        )
    of_methods, of_experiments = (
        {name: given[name] for name in names if name in given} for names in (known, EXPERIMENTS)
    )
    return {"limits": {**Options().limits, **of_methods}, "experiment_limits": of_experiments}


def _or(given, otherwise):
    return otherwise if given is None else given


def _about(arguments, model, pictures, sample):
    about = {"model": f"{model.name} ({model.count_params():,} parameters), {Path(arguments.model).name}"}
    correct = "no labels: the predicted class is explained"
    if sample.correct is not None:
        kept = "wrong ones kept" if arguments.all_images else "only those are taken"
        correct = f"{sample.correct} of {sample.looked_at} classified correctly, {kept}"
    about["data"] = f"{len(sample.images)} images of {Path(arguments.data).name} ({pictures.count} in all); {correct}"
    about["notices"] = "; ".join(sample.notices) or "none"
    black, step = (_or(a, b) for a, b in ((arguments.black, pictures.black), (arguments.step, pictures.step)))
    about["units"] = f"black {_list(black)}, 1/255 is {_list(step)}, in the model's input units"
    about["seed"] = str(arguments.seed)
    return about


def _list(values):
    return ", ".join(f"{value:.6g}" for value in np.atleast_1d(values))


def _write(folder, results, about):
    """Writes the results and returns {name: path}."""
    made = [(curves, draw(results.rows, curves)) for curves in FIGURES]
    pngs = {curves: _png(figure) for curves, figure in made if figure is not None}
    settings = json.dumps(results.settings, indent=1)
    report = page(results, {**about, "all settings": settings}, {curves.title: png for curves, png in pngs.items()})
    files = {
        "numbers.csv": csv_text(results.rows).encode(),
        "tables.md": ("\n\n".join(table.markdown() for table in tables(results.rows)) + "\n").encode(),
        "settings.json": settings.encode(),
        "report.html": report.encode(),
        **{f"{curves.name}.png": png for curves, png in pngs.items()},
    }
    return {name: written(folder / name, lambda file, data=data: file.write(data)) for name, data in files.items()}


def _say(console, results, folder, files):
    for sentence in verdicts(results.rows):
        console.say(f"- {sentence}")
    for what, why in results.left_out.items():
        console.say(f"left out: {_short(what.split(', '))}: {why}", "yellow")
    console.say(f"written to {folder}: {', '.join(files)}")


def _short(names):
    more = len(names) - _SHOWN
    return ", ".join(names if more < 2 else [*names[:_SHOWN], f"and {more} more"])


def _document(arguments, model, sample, results):
    return {
        "model": {"name": model.name, "parameters": model.count_params(), "from": arguments.model},
        "data": {
            "from": arguments.data,
            "images": len(sample.images),
            "looked_at": sample.looked_at,
            "correct": sample.correct,
            "notices": sample.notices,
        },
        "settings": results.settings,
        "verdicts": verdicts(results.rows),
        "numbers": [dataclasses.asdict(row) for row in results.rows],
        "left_out": [{"methods": what.split(", "), "reason": why} for what, why in results.left_out.items()],
    }


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
