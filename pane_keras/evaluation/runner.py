"""The loop over images, methods, rankings and experiments. What is finished is on disk and is not computed again.

Images come in chunks, so that the maps of all methods fit in memory: they are made once for a chunk, and every
experiment reads them.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from pane_keras import backend
from pane_keras.errors import InputError, PaneError
from pane_keras.evaluation import experiments as known
from pane_keras.evaluation.answers import RememberingClassifier
from pane_keras.evaluation.checks import checked_bounds, checked_images, checked_targets, chosen_from, per_channel
from pane_keras.evaluation.chunk import Chunk
from pane_keras.evaluation.experiments import Options
from pane_keras.evaluation.methods import Explainers, chosen
from pane_keras.evaluation.methods import methods as all_methods
from pane_keras.evaluation.ranking import COUNT, Ranking
from pane_keras.files import claim_folder, written
from pane_keras.fingerprints import fingerprint
from pane_keras.version import __version__
from pane_keras.wrapping import PaneModel

# PANE's contributions are its coefficients ranked by contribution, which are there already.
REPEATED = ("pos-contribution", "neg-contribution", "pos+neg-contribution")
_LONGEST_CHUNK, _BYTES = 250, 2**28
# Pictures that are made of each image, about: regions times rankings times experiments.
_PERTURBED = 1000


@dataclass(frozen=True)
class Results:
    """What came out.

    Attributes:
        rows: `experiments.Row`s of everything that was asked for.
        methods: The `Method`s, without those left out.
        left_out: {what: why}, for methods that cannot explain this model and what they could not be asked.
        settings: What the numbers depend on.
    """

    rows: tuple
    methods: tuple
    left_out: dict
    settings: dict


def evaluate(model, images, targets=None, *, out, black, step, bounds, options=None, progress=True):
    """Returns the `Results` of the experiments, most of which may be on disk.

    Args:
        model: A built Keras classifier of pictures or a `PaneModel`.
        images: Array (n, height, width, channels) in the model's own input units.
        targets: Class to explain of each, (n,), or one int; None for what the model predicts.
        out: Folder for what is finished. A run that was broken off goes on; more methods and experiments may be
            asked for later.
        black: What removed pixels are set to, in input units: a number, or one for each channel.
        step: 1/255 of the range of a pixel, in input units, likewise.
        bounds: Lowest and highest input, each likewise.
        options: `Options`.
        progress: Whether to show a progress bar.

    Raises:
        PaneError: Arguments that do not fit; a method named in the options that cannot explain the model; or a folder
            with results of another model, other data or settings.
    """
    with backend.few_warnings():
        return _Run(model, images, targets, Path(out), (black, step, bounds), options or Options()).results(progress)


@dataclass(frozen=True)
class _Task:
    """An experiment with one method and ranking."""

    method: object
    ranking: Ranking | None
    experiment: known.Experiment
    limit: int

    @property
    def name(self):
        order = (self.ranking.count, self.ranking.by) if self.ranking else ()
        return "_".join((self.method.name, *order, self.experiment.name))

    def count(self, start, stop):
        """How many of the images start ... stop - 1 it runs on."""
        return max(0, min(self.limit, stop) - start)


class _Run:
    def __init__(self, model, images, targets, out, units, options):
        self.model = model.model if isinstance(model, PaneModel) else model
        self.options, self._strict = options, options.methods is not None
        self.classifier = RememberingClassifier(self.model, options.batch_size)
        self.images = checked_images(images, self.classifier)
        self.logits = self.classifier.logits(self.images)
        self.targets = checked_targets(targets, self.logits)
        self.black, self.step, self.bounds = units
        self._check()
        self.bounds = checked_bounds(self.bounds, self.images, per_channel(self.step, self.images, "step"))
        settings = dataclasses.replace(options.settings, seed=options.seed)
        self._methods = [m for m in chosen(options.methods, settings) if self._strict or m.name not in REPEATED]
        self._known = {**all_methods(settings), **{method.name: method for method in self._methods}}
        self._experiments = known.chosen_experiments(options.experiments)
        _refuse_unknown(options, self._known)
        self._tasks, self.left_out, self._ready = self._planned(), {}, {}
        self.chunk = self._chunk_size()
        self._settings = self._all_settings(settings)
        self._folder = out / "values"
        claim_folder(self._folder / "settings.json", self._settings)

    def results(self, progress):
        self._compute(progress)
        rows = [row for task in self._tasks for row in self._rows(task)]
        methods = tuple(method for method in self._methods if method.name not in self.left_out)
        return Results(tuple(rows), methods, self.left_out, self._settings)

    def _check(self):
        per_channel(self.black, self.images, "black")
        per_channel(self.step, self.images, "step", above=0)
        for count in self.options.counts:
            chosen_from(count, COUNT, "counts")
        limits = {**self.options.limits, **self.options.experiment_limits}
        if any(not isinstance(limit, (int, np.integer)) or limit < 1 for limit in limits.values()):
            raise InputError(f"Expected limits of at least one sample. Received: {limits}.")

    def _planned(self):
        """All tasks, in the order of the tables."""
        options, tasks = self.options, []
        for experiment in self._experiments:
            most = options.experiment_limits.get(experiment.name, experiment.limit or len(self.images))
            for method in self._methods:
                if experiment.methods is not None and method.name not in experiment.methods:
                    continue
                limit = min(most, options.limits.get(method.name, most), len(self.images))
                rankings = known.rankings_for(method, experiment, options.counts, options.seed)
                tasks += [_Task(method, ranking, experiment, limit) for ranking in rankings]
        return tasks

    def _chunk_size(self):
        """As many images as leave room for the maps of all methods, also later ones, and for what is remembered."""
        answers = _PERTURBED * self.logits[0].nbytes
        room = _BYTES // (self.images[0].nbytes * len(self._known) + answers)
        return int(np.clip(room, self.options.batch_size, max(_LONGEST_CHUNK, self.options.batch_size)))

    def _all_settings(self, settings):
        options = dataclasses.asdict(self.options)
        data = hashlib.sha256(self.images.tobytes() + self.targets.tobytes()).hexdigest()
        units = {"black": self.black, "step": self.step}
        rest = {word: options[word] for word in ("batch_size", "seed", "limits", "experiment_limits")}
        return fingerprint(
            self.model,
            self.images,
            images=data,
            samples=len(self.images),
            **{word: np.asarray(value).tolist() for word, value in units.items()},
            bounds=[end.tolist() for end in self.bounds],
            **rest,
            chunk=self.chunk,
            method_settings=dataclasses.asdict(settings),
            version=__version__,
        )

    def _compute(self, progress):
        starts = range(0, len(self.images), self.chunk)
        missing = {start: self._missing(start) for start in starts}
        with tqdm(total=sum(map(len, missing.values())), disable=not progress, unit="result") as bar:
            for start, tasks in missing.items():
                if tasks:
                    self._run_chunk(start, tasks, bar)
                    self.classifier.forget()

    def _missing(self, start):
        stop = start + self.chunk
        return [task for task in self._tasks if task.count(start, stop) and not self._file(start, task).exists()]

    def _run_chunk(self, start, tasks, bar):
        bar.set_postfix_str(f"maps of images {start + 1} to {min(start + self.chunk, len(self.images))}")
        chunk = Chunk(self, start, tasks)
        for task in tasks:
            bar.set_postfix_str(f"{task.experiment.name}, {task.method.name}")
            if (values := self._measured(chunk, task)) is not None:
                written(self._file(start, task), lambda file, values=values: np.savez_compressed(file, **values))
            bar.update()

    def _measured(self, chunk, task):
        """Values, or None where the method was left out."""
        if self._is_left_out(task):
            return None
        try:
            return task.experiment.measure(chunk.case(task))
        except PaneError as error:
            # New weights, another class, or maps without channels, may be more than a method takes: the rest goes on.
            if task.ranking is not None and task.ranking.count == "pixels":
                raise
            self.left_out[task.name] = str(error)
            return None

    def explained(self, names, images, targets):
        """{name: maps} of those methods that can; the others are left out, or an error where they were asked for."""
        names = tuple(sorted(set(names) - set(self.left_out)))
        try:
            return self._explainers(names).explain(images, targets, self.options.batch_size) if names else {}
        except PaneError as error:
            broken = {} if self._strict else self._culprits(names, images, targets)
            self.left_out.update(broken)
            if not broken or {method.name for method in self._methods} <= set(self.left_out):
                raise error
            return self.explained(names, images, targets)

    def _explainers(self, names):
        if names not in self._ready:
            self._ready[names] = Explainers(self.model, [self._known[name] for name in names])
        return self._ready[names]

    def _culprits(self, names, images, targets):
        """{method that cannot explain this model: why}, found one by one."""
        broken = {}
        for name in names:
            try:
                self._known[name].explain(self.model, images[:1], targets[:1])
            except PaneError as error:
                broken[name] = str(error)
        return broken

    def _is_left_out(self, task):
        return bool({task.name, task.method.name, *task.experiment.needs} & set(self.left_out))

    def _file(self, start, task):
        return self._folder / f"{start:06d}_{task.name}.npz"

    def _rows(self, task):
        if self._is_left_out(task):
            return []
        parts = [_loaded(self._file(start, task)) for start in range(0, task.limit, self.chunk)]
        values = {quantity: np.concatenate([part[quantity] for part in parts]) for quantity in parts[0]}
        return known.rows(task.experiment, task.method.name, task.ranking, values, seed=self.options.seed)


def _refuse_unknown(options, methods):
    for word, names in (("limits", methods), ("experiment_limits", known.EXPERIMENTS)):
        if unknown := sorted(set(getattr(options, word)) - set(names)):
            raise InputError(f"Expected {word} of {', '.join(names)}. Received: {', '.join(map(repr, unknown))}.")


def _loaded(path):
    with np.load(path) as file:
        return {name: file[name] for name in file}
