"""tf-keras-vis as this package calls it: logits in, plain numbers out, nothing normalised."""

import warnings

import numpy as np
from keras import ops

from pane_keras.extras import needed

EXTRA = "evaluation"


def module(name):
    """Returns a module of tf-keras-vis.

    Args:
        name: What stands behind `tf_keras_vis.`.

    Raises:
        MissingExtraError: It is not installed.
    """
    with warnings.catch_warnings():
        # It imports names that SciPy has moved.
        warnings.simplefilter("ignore", DeprecationWarning)
        return needed(f"tf_keras_vis.{name}", "tf-keras-vis", EXTRA)


def score(targets):
    """Returns the score of tf-keras-vis that is each sample's chosen logit."""
    return module("utils.scores").CategoricalScore([int(target) for target in targets])


def zero_score(targets):
    """Returns `score` moved to 0 at the sample, with the same gradient.

    Grad-CAM++ is the same up to a factor exp(score), which leaves float32 at a logit of 88.
    """
    chosen = score(targets)
    return lambda logits: chosen(logits) - ops.stop_gradient(chosen(logits))


def saliency_map(saliency, images, targets, **how):
    """Returns gradients, (n, height, width, channels), of a `Saliency`: with their sign, channels and size."""
    how = {"keepdims": True, "normalize_map": False, "gradient_modifier": None, **how}
    return np.asarray(saliency(score(targets), images, **how))
