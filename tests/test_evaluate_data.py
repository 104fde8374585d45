"""Pictures to evaluate on: what is read, in which order, in which units, and what is said where something is wrong."""

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from pane_keras.errors import InputError, LoadError
from pane_keras.evaluation.classifier import Classifier
from pane_keras.evaluation.data import load_pictures, selected


def brightness(classes=2, shape=(4, 4, 3)):
    """A classifier whose logit 1 is the mean input minus 100 and whose other logits are 0: class 1 is bright."""
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(classes)])
    kernel = np.zeros((np.prod(shape), classes), "float32")
    kernel[:, 1] = 1 / len(kernel)
    model.layers[-1].set_weights([kernel, np.eye(classes)[1] * -100])
    return Classifier(model, 3)


def save(path, value, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, "uint8")).save(path)


@pytest.fixture
def folder(tmp_path):
    """Dark and bright pictures in folders whose alphabetical order is the wrong one."""
    for k, value in enumerate((10, 20, 30)):
        save(tmp_path / "data" / "night" / f"{k}.png", value)
    for k, value in enumerate((200, 210)):
        save(tmp_path / "data" / "day" / f"{k}.png", value)
    (tmp_path / "order.txt").write_text("night\nday\n")
    return tmp_path


def means(images):
    return sorted(images.mean(axis=(1, 2, 3)).tolist())


def test_class_folders_in_the_order_of_a_file(folder):
    sample = selected(load_pictures(folder / "data", brightness(), classes=folder / "order.txt"), brightness())
    assert means(sample.images) == [10, 20, 30, 200, 210]
    np.testing.assert_array_equal(sample.targets, sample.images.mean(axis=(1, 2, 3)) > 100)
    assert (sample.looked_at, sample.correct, sample.notices) == (5, 5, ())


def test_alphabetical_order_is_wrong_here_and_only_correct_ones_are_taken(folder):
    save(folder / "data" / "day" / "late.png", 50)
    classifier = brightness()
    pictures = load_pictures(folder / "data", classifier)
    sample = selected(pictures, classifier)
    assert means(sample.images) == [50]
    assert (sample.looked_at, sample.correct) == (6, 1)
    everything = selected(pictures, classifier, only_correct=False)
    np.testing.assert_array_equal(everything.targets, [0 if m in (50, 200, 210) else 1 for m in _flat(everything)])


def _flat(sample):
    return sample.images.mean(axis=(1, 2, 3)).round().tolist()


def test_a_folder_without_classes_has_no_labels(folder):
    sample = selected(load_pictures(folder / "data" / "day", brightness()), brightness())
    assert sample.correct is None
    np.testing.assert_array_equal(sample.targets, [1, 1])


def test_scale_and_offset_a_channel(folder):
    pictures = load_pictures(folder / "data" / "night", brightness(), scale=[1, -2, 0.5], offset=[0, 1, 2])
    image, _ = pictures.read(0)
    np.testing.assert_allclose(image[0, 0], [10, -19, 7])
    np.testing.assert_allclose(pictures.black, [0, 1, 2])
    np.testing.assert_allclose(pictures.step, [1, 2, 0.5])
    np.testing.assert_allclose(pictures.bounds, [[0, -509, 2], [255, 1, 129.5]])


def test_resized_and_damaged_pictures_are_counted(folder):
    save(folder / "data" / "night" / "large.png", 40, (9, 8))
    (folder / "data" / "night" / "broken.jpg").write_bytes(b"no picture")
    (folder / "data" / "night" / "readme.txt").write_text("no picture either")
    (folder / "data" / "night" / "._0.png").write_bytes(b"what macOS leaves beside a picture")
    sample = selected(load_pictures(folder / "data" / "night", brightness()), brightness())
    assert len(sample.images) == 4
    assert sorted(sample.notices) == [
        "1 pictures: left out, since they are damaged or no pictures",
        "1 pictures: resized to 4 x 4",
    ]


def test_samples_are_drawn_by_the_seed(folder):
    classifier = brightness()
    pictures = load_pictures(folder / "data", classifier, classes=folder / "order.txt")
    drawn = [_flat(selected(pictures, classifier, 2, seed=seed)) for seed in range(8)]
    assert all(len(one) == 2 for one in drawn)
    assert len(set(map(tuple, drawn))) > 1
    assert drawn[3] == _flat(selected(pictures, classifier, 2, seed=3))


def test_looking_stops_when_there_are_enough():
    images = np.full((200, 4, 4, 3), 200, "uint8")
    sample = selected(load_pictures(images, brightness()), brightness(), 2)
    assert (len(sample.images), sample.looked_at) == (2, 2)


def test_npz_of_whole_numbers(tmp_path):
    images = np.array([0, 50, 200, 255], "uint8")[:, None, None, None] * np.ones((4, 4, 4, 3), "uint8")
    np.savez(tmp_path / "data.npz", images=images, labels=[[0], [0], [1], [1]])
    pictures = load_pictures(tmp_path / "data.npz", brightness())
    sample = selected(pictures, brightness())
    assert means(sample.images) == [0, 50, 200, 255]
    assert (pictures.step, pictures.black, pictures.bounds, sample.correct) == (1, 0, (0, 255), 4)


def test_real_numbers_give_their_own_black_and_step():
    """Each channel's own, as they may be normalised one by one; one number for all where a channel is constant."""
    rng = np.random.default_rng(0)
    images = rng.random((2, 4, 4, 3)) * [1, 2, 3] + [-1, 0, 4]
    pictures = load_pictures((images, None), brightness())
    low, high = images.min(axis=(0, 1, 2)), images.max(axis=(0, 1, 2))
    for found, expected in zip((pictures.black, pictures.step, *pictures.bounds), (low, (high - low) / 255, low, high)):
        np.testing.assert_allclose(found, expected)
    assert "are read off the lowest and highest number" in pictures.notices[0]
    images[..., 1] = 0.5
    pictures = load_pictures((images, None), brightness())
    np.testing.assert_allclose((pictures.black, *pictures.bounds), (images.min(), images.min(), images.max()))


def test_masks_are_pictures_of_0_and_1():
    images = np.zeros((2, 4, 4, 3), bool)
    images[0] = True
    pictures = load_pictures((images, None), brightness())
    for found, expected in zip((pictures.black, pictures.step, *pictures.bounds), (0, 1 / 255, 0, 1)):
        np.testing.assert_allclose(found, [expected] * 3)


@pytest.mark.parametrize("kind", ["folder", "array"])
def test_blue_first(folder, kind):
    """Scale and offset are meant for the model's own order."""
    source = np.zeros((1, 4, 4, 3), "uint8") + np.array([1, 2, 3], "uint8")
    if kind == "folder":
        (folder / "one").mkdir()
        Image.fromarray(source[0]).save(folder / "one" / "a.png")
        source = folder / "one"
    pictures = load_pictures(source, brightness(), scale=[1, 1, 2], offset=[10, 0, 0], blue_first=True)
    image, _ = pictures.read(0)
    np.testing.assert_array_equal(image[0, 0], [13, 2, 2])
    np.testing.assert_array_equal(pictures.black, [10, 0, 0])


def test_folders_beside_pictures_are_no_classes(folder):
    """Such as the folder of the results, which has pictures in it."""
    save(folder / "flat" / "a.png", 200)
    save(folder / "flat" / "pane_evaluation" / "figure.png", 10)
    pictures = load_pictures(folder / "flat", brightness())
    assert (pictures.count, pictures.labels) == (1, None)


def test_an_empty_class_keeps_its_number(folder):
    """The folders 0_day, 1_night and 2_dusk, of which the first has no pictures."""
    (folder / "some" / "0_day").mkdir(parents=True)
    save(folder / "some" / "1_night" / "a.png", 10)
    save(folder / "some" / "2_dusk" / "a.png", 90)
    assert load_pictures(folder / "some", brightness(3)).labels.tolist() == [1, 2]


def test_a_model_of_two_channels_takes_no_pictures(folder):
    with pytest.raises(LoadError, match=r"Pictures have 1, 3 or 4 channels\. The model expects 2"):
        load_pictures(folder / "data", brightness(shape=(4, 4, 2)))


def test_arrays_are_resized_within_their_range():
    images = np.zeros((1, 16, 16, 3), "uint8")
    images[:, 4:9] = 255
    pictures = load_pictures(images, brightness())
    image, _ = pictures.read(0)
    assert image.shape == (4, 4, 3)
    assert 0 <= image.min() < image.max() <= 255
    assert "resized from 16 x 16 to 4 x 4" in pictures.notices[0]


def test_grey_pictures_without_an_axis_of_channels():
    classifier = brightness(shape=(4, 4, 1))
    assert selected(load_pictures(np.zeros((2, 4, 4), "uint8"), classifier), classifier).images.shape == (2, 4, 4, 1)


WHOLE = np.zeros((2, 4, 4, 3), "uint8")


@pytest.mark.parametrize(
    ("source", "how", "error", "message"),
    [
        (
            "missing",
            {},
            LoadError,
            "one of cifar10, cifar100, fashion_mnist, mnist. Received: 'missing', no such folder",
        ),
        ("order.txt", {}, LoadError, "another kind of file"),
        ("broken.npz", {}, LoadError, "is no .npz file of plain arrays"),
        ("other.npz", {}, LoadError, "Expected the array 'images' .* Received: \\['x'\\]"),
        ("empty", {}, LoadError, "No pictures in"),
        ("data", {"classes": "three.txt"}, InputError, "Expected 2 classes, as the model has. Received: 3 different"),
        ("data", {"classes": "unknown.txt"}, InputError, "1 folders of .* are no classes in .*: 'day'"),
        ("data", {"classes": "nothing.txt"}, LoadError, "Cannot read the classes in"),
        ("data", {"scale": 0}, InputError, "scale to be other than 0"),
        ("data", {"offset": [1, 2]}, InputError, "Expected offset to be a number, or one for each of 3 channels"),
        (WHOLE, {"classes": "order.txt"}, InputError, "the data are arrays"),
        (WHOLE[..., :2], {}, InputError, "Expected images of shape \\(n, height, width, 3\\)"),
        (WHOLE.astype("int32") + 256, {}, InputError, "Expected whole numbers from 0 to 255. Received: 256"),
        (WHOLE * np.nan, {}, InputError, "hold a NaN"),
        (WHOLE * 1.0, {}, InputError, "at least two different numbers"),
        ((WHOLE, [0, 2]), {}, InputError, "Expected 2 labels, whole numbers from 0 to 1. Received: .* 0 to 2"),
        ((WHOLE, [0, 1, 1]), {}, InputError, "Expected 2 labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(folder, monkeypatch, source, how, error, message):
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "broken.npz").write_bytes(b"no zip")
    (folder / "three.txt").write_text("night\nday\ndawn\n")
    (folder / "unknown.txt").write_text("night\ndawn\n")
    np.savez(folder / "other.npz", x=WHOLE)
    with pytest.raises(error, match=message):
        load_pictures(source, brightness(), **how)


def test_a_folder_for_each_class_is_needed(folder):
    with pytest.raises(InputError, match=r"Expected 3 classes, as the model has\. Received: 2 class folders"):
        load_pictures(folder / "data", brightness(classes=3))


def test_a_model_of_any_size_is_refused():
    any_size = keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    with pytest.raises(InputError, match="pictures of a fixed size"):
        load_pictures(WHOLE, Classifier(any_size))


def test_no_picture_left_is_an_error(tmp_path):
    classifier = brightness()
    with pytest.raises(InputError, match="classifies none of 2 pictures as its label says"):
        selected(load_pictures((WHOLE, [1, 1]), classifier), classifier)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(LoadError, match="None of the 1 pictures can be read"):
        selected(load_pictures(tmp_path, classifier), classifier)
    with pytest.raises(InputError, match="samples to be an int of at least 1"):
        selected(load_pictures(WHOLE, classifier), classifier, 0)
