"""What the metrics are given, checked once at the public entry."""

import numpy as np

from pane_keras.errors import InputError, NonFiniteError, TargetError


def checked_images(images, classifier):
    """Returns images as an array (n, height, width, channels) of the dtype that the classifier takes.

    Raises:
        InputError: They are no numbers, or have a shape that the model does not take.
        NonFiniteError: A NaN or an infinity.
    """
    array = _real(images, "images")
    fits = array.ndim == 4 and all(want in (None, have) for want, have in zip(classifier.shape, array.shape[1:]))
    if not fits or 0 in array.shape:
        raise InputError(
            f"Expected images of shape (n, {', '.join(map(str, classifier.shape))}), n at least 1. "
            f"Received: {array.shape}."
        )
    return _finite(array.astype(classifier.dtype, copy=False), "images")


def checked_maps(maps, images, word="maps"):
    """Returns maps as an array (n, height, width, channels) that fits the images; one channel where they have none.

    Args:
        maps: Array (n, height, width) or (n, height, width, channels).
        images: Array (n, height, width, channels).
        word: What they are called, for the messages.

    Raises:
        InputError: They are no numbers, or do not fit the images.
        NonFiniteError: A NaN or an infinity.
    """
    array = _real(maps, word)
    array = array[..., None] if array.ndim == 3 else array
    if array.shape not in (images.shape, (*images.shape[:3], 1)):
        raise InputError(
            f"Expected {word} of shape {images.shape} or {images.shape[:3]}, as the images are. Received: "
            f"{np.shape(maps)}."
        )
    return _finite(array, word)


def checked_targets(targets, logits):
    """Returns one class for each sample, (n,): the predicted ones where `targets` is None.

    Args:
        targets: None, an int, or integers (n,).
        logits: Array (n, classes).

    Raises:
        TargetError: Not one int for each sample, or a class that lies outside.
    """
    if targets is None:
        return logits.argmax(axis=-1)
    array, (count, classes) = np.asarray(targets), logits.shape
    if array.dtype.kind not in "iu" or array.shape not in ((), (count,)):
        raise TargetError(
            f"Expected targets to be an int, or one int for each of {count} samples. Received: {array.dtype} of shape "
            f"{array.shape}."
        )
    if array.min() < 0 or array.max() >= classes:
        raise TargetError(f"Expected targets from 0 to {classes - 1}. Received: {array.min()} to {array.max()}.")
    return np.broadcast_to(array, (count,)).astype("int64")


def checked_percents(percents):
    """Returns region sizes in percent as a tuple of floats.

    Raises:
        InputError: There is none, or one lies outside (0, 100].
    """
    array = np.atleast_1d(_real(percents, "percents"))
    if array.ndim != 1 or not array.size or not ((array > 0) & (array <= 100)).all():
        raise InputError(f"Expected percents above 0 and up to 100, at least one. Received: {percents!r}.")
    return tuple(array.tolist())


def per_channel(value, images, word, above=None):
    """Returns a number, or one for each channel, as an array of the dtype of the images that broadcasts to them.

    Args:
        value: In the model's own input units.
        images: Array (n, height, width, channels).
        word: Name of the argument, for the messages.
        above: What it has to be above, or None.

    Raises:
        InputError: It is neither one number nor one for each channel, or it is not above.
        NonFiniteError: A NaN or an infinity.
    """
    array = _finite(_real(value, word), word)
    if array.shape not in ((), (1,), (images.shape[-1],)):
        raise InputError(
            f"Expected {word} to be a number, or one for each of {images.shape[-1]} channels, in the model's own input "
            f"units. Received: shape {array.shape}."
        )
    if above is not None and not (array > above).all():
        raise InputError(f"Expected {word} to be above {above}. Received: {value!r}.")
    return array.astype(images.dtype)


def checked_bounds(bounds, images, step):
    """Returns (lowest, highest) input, each as `per_channel` does.

    Raises:
        InputError: Not two of them, or images that lie outside by more than a hundredth of `step`.
    """
    if not isinstance(bounds, (list, tuple, np.ndarray)) or len(bounds) != 2:
        raise InputError(f"Expected bounds to be (lowest, highest) input. Received: {bounds!r}.")
    low, high = (per_channel(bound, images, "bounds") for bound in bounds)
    # Bounds and images may have been rounded on different ways.
    if (images < low - step / 100).any() or (images > high + step / 100).any():
        raise InputError(
            f"Expected images within the bounds {bounds!r}. Received: {images.min():g} to {images.max():g}. Both are "
            "in the model's own input units."
        )
    return low, high


def chosen_from(value, words, name):
    """Returns one of the words. Raises InputError for any other."""
    if value not in words:
        raise InputError(f"Expected {name} to be one of {', '.join(map(repr, words))}. Received: {value!r}.")
    return value


def _real(value, word):
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # a ragged list
        array = np.asarray(None)
    if array.dtype.kind not in "buif":
        raise InputError(f"Expected {word} to be real numbers. Received: {type(value).__name__} ({array.dtype}).")
    return array


def _finite(array, word):
    if not np.isfinite(array).all():
        raise NonFiniteError(f"The {word} hold a NaN or an infinity. Remove it first.")
    return array
