"""I-FGSM and the guided attack: by hand, and against a NumPy twin."""

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers
from scipy import special
from test_evaluation_removal import COEFFICIENTS, IMAGE, KERNEL, linear, small_cnn

from pane_keras.errors import InputError
from pane_keras.evaluation import (
    Classifier,
    guided_attack,
    iterative_fgsm,
)

IMAGES = np.zeros((2, 7, 6, 2), "float32")


def test_fgsm_by_hand():
    """The gradient's sign is (1, 0, -1, 1) at every step: 3 steps of 2, no more than 5, within 0 and 8."""
    found = iterative_fgsm(linear(), IMAGE, step=1, bounds=(0, 8), limit=5, stride=2, iterations=3)
    np.testing.assert_array_equal(found.ravel(), [0, 2, 8, 0])
    found = iterative_fgsm(linear(), IMAGE, step=0.5, bounds=(-9, 9), limit=5, stride=2, iterations=1)
    np.testing.assert_array_equal(found.ravel(), [0, 2, 4, 3])
    found = iterative_fgsm(linear(), IMAGE, step=0.5, bounds=(-9, 9), limit=5, stride=2, iterations=9)
    np.testing.assert_array_equal(found.ravel(), [-1.5, 2, 5.5, 1.5])


def test_guided_attack_by_hand():
    """The image becomes (0, 2, 8, 0): z0 = -8. Pixel 3 alone gives -2; pixel 2 alone 1, with pixel 0 it gives 0."""
    model, adversarial = linear(), np.array([0.0, 2, 8, 0]).reshape(1, 2, 2, 1)
    found = guided_attack(model, IMAGE, COEFFICIENTS, adversarial, percents=[25])
    assert (found.fooled.tolist(), found.fooled_whole.tolist()) == ([[True]], [True])
    found = guided_attack(model, IMAGE, -COEFFICIENTS, adversarial, percents=[25, 50, 75, 100])
    assert found.fooled.tolist() == [[False, False, False, True]]
    np.testing.assert_array_equal(found.success_rate, [0, 0, 0, 1])


def fgsm_twin(weights, image, step, bounds, limit, stride, iterations):
    """I-FGSM on a network of one tanh layer, in float64: cross-entropy by the chain rule, one sample."""
    w1, b1, w2, b2 = (np.asarray(w, "float64") for w in weights)
    x = image.astype("float64").ravel()
    logits = np.tanh(x @ w1 + b1) @ w2 + b2
    target, start = logits.argmax(), x
    for _ in range(iterations):
        hidden = np.tanh(x @ w1 + b1)
        error = special.softmax(hidden @ w2 + b2) - np.eye(len(b2))[target]
        slope = w1 @ ((w2 @ error) * (1 - hidden**2))
        x = x + stride * step * np.sign(slope)
        x = np.clip(np.clip(x, start - limit * step, start + limit * step), *bounds)
    return x.reshape(image.shape)


def test_fgsm_against_a_twin():
    x = keras.Input((4, 4, 2))
    y = layers.Dense(6, activation="tanh")(layers.Flatten()(x))
    model, images = filled(x, layers.Dense(3, activation="softmax")(y)), draw(5, 4, 4, 2)
    how = {"step": 0.01, "bounds": (-2.5, 2.5), "limit": 20, "stride": 7, "iterations": 10}
    found = iterative_fgsm(model, images, batch_size=2, **how)
    for image, mine in zip(images, found):
        np.testing.assert_allclose(mine, fgsm_twin(model.get_weights(), image, **how), atol=1e-6)


def test_fgsm_in_units_of_each_channel():
    """Channels in other units: the same picture moves as far in grey levels."""
    model, images = linear(np.repeat(KERNEL, 2, axis=0), (2, 2, 2)), np.repeat(IMAGE, 2, axis=-1)
    found = iterative_fgsm(model, images, step=[1, 0.5], bounds=([0, 1], [8, 4]), limit=5, stride=2, iterations=3)
    np.testing.assert_array_equal(found[..., 0].ravel(), [0, 2, 8, 0])
    np.testing.assert_array_equal(found[..., 1].ravel(), [1, 2, 4, 1.5])


def test_the_attack_stays_within_its_limits():
    model, images = small_cnn(), np.clip(draw(4, 7, 6, 2), -1, 1)
    found = iterative_fgsm(model, images, step=2 / 255, bounds=(-1, 1))
    assert np.abs(found - images).max() <= 50 * 2 / 255 + 1e-6
    assert np.abs(found - images).max() > 49 * 2 / 255
    assert np.abs(found).max() <= 1
    logits = Classifier(model).logits
    top = logits(images).argmax(axis=1)[:, None]
    assert (np.take_along_axis(logits(found), top, 1) < np.take_along_axis(logits(images), top, 1)).all()


def test_the_attack_moves_where_the_model_is_sure():
    """The probability is 1 in float32, and so the gradient of its logarithm is 0."""
    model = linear(100 * KERNEL)
    assert float(model(IMAGE)[0, 0]) == 1
    found = iterative_fgsm(model, IMAGE, step=1, bounds=(0, 8), limit=5, stride=2, iterations=3)
    np.testing.assert_array_equal(found.ravel(), [0, 2, 8, 0])


def test_the_whole_picture_is_the_whole_attack():
    model, images = small_cnn(), np.clip(draw(6, 7, 6, 2), -1, 1)
    adversarial = iterative_fgsm(model, images, step=2 / 255, bounds=(-1, 1))
    found = guided_attack(model, images, images, adversarial, percents=[2, 100], batch_size=4)
    np.testing.assert_array_equal(found.fooled[:, 1], found.fooled_whole)
    assert guided_attack(model, images, images, images).fooled.sum() == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"bounds": 1}, r"bounds to be \(lowest, highest\)"),
        ({"bounds": (0, 1, 2)}, r"bounds to be \(lowest, highest\)"),
        ({"bounds": (1, 2)}, r"images within the bounds \(1, 2\)\. Received: 0 to 0"),
        ({"bounds": (-2, [0, -1])}, "images within the bounds"),
        ({"iterations": 0}, "iterations to be an int of at least 1"),
        ({"limit": 0}, "limit to be above 0"),
        ({"stride": -7}, "stride to be above 0"),
    ],
)
def test_settings_of_the_attack_are_checked(how, message):
    with pytest.raises(InputError, match=message):
        iterative_fgsm(small_cnn(), IMAGES, **{"step": 1, "bounds": (-1, 1), **how})


def test_adversarial_images_are_those_of_the_images():
    with pytest.raises(InputError, match=r"adversarial images of shape \(2, 7, 6, 2\)\. Received: \(1, 7, 6, 2\)"):
        guided_attack(small_cnn(), IMAGES, IMAGES, IMAGES[:1])
