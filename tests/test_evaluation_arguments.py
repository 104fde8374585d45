"""What the metrics that change images have in common: models, images, maps and settings, right and wrong."""

import keras
import numpy as np
import pytest
from agreement import draw
from keras import layers
from test_evaluation_removal import COEFFICIENTS, IMAGE, KERNEL, small_cnn

import pane_keras
from pane_keras.errors import InputError, NonFiniteError, TargetError
from pane_keras.evaluation import (
    Classifier,
    change_logits,
    guided_attack,
    iterative_fgsm,
    remove_salient,
)


def test_a_classifier_a_pane_model_and_a_model_are_the_same():
    model, images, maps = small_cnn(), draw(3, 7, 6, 2), draw(3, 7, 6, 2, seed=1)
    expected = remove_salient(model, images, maps, black=0).log_after
    for same in (pane_keras.wrap(model), Classifier(model)):
        np.testing.assert_array_equal(remove_salient(same, images, maps, black=0).log_after, expected)


def test_maps_without_channels_and_one_sample():
    model, images = small_cnn(), draw(1, 7, 6, 2)
    maps = draw(1, 7, 6, seed=1)
    expected = change_logits(model, images, np.repeat(maps[..., None] / 2, 2, axis=-1), step=0.1).change
    np.testing.assert_array_equal(change_logits(model, images, maps, step=0.1).change, expected)
    assert expected.shape == (1, 10)


def test_images_and_maps_are_left_as_they_were():
    model, images, maps = small_cnn(), draw(2, 7, 6, 2), draw(2, 7, 6, 2, seed=1)
    before = images.copy(), maps.copy()
    remove_salient(model, images, maps, black=3)
    change_logits(model, images, maps, step=1)
    guided_attack(model, images, maps, iterative_fgsm(model, images, step=0.1, bounds=(-9, 9)))
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(maps, before[1])


def test_integer_images_and_float64_models():
    x = keras.Input((2, 2, 1), dtype="float64")
    y = layers.Flatten(dtype="float64")(x)
    model = keras.Model(x, layers.Dense(2, activation="softmax", dtype="float64")(y))
    model.set_weights([KERNEL, np.zeros(2)])
    found = change_logits(model, IMAGE.astype("uint8"), COEFFICIENTS, step=1e-12, percents=[25])
    np.testing.assert_allclose(found.change, [[-2e-12]], rtol=1e-3)


def test_progress_is_shown_on_demand(capsys):
    model, images = small_cnn(), draw(2, 7, 6, 2)
    remove_salient(model, images, images, black=0)
    assert capsys.readouterr().err == ""
    remove_salient(model, images, images, black=0, progress=True)
    assert "1/1" in capsys.readouterr().err


IMAGES = np.zeros((2, 7, 6, 2), "float32")


@pytest.mark.parametrize(
    ("images", "maps", "how", "error", "message"),
    [
        (IMAGES[0], IMAGES, {}, InputError, r"images of shape \(n, 7, 6, 2\).*Received: \(7, 6, 2\)"),
        (IMAGES[:0], IMAGES, {}, InputError, r"n at least 1\. Received: \(0, 7, 6, 2\)"),
        (IMAGES[:, :5], IMAGES, {}, InputError, r"images of shape .*Received: \(2, 5, 6, 2\)"),
        ("pictures", IMAGES, {}, InputError, r"images to be real numbers\. Received: str"),
        ([[1], [1, 2]], IMAGES, {}, InputError, r"images to be real numbers\. Received: list"),
        (IMAGES + np.nan, IMAGES, {}, NonFiniteError, "images hold a NaN or an infinity"),
        (IMAGES, IMAGES[:1], {}, InputError, r"maps of shape \(2, 7, 6, 2\) or \(2, 7, 6\).*\(1, 7, 6, 2\)"),
        (IMAGES, IMAGES[:, :, :5], {}, InputError, "maps of shape"),
        (IMAGES, np.zeros((2, 7, 6, 3)), {}, InputError, r"Received: \(2, 7, 6, 3\)"),
        (IMAGES, IMAGES + np.inf, {}, NonFiniteError, "maps hold a NaN or an infinity"),
        (IMAGES, IMAGES * 1j, {}, InputError, r"maps to be real numbers.*complex64"),
        (IMAGES, IMAGES, {"targets": 3}, TargetError, "targets from 0 to 2. Received: 3 to 3"),
        (IMAGES, IMAGES, {"targets": [0, -1]}, TargetError, "targets from 0 to 2. Received: -1 to 0"),
        (IMAGES, IMAGES, {"targets": [0, 1, 2]}, TargetError, r"one int for each of 2 samples\. Received: .*\(3,\)"),
        (IMAGES, IMAGES, {"targets": [0.0, 1.0]}, TargetError, "one int for each of 2 samples. Received: float64"),
        (
            IMAGES,
            IMAGES,
            {"percents": []},
            InputError,
            r"above 0 and up to 100, at least one\. Received: \[\]",
        ),
        (IMAGES, IMAGES, {"percents": [0, 1]}, InputError, "percents above 0"),
        (IMAGES, IMAGES, {"percents": 101}, InputError, "percents above 0 and up to 100"),
        (IMAGES, IMAGES, {"percents": [np.nan]}, InputError, "percents above 0 and up to 100"),
        (IMAGES, IMAGES, {"black": [0, 0, 0]}, InputError, r"black to be a number, or one for each of 2 channels"),
        (IMAGES, IMAGES, {"black": np.inf}, NonFiniteError, "black hold a NaN or an infinity"),
    ],
)
def test_what_does_not_fit_is_said(images, maps, how, error, message):
    with pytest.raises(error, match=message):
        remove_salient(small_cnn(), images, maps, **{"black": 0, **how})


@pytest.mark.parametrize("step", [0, -1, [1, 0]])
def test_a_step_is_above_0(step):
    with pytest.raises(InputError, match="step to be above 0"):
        change_logits(small_cnn(), IMAGES, IMAGES, step=step)


def test_logits_change_at_two_ends():
    with pytest.raises(InputError, match=r"where to be one of 'top', 'bottom'\. Received: 'nearest_zero'"):
        change_logits(small_cnn(), IMAGES, IMAGES, "nearest_zero", step=1)
