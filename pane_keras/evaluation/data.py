"""Pictures to evaluate on, from class folders or arrays, in the model's own input units."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from keras import ops

from pane_keras.errors import InputError, LoadError
from pane_keras.evaluation.arrays import read_arrays
from pane_keras.evaluation.checks import per_channel
from pane_keras.picture_files import pictures_in
from pane_keras.pictures import read_picture, refuse_channels

_AT_ONCE = 64


@dataclass(frozen=True)
class Pictures:
    """Pictures that are read when they are asked for.

    Attributes:
        read: Function index -> (array (height, width, channels) in input units, notices), or None and why.
        count: How many there are.
        labels: Class of each, (count,), or None.
        bounds: Lowest and highest input, arrays () or (channels,); of pixels, what 0 and 255 become.
        black: What pixel 0 is in input units; of real numbers, the lowest one.
        step: 1/255 of the range, in input units, above 0.
        notices: What was assumed, in words.
    """

    read: Callable
    count: int
    labels: np.ndarray | None
    bounds: tuple
    black: np.ndarray
    step: np.ndarray
    notices: tuple = ()


@dataclass(frozen=True)
class Sample:
    """The images that the experiments run on.

    Attributes:
        images: Array (n, height, width, channels) in the model's own input units.
        targets: Class that is explained, (n,): the label, or where there is none the predicted class.
        looked_at: How many pictures were read to find them.
        correct: How many of those the model classifies as their label says; None without labels.
        notices: What was changed to make pictures fit, with counts, in words.
    """

    images: np.ndarray
    targets: np.ndarray
    looked_at: int
    correct: int | None
    notices: tuple


def load_pictures(source, classifier, *, scale=None, offset=None, blue_first=False, classes=None):
    """Returns the `Pictures` of a source.

    Args:
        source: A folder with a folder of pictures for each class, or of pictures without labels; or what `read_arrays`
            takes: a `.npz` file, the name of one of Keras's data sets, an array of images, or (images, labels).
        classifier: The `Classifier` they are for.
        scale, offset: Numbers, or one a channel: the model takes value * scale + offset. By default as they are.
        blue_first: Whether the model takes the channels in the opposite order, for which scale and offset are meant.
        classes: File with the name of a class folder on each line, in the order of the model's classes; by default the
            folders' names in alphabetical order.

    Raises:
        PaneError: Nothing there, another layout, labels that do not fit the model, or a scale of 0.
    """
    if None in classifier.shape:
        raise InputError(f"Expected a model of pictures of a fixed size. Received: the input {classifier.shape}.")
    scale, offset = _scaling(scale, offset, classifier)
    order = slice(None, None, -1 if blue_first else None)
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        return _from_folder(Path(source), classifier, scale, offset, classes, order)
    if classes is not None:
        raise InputError("classes= names the folders of a folder of pictures, and the data are arrays. Leave it out.")
    images, labels = read_arrays(source)
    return _from_arrays(_fitting(images, classifier)[..., order], labels, classifier, scale, offset)


def selected(pictures, classifier, samples=None, *, seed=0, only_correct=True):
    """Returns the `Sample`: pictures in a random order, until there are enough.

    Args:
        pictures: `Pictures`.
        classifier: A `Classifier`.
        samples: How many images, at least 1; None for all.
        seed: Of the order.
        only_correct: Whether to leave out what the model does not classify as its label says, as the paper does.

    Raises:
        InputError: No picture is left.
    """
    wanted = pictures.count if samples is None else samples
    if isinstance(wanted, bool) or not isinstance(wanted, (int, np.integer)) or wanted < 1:
        raise InputError(f"Expected samples to be an int of at least 1. Received: {samples!r}.")
    order, found = np.random.default_rng(seed).permutation(pictures.count), _Found()
    for start in range(0, len(order), _AT_ONCE):
        found.add(pictures, classifier, order[start : start + _AT_ONCE], only_correct, wanted)
        if len(found.images) == wanted:
            break
    _check_found(found, pictures)
    correct = None if pictures.labels is None else found.correct
    images = np.stack(found.images).astype(classifier.dtype)
    return Sample(images, np.array(found.targets), found.looked_at, correct, found.notices(pictures))


class _Found:
    """Images that were taken, and what happened on the way."""

    def __init__(self):
        self.images, self.targets, self.looked_at, self.correct, self._notes = [], [], 0, 0, {}

    def add(self, pictures, classifier, indices, only_correct, wanted):
        read = [(index, *pictures.read(index)) for index in indices]
        usable = [(index, image) for index, image, notes in read if self._noted(notes) and image is not None]
        if not usable:
            return
        predicted = classifier.predicted(np.stack([image for _, image in usable]).astype(classifier.dtype))
        for (index, image), top in zip(usable, predicted):
            if len(self.images) == wanted:
                return
            label = top if pictures.labels is None else pictures.labels[index]
            self.looked_at, self.correct = self.looked_at + 1, self.correct + int(label == top)
            if label == top or not only_correct:
                self.images.append(image)
                self.targets.append(int(label))

    def notices(self, pictures):
        """Everything that was said, with counts."""
        return (*pictures.notices, *(f"{count} pictures: {note}" for note, count in self._notes.items()))

    def _noted(self, notes):
        for note in notes:
            self._notes[note] = self._notes.get(note, 0) + 1
        return True


def _check_found(found, pictures):
    if found.images:
        return
    if not found.looked_at:
        raise LoadError(f"None of the {pictures.count} pictures can be read: {'; '.join(found.notices(pictures))}.")
    raise InputError(
        f"The model classifies none of {found.looked_at} pictures as its label says. Check the order of the classes "
        "and the units that it was trained on (scale, offset), or keep what it gets wrong, too."
    )


def _scaling(scale, offset, classifier):
    like = np.empty((0, 0, 0, classifier.shape[-1]), "float64")
    scale, offset = (per_channel(v, like, w) for v, w in ((1.0 if scale is None else scale, "scale"),
                                                         (0.0 if offset is None else offset, "offset")))  # fmt: skip
    if (scale == 0).any():
        raise InputError("Expected scale to be other than 0, which would make all pictures alike.")
    return scale, offset


def _from_folder(folder, classifier, scale, offset, classes, order):
    height, width, channels = classifier.shape
    refuse_channels(channels)
    inside, labels = _labelled(folder, classifier, classes)
    if not inside:
        raise LoadError(f"No pictures in {str(folder)!r}: expected a folder of pictures for each class.")

    def read(index):
        try:
            picture = read_picture(inside[index], channels, (height, width))
        except LoadError:
            return None, ("left out, since they are damaged or no pictures",)
        return picture.pixels[..., order] * scale + offset, tuple(_general(note) for note in picture.notices)

    ends = np.minimum(offset, 255 * scale + offset), np.maximum(offset, 255 * scale + offset)
    return Pictures(read, len(inside), labels, ends, offset, np.abs(scale))


def _labelled(folder, classifier, classes):
    """The pictures and their labels; where pictures lie in the folder itself those alone, without labels."""
    if beside := pictures_in(folder):
        return beside, None
    found = {path.name: pictures_in(path, nested=True) for path in sorted(folder.iterdir()) if _is_visible_folder(path)}
    named = {name: pictures for name, pictures in found.items() if pictures}
    if not named:
        return [], None
    # A class without a picture counts in the alphabetical order.
    numbers = _class_order(folder, list(found), classifier, classes)
    inside = [(path, numbers[name]) for name, pictures in named.items() for path in pictures]
    return [path for path, _ in inside], np.array([label for _, label in inside])


def _is_visible_folder(path):
    return path.is_dir() and not path.name.startswith(".")


def _general(note):
    """Without the picture's own size, so that it is counted and not listed."""
    return f"resized to {note.rpartition(' to ')[2]}" if note.startswith("resized") else note


def _class_order(folder, names, classifier, classes):
    """{folder's name: class}."""
    listed = names if classes is None else _lines(Path(classes))
    if len(listed) != classifier.classes or len(set(listed)) != len(listed):
        have = f"{len(names)} class folders" if classes is None else f"{len(set(listed))} different names"
        raise InputError(
            f"Expected {classifier.classes} classes, as the model has. Received: {have} in {str(classes or folder)!r}. "
            "Give a file with the folder's name of each class on a line, in the model's order (--classes)."
        )
    unknown = [name for name in names if name not in listed]
    if unknown:
        raise InputError(
            f"{len(unknown)} folders of {str(folder)!r} are no classes in {str(classes)!r}: {unknown[0]!r}, ..."
        )
    return {name: listed.index(name) for name in names}


def _lines(path):
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"Cannot read the classes in {str(path)!r}: {getattr(error, 'strerror', error)}.") from None


def _from_arrays(images, labels, classifier, scale, offset):
    images, notices = images.astype("float32") if images.dtype.kind == "b" else images, []
    whole = images.dtype.kind in "ui"
    if whole and (images.min() < 0 or images.max() > 255):
        raise InputError(f"Expected whole numbers from 0 to 255. Received: {images.min()} to {images.max()}.")
    labels = None if labels is None else _labels(labels, len(images), classifier)
    resize = _resizer(images, classifier, notices)

    def read(index):
        return resize(images[index]) * scale + offset, ()

    ends = (0, 255) if whole else _ends(images)
    ends = [end * scale + offset for end in ends]
    bounds, black = (np.minimum(*ends), np.maximum(*ends)), ends[0]
    step = np.abs(scale) if whole else (bounds[1] - bounds[0]) / 255
    if not whole:
        notices.append(
            f"black {_said(black)} and 1/255, {_said(step)}, are read off the lowest and highest number "
            "where none is given"
        )
    if not (step > 0).all():
        raise InputError("Expected images with at least two different numbers. Received: a constant.")
    return Pictures(read, len(images), labels, bounds, black, step, tuple(notices))


def _said(values):
    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _fitting(images, classifier):
    images = images[..., None] if images.ndim == 3 else images
    channels = classifier.shape[-1]
    if images.ndim != 4 or images.dtype.kind not in "buif" or not images.size or images.shape[-1] != channels:
        raise InputError(
            f"Expected images of shape (n, height, width, {channels}), n at least 1. Received: {images.dtype} of shape "
            f"{images.shape}."
        )
    if not np.isfinite(images).all():
        raise InputError("The images hold a NaN or an infinity. Remove it first.")
    return images


def _ends(images):
    """Lowest and highest number of each channel, which may be normalised on its own; of all where one is constant."""
    low, high = images.min(axis=(0, 1, 2)), images.max(axis=(0, 1, 2))
    return (low, high) if (low < high).all() else (images.min(), images.max())


def _labels(labels, count, classifier):
    labels = np.asarray(labels)
    labels = labels[:, 0] if labels.shape == (count, 1) else labels
    fits = labels.shape == (count,) and labels.dtype.kind in "iu"
    if not fits or labels.min() < 0 or labels.max() >= classifier.classes:
        raise InputError(
            f"Expected {count} labels, whole numbers from 0 to {classifier.classes - 1}. Received: {labels.dtype} of "
            f"shape {labels.shape}" + (f", {labels.min()} to {labels.max()}." if fits else ".")
        )
    return labels.astype("int64")


def _resizer(images, classifier, notices):
    size = tuple(classifier.shape[:2])
    if images.shape[1:3] == size:
        return lambda image: image.astype("float64")
    low, high = images.min(), images.max()
    notices.append(f"resized from {images.shape[1]} x {images.shape[2]} to {size[0]} x {size[1]} (height x width)")
    how = {"interpolation": "bicubic", "antialias": True, "data_format": "channels_last"}
    # Bicubic interpolation overshoots.
    return lambda image: np.clip(np.asarray(ops.image.resize(image.astype("float32"), size, **how)), low, high)
