"""Maps from gradients of the logit with respect to the picture: plain, integrated, SmoothGrad."""

import zlib
from contextlib import contextmanager

import numpy as np

from pane_keras import backend
from pane_keras.errors import InputError
from pane_keras.evaluation.heads import logits_of
from pane_keras.evaluation.methods import peer
from pane_keras.evaluation.methods.flat import flat


class Gradients:
    """The plain gradient, d logit / d image (Simonyan, Vedaldi, Zisserman 2014)."""

    def __init__(self, model, names, settings):
        self._gradients = backend.input_gradients(inference(logits_of(model)))

    def __call__(self, images, targets):
        """Returns {"gradient": maps}, (n, height, width, channels)."""
        return {"gradient": np.asarray(self._gradients(images, targets))}


class IntegratedGradients:
    """Integrated gradients (Sundararajan, Taly, Yan 2017), by the midpoint rule.

    The map is (image - baseline) times the mean gradient on the straight path between them, so it sums to the logit at
    the image minus the logit at the baseline, up to the error of the rule, of order 1 / steps^2 on smooth stretches.

    Raises:
        InputError: No steps, or a baseline that fits no image.
    """

    def __init__(self, model, names, settings):
        logits = logits_of(model)
        self._gradients = backend.input_gradients(inference(logits))
        self._baseline, self._steps = _baseline(settings.baseline, logits.input.shape[1:]), settings.steps
        if not isinstance(self._steps, int) or self._steps < 1:
            raise InputError(f"Integrated gradients expect at least one step. Received: steps={self._steps!r}.")

    def __call__(self, images, targets):
        """Returns {"integrated-gradients": maps}, (n, height, width, channels)."""
        way = images - self._baseline.astype(images.dtype)
        total = np.zeros(images.shape, "float64")
        for k in range(self._steps):
            share = np.asarray((k + 0.5) / self._steps, images.dtype)
            total += np.asarray(self._gradients(images - (1 - share) * way, targets))
        return {"integrated-gradients": (way * total / self._steps).astype(images.dtype)}


class SmoothGrad:
    """SmoothGrad (Smilkov and others 2017), by tf-keras-vis: the mean gradient over noisy copies, with its sign.

    The noise is drawn from the seed and the batch: the same images in the same batches give the same maps.

    Raises:
        InputError: No copies, or no noise: it would be the plain gradient.
        MissingExtraError: tf-keras-vis is not installed.
    """

    def __init__(self, model, names, settings):
        if not (isinstance(settings.samples, int) and settings.samples > 0 and 0 < settings.noise < np.inf):
            raise InputError(
                "SmoothGrad expects at least one noisy copy and noise above 0, or it is the plain gradient. Received: "
                f"samples={settings.samples!r}, noise={settings.noise!r}."
            )
        self._saliency, self._settings = peer.module("saliency").Saliency(flat(model).model()[0]), settings

    def __call__(self, images, targets):
        """Returns {"smooth-grad": maps}, (n, height, width, channels)."""
        how = {"smooth_samples": self._settings.samples, "smooth_noise": self._settings.noise}
        with _numpy_seed([self._settings.seed, zlib.crc32(np.ascontiguousarray(images))]):
            return {"smooth-grad": peer.saliency_map(self._saliency, images, targets, **how)}


def inference(model):
    """Returns the function images -> outputs of a model, not training."""
    return lambda images: model(images, training=False)


@contextmanager
def _numpy_seed(seed):
    """tf-keras-vis draws from NumPy's global generator, which is the user's: it is put back afterwards."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _baseline(value, shape):
    try:
        baseline = np.broadcast_to(np.asarray(value, "float64"), tuple(shape))
    except (TypeError, ValueError):
        baseline = np.asarray(np.nan)
    if not np.isfinite(baseline).all():
        raise InputError(
            f"The baseline of integrated gradients is a finite number, one number a channel, or an image of shape "
            f"{tuple(shape)}. Received: {np.shape(value) or value!r}."
        )
    return baseline
