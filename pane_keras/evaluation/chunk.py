"""Some images of an evaluation, with what its experiments share on them."""

from functools import lru_cache

import numpy as np

from pane_keras.evaluation.attack import iterative_fgsm
from pane_keras.evaluation.case import Case


class Chunk:
    """Maps of some images, those of another class and adversarial images, each made when it is first asked for.

    Args:
        run: What the evaluation depends on: model, classifier, images, targets, logits, black, step, bounds, options,
            and `explained`, which makes maps.
        start: Number of the first image; the last one follows from the run's `chunk`.
        tasks: What is to be measured.
    """

    def __init__(self, run, start, tasks):
        self._run, self._start, self._stop = run, start, (stop := min(start + run.chunk, len(run.images)))
        self._images, self._targets = run.images[start:stop], run.targets[start:stop]
        self._counts = {}
        for task in tasks:
            for name in (task.method.name, *task.experiment.needs):
                self._counts[name] = max(self._counts.get(name, 0), task.count(start, stop))
        sensitive = [task for task in tasks if task.experiment.name == "class-sensitivity"]
        self._compared = {task.method.name: task.count(start, stop) for task in sensitive}
        self._maps = self._explained(self._counts, self._targets)
        self._leave_out_what_is_not_finite()
        self._others = lru_cache(None)(lambda: self._explained(self._compared, self._other_classes()))
        self._adversarial = lru_cache(None)(self._attacked)

    def case(self, task):
        """Returns the `Case` of a task."""
        run, name, count = self._run, task.method.name, task.count(self._start, self._stop)
        return Case(
            run.model,
            run.classifier,
            task.method,
            self._images[:count],
            self._targets[:count],
            {key: self._maps[key][:count] for key in (name, *task.experiment.needs)},
            task.ranking,
            run.black,
            run.step,
            lambda: self._adversarial()[:count],
            lambda: self._others()[name][:count],
            run.options.seed,
        )

    def _explained(self, counts, targets):
        """Methods that explain as many images share their passes."""
        maps = {}
        for count in sorted(set(counts.values())):
            names = [name for name, own in counts.items() if own == count]
            maps.update(self._run.explained(names, self._images[:count], targets[:count]))
        return maps

    def _leave_out_what_is_not_finite(self):
        for name, maps in self._maps.items():
            if not np.isfinite(maps).all():
                reason = f"its maps of images {self._start + 1} to {self._stop} hold a NaN or an infinity"
                self._run.left_out[name] = reason

    def _other_classes(self):
        """The highest class but the target."""
        logits = self._run.logits[self._start : self._stop].copy()
        np.put_along_axis(logits, self._targets[:, None], -np.inf, axis=1)
        return logits.argmax(axis=1)

    def _attacked(self):
        return iterative_fgsm(self._run.classifier, self._images, step=self._run.step, bounds=self._run.bounds)
