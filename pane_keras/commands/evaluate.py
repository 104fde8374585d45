"""`pane-keras evaluate`: the experiments of the paper on a user's own model and pictures."""

import contextlib
import io
import json
import logging
import sys
from pathlib import Path

import numpy as np

from pane_keras.commands.output import OutputFolder
from pane_keras.evaluation.classifier import Classifier
from pane_keras.evaluation.data import load_pictures, selected
from pane_keras.evaluation.experiments import Options, chosen_experiments
from pane_keras.evaluation.figures import FIGURES, draw
from pane_keras.evaluation.methods import chosen
from pane_keras.evaluation.page import page, verdicts
from pane_keras.evaluation.runner import evaluate
from pane_keras.evaluation.tables import csv_text, tables
from pane_keras.extras import needed
from pane_keras.files import written
from pane_keras.loading import load_model


def run(arguments):
    """Runs the experiments and writes numbers, tables, figures and the report.

    Args:
        arguments: The parsed arguments of the command.
    """
    options = _options(arguments)
    model = load_model(arguments.model)
    classifier = Classifier(model, arguments.batch_size)
    how = {"scale": arguments.scale, "offset": arguments.offset, "classes": arguments.classes}
    pictures = load_pictures(arguments.data, classifier, **how)
    sample = selected(
        pictures, classifier, arguments.samples, seed=arguments.seed, only_correct=not arguments.all_images
    )
    about = _about(arguments, model, pictures, sample)
    print("\n".join(f"{word}: {text}" for word, text in about.items()))
    folder = OutputFolder(arguments.out).path
    units = {"black": _or(arguments.black, pictures.black), "step": _or(arguments.step, pictures.step)}
    with _quiet():
        results = evaluate(
            model,
            sample.images,
            sample.targets,
            out=folder,
            **units,
            bounds=pictures.bounds,
            options=options,
            progress=sys.stderr.isatty(),
        )
    _write(folder, results, about)


@contextlib.contextmanager
def _quiet():
    """Randomisation makes many models, and TensorFlow warns that functions are traced again and again."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _options(arguments):
    """What is missing or mistyped is said at once, and not after half an hour."""
    needed("matplotlib.figure", "matplotlib", "plot")
    chosen(arguments.methods)
    chosen_experiments(arguments.experiments)
    counts = ("pixels", "elements") if arguments.count == "both" else (arguments.count,)
    return Options(
        arguments.methods, arguments.experiments, counts, batch_size=arguments.batch_size, seed=arguments.seed
    )


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
    made = [(curves, draw(results.rows, curves)) for curves in FIGURES]
    pngs = {curves: _png(figure) for curves, figure in made if figure is not None}
    settings = json.dumps(results.settings, indent=1)
    found = tables(results.rows)
    files = {
        "numbers.csv": csv_text(results.rows).encode(),
        "tables.md": ("\n\n".join(table.markdown() for table in found) + "\n").encode(),
        "settings.json": settings.encode(),
        "report.html": page(
            results, {**about, "all settings": settings}, {curves.title: png for curves, png in pngs.items()}
        ).encode(),
        **{f"{curves.name}.png": png for curves, png in pngs.items()},
    }
    for sentence in verdicts(results.rows):
        print(f"- {sentence}")
    for what, why in results.left_out.items():
        print(f"left out: {what}: {' '.join(why.split())}")
    for name, data in files.items():
        written(folder / name, lambda file, data=data: file.write(data))
    print(f"written to {folder}: {', '.join(files)}")


def _png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
