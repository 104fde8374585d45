"""`Classifier`: a model as the metrics ask it, in batches and through compiled functions."""

import keras
import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.errors import InputError, ModelError
from pane_keras.evaluation.heads import read_head
from pane_keras.extras import needed
from pane_keras.pictures import channels_first

special = needed("scipy.special", "SciPy", "evaluation")


class Classifier:
    """Logits, probabilities and gradients of a model, as float64 arrays.

    Every metric makes one of the model that it is given, or takes one instead: then nothing is read and compiled again
    from metric to metric. It follows the model's weights as they change.

    Args:
        model: A built Keras model or a `PaneModel` of pictures, (batch, height, width, channels) -> (batch, classes).
        batch_size: Images that are computed at once.

    Attributes:
        head: The `Head` of the model.
        classes: Number of classes, at least 2.
        batch_size: As given.

    Raises:
        ModelError: The model is no classifier of pictures with at least two classes, or its head cannot be read.
        InputError: The batch size is no positive int.
    """

    def __init__(self, model, batch_size=32):
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise InputError(f"Expected batch_size to be an int of at least 1. Received: {batch_size!r}.")
        self.head, self.batch_size = read_head(model), int(batch_size)
        self.classes = self.head.logits.output.shape[-1]
        _check(self.head.logits)
        self._run = backend.any_batch(lambda x: self.head.logits(x, training=False))
        self._slope = backend.gradients_of(self._log_odds)

    @property
    def shape(self):
        """Shape of an image, (height, width, channels), None where any size fits."""
        return tuple(self.head.logits.input.shape[1:])

    @property
    def dtype(self):
        """Of the images that the model is given: float64 where it takes float64, else float32."""
        return "float64" if self.head.logits.input.dtype == "float64" else "float32"

    def logits(self, images):
        """Returns the logits of images (n, height, width, channels), (n, classes).

        Raises:
            ModelError: They are probabilities, or logarithms of them: the model has a head of its own kind.
        """
        logits = self._each(self._run, images).astype("float64")
        if _normalised(logits):
            raise ModelError(
                f"Expected logits. Received: numbers of model {self.head.logits.name!r} that are probabilities, or "
                "their logarithms. End it with a softmax or a sigmoid of Keras, which is taken off, or with the logits "
                "themselves."
            )
        return logits

    def log_probabilities(self, images):
        """Returns the logarithms of the probabilities, (n, classes), which do not underflow."""
        logits = self.logits(images)
        if self.head.activation == "sigmoid":
            return special.log_expit(logits)
        return special.log_softmax(logits, axis=-1)

    def predicted(self, images):
        """Returns the class with the highest logit of each image, the first one on ties, (n,)."""
        return self.logits(images).argmax(axis=-1)

    def log_odds_gradients(self, images, targets):
        """Returns the gradient of log p / (1 - p) of a class with respect to the images, in their shape.

        p is the softmax probability. It is the gradient of log p but for a positive factor, 1 - p, which is 0 in
        float32 where the model is sure of the class.

        Args:
            images: Array (n, height, width, channels).
            targets: Class of each image, (n,).
        """
        return self._each(self._slope, images, np.asarray(targets, "int32")).astype("float64")

    def _log_odds(self, images, targets):
        logits = self.head.logits(images, training=False)
        logits = ops.cast(logits, keras.backend.result_type(logits.dtype, "float32"))
        chosen = ops.one_hot(targets, self.classes, dtype=logits.dtype)
        lowest = ops.cast(-1e30, logits.dtype)
        others = ops.logsumexp(ops.where(chosen > 0, lowest, logits), axis=-1)
        return ops.sum(chosen * logits, axis=-1) - others

    def _each(self, function, *arrays):
        images, *others = arrays
        parts = [slice(start, start + self.batch_size) for start in range(0, len(images), self.batch_size)]
        return np.concatenate(
            [np.asarray(function(np.asarray(images[p], self.dtype), *(other[p] for other in others))) for p in parts]
        )


def classifier_of(model, batch_size=32):
    """Returns the model itself if it is a `Classifier`, else a `Classifier` of it."""
    return model if isinstance(model, Classifier) else Classifier(model, batch_size)


def _normalised(logits, margin=1e-5):
    """Whether the numbers, or what they are logarithms of, add up to 1 in every row: nobody trains logits to that.

    A row with a 1 says nothing: logits (0, -20) could be logarithms of probabilities as well.
    """
    if (logits > 0).any() and (logits < 0).any():
        return False
    values = logits if (logits >= 0).all() else np.exp(logits)
    telling = values[values.max(axis=1) < 0.99]
    return len(telling) > 0 and bool((np.abs(telling.sum(axis=1) - 1) < margin).all())


def _check(logits):
    shape, classes = tuple(logits.input.shape), logits.output.shape[-1]
    if len(shape) != 4:
        raise ModelError(
            f"Expected a model of pictures, (batch, height, width, channels). Received: {logits.name!r} with the input "
            f"{shape}. Put keras.Input((height, width, channels)) and a Reshape in front."
        )
    if channels_first(shape[1:]):
        raise ModelError(
            f"Expected a model of pictures with the channels last. Received: {logits.name!r} with the input {shape}. "
            "Put keras.Input((height, width, channels)) and keras.layers.Permute((3, 1, 2)) in front."
        )
    if classes is None or classes < 2:
        raise ModelError(
            f"Expected at least two classes. Received: {logits.name!r} with {classes}. One logit z is two classes with "
            "the logits 0 and z: give the last layer a second unit, with weights and bias 0, and a softmax."
        )
