"""Class sensitivity: whether the map of a class differs from that of the class that came second."""

import numpy as np

from pane_keras.errors import InputError
from pane_keras.evaluation.checks import checked_images, checked_maps
from pane_keras.evaluation.classifier import classifier_of
from pane_keras.evaluation.similarity import rank_correlation


def top_classes(model, images, count=2, *, batch_size=32):
    """Returns the classes with the highest logits, highest first, the lower class first on ties, (n, count).

    Args:
        model: A Keras model, a `PaneModel` or a `Classifier`.
        images: Array (n, height, width, channels) in the model's own input units.
        count: How many, from 1 to the number of classes.
        batch_size: Images that are computed at once; a `Classifier` has its own.

    Raises:
        PaneError: Wrong shapes, a count that the model does not have, or a model whose logits cannot be read.
    """
    classifier = classifier_of(model, batch_size)
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 1 <= count <= classifier.classes:
        raise InputError(f"Expected a number of classes from 1 to {classifier.classes}. Received: {count!r}.")
    logits = classifier.logits(checked_images(images, classifier))
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def class_sensitivity(model, images, explain, *, others=1, batch_size=32):
    """Returns the rank correlation of the top class's map with those of the next classes, (n, others).

    1 is a map that does not depend on the class; see `rank_correlation` for maps that are constant.

    Args:
        model: A Keras model or a `PaneModel`.
        images: Array (n, height, width, channels) in the model's own input units.
        explain: Function (model, images, targets, batch_size) -> maps (n, height, width[, channels]).
        others: How many classes after the top one.
        batch_size: Images that are computed at once.

    Raises:
        PaneError: As `top_classes`, or maps that do not fit the images.
    """
    classes = top_classes(model, images, others + 1, batch_size=batch_size)
    maps = [checked_maps(explain(model, images, column, batch_size), np.asarray(images)) for column in classes.T]
    return np.stack([rank_correlation(maps[0], other) for other in maps[1:]], axis=1)
