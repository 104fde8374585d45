"""The compared methods as a set: names, errors, products, batches, and no trace on the model."""

import sys

import keras
import numpy as np
import pytest
from agreement import draw, filled
from bystanders import draws, names, state_of
from keras import layers, ops

import pane_keras
from pane_keras.errors import InputError, ModelError, NonFiniteError, TargetError
from pane_keras.evaluation.methods import Explainers, Settings, UnknownMethodError, chosen, methods
from pane_keras.extras import MissingExtraError

FAST = ("pos", "pos-split", "pos+neg-float32", "gradient", "integrated-gradients", "full-grad", "random")
FEW = Settings(steps=2, samples=2)
PRODUCTS = {
    "guided-pane": "pos",
    "guided-grad-cam": "grad-cam",
    "guided-full-grad": "full-grad",
}


def network(shape=(7, 6, 2), head="softmax"):
    """Two convolutions with fused ReLUs; not square."""
    x = keras.Input(shape, name="picture")
    h = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv1")(x)
    h = layers.MaxPooling2D(padding="same", name="pool1")(h)
    h = layers.Conv2D(4, 2, activation="relu", name="conv2", padding="same")(h)
    return filled(x, layers.Dense(3, activation=head, name="scores")(layers.Flatten(name="flatten")(h)))


IMAGES = draw(5, 7, 6, 2)


@pytest.fixture(scope="module")
def explained():
    """All methods on five images in batches of two, the last batch filled up."""
    keras.utils.set_random_seed(7)
    model = network()
    return model, Explainers(model, chosen(None, FEW)).explain(IMAGES, None, 2)


def test_every_method_gives_a_finite_map_that_is_not_flat(explained):
    _, maps = explained
    assert list(maps) == list(methods())
    for name, values in maps.items():
        assert values.shape in (IMAGES.shape, IMAGES.shape[:3]), name
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name
    flat = [name for name, values in maps.items() if np.ptp(values.reshape(5, -1), axis=1).max() == 0]
    assert flat == []


def test_class_activation_and_full_grad_have_no_channels(explained):
    _, maps = explained
    without = {name for name, values in maps.items() if values.ndim == 3}
    assert without == {"grad-cam", "grad-cam++", "score-cam", "full-grad"}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(explained, name):
    """Each is the first factor times guided backpropagation (Fig. 1), pixel by pixel and channel by channel."""
    _, maps = explained
    first, guided = maps[PRODUCTS[name]], maps["guided-backpropagation"]
    for k in np.ndindex(*IMAGES.shape):
        weight = first[k] if first.ndim == 4 else first[k[:3]]
        assert maps[name][k] == pytest.approx(weight * guided[k], rel=1e-6), k


def test_one_method_alone_is_the_same_as_among_all(explained):
    model, maps = explained
    known = methods(FEW)
    for name in (*FAST, *PRODUCTS, "grad-cam"):
        alone = known[name].explain(model, IMAGES, None, 2)
        np.testing.assert_array_equal(alone, maps[name], err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 5, 8])
def test_batches_do_not_matter(explained, batch_size):
    """But for SmoothGrad, whose noise is drawn for a batch."""
    model, maps = explained
    wanted = [method for method in chosen(None, FEW) if method.name != "smooth-grad"]
    for name, values in Explainers(model, wanted).explain(IMAGES, None, batch_size).items():
        size = np.abs(maps[name]).max()
        # The literal chain has the rounding of numbers as large as POS.
        size = np.abs(maps["pos"]).max() if name == "pos+neg-float32" else size
        np.testing.assert_allclose(values, maps[name], rtol=0, atol=2e-5 * size, err_msg=name)


def test_targets(explained):
    """None is each image's top class; one class is that of all images; -1 is the last."""
    model, maps = explained
    wanted = [methods(FEW)[name] for name in ("pos", "gradient", "grad-cam", "full-grad")]
    explainers = Explainers(model, wanted)
    top = np.argmax(np.asarray(model(IMAGES)), axis=-1)
    for name, values in explainers.explain(IMAGES, top, 2).items():
        np.testing.assert_array_equal(values, maps[name])
    one, each, last = (explainers.explain(IMAGES, t, 5) for t in (2, [2] * 5, -1))
    for name in one:
        np.testing.assert_array_equal(one[name], each[name])
        np.testing.assert_array_equal(one[name], last[name])
        assert not np.array_equal(one[name], maps[name])


def test_a_pane_model_is_explained_as_its_model(explained):
    model, maps = explained
    got = Explainers(pane_keras.wrap(model), chosen("gradient,pos")).explain(IMAGES, None, 2)
    np.testing.assert_array_equal(got["gradient"], maps["gradient"])
    np.testing.assert_array_equal(got["pos"], maps["pos"])


@pytest.mark.parametrize("head", [None, "sigmoid"])
def test_other_heads_have_the_same_maps(explained, head):
    """Maps explain the logits, whatever makes probabilities of them (V.C.5)."""
    model, _ = explained
    other = network(head=head)
    other.set_weights(model.get_weights())
    wanted = [method for method in chosen(None, FEW) if method.name != "smooth-grad"]
    expected = Explainers(model, wanted).explain(IMAGES[:2], 1, 2)
    for name, values in Explainers(other, wanted).explain(IMAGES[:2], 1, 2).items():
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-6 * np.abs(expected[name]).max())


def test_nested_models_and_operations():
    """A backbone inside, arithmetic of keras.ops, a ReLU that is an operation, a layer called twice."""
    inner = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(2, 3, padding="same", name="deep")], name="inner")
    x = keras.Input((6, 6, 2))
    h = ops.relu(inner(ops.relu(inner(x) * 2.0) + 1.0))
    model = filled(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(h)))
    images = draw(2, 6, 6, 2)
    maps = Explainers(model, chosen(None, FEW)).explain(images, None, 2)
    assert all(np.isfinite(values).all() for values in maps.values())
    # A network of ReLUs: the sum is the gradient wherever the input is not zero (section 4).
    maps["gradient"][images == 0] = 0
    np.testing.assert_allclose(maps["pos+neg"], maps["gradient"], atol=1e-6 * np.abs(maps["gradient"]).max())


def test_one_image_of_one_row():
    model = filled(
        x := keras.Input((1, 5, 1)), layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 1, activation="relu")(x)))
    )
    maps = Explainers(model, chosen(None, FEW)).explain(draw(1, 1, 5, 1), 0, 4)
    assert {values.shape[:3] for values in maps.values()} == {(1, 1, 5)}
    assert all(np.isfinite(values).all() for values in maps.values())


def test_float64():
    """Maps of a float64 model are float64 wherever the method is ours."""
    x = keras.Input((4, 4, 1), dtype="float64")
    h = layers.Conv2D(2, 3, activation="relu", dtype="float64")(x)
    model = filled(x, layers.Dense(2, dtype="float64")(layers.Flatten(dtype="float64")(h)))
    maps = Explainers(model, chosen("pos,pos+neg,gradient,integrated-gradients,full-grad,grad-cam")).explain(
        images := draw(2, 4, 4, 1).astype("float64"), 1, 2
    )
    assert {name: str(values.dtype) for name, values in maps.items()} == dict.fromkeys(maps, "float64")
    np.testing.assert_allclose(maps["pos+neg"], np.where(images == 0, 0, maps["gradient"]), rtol=1e-12)


def test_the_model_and_the_world_are_left_alone():
    model, wanted = network(), chosen(None, FEW)
    model(IMAGES)
    before = state_of(model)
    keras.utils.set_random_seed(3)
    keras.backend.clear_session()
    expected = draws(), names()
    keras.utils.set_random_seed(3)
    keras.backend.clear_session()
    Explainers(model, wanted).explain(IMAGES, None, 2)
    assert (draws(), names()) == expected
    after = state_of(model)
    for word in before:
        assert after[word] == before[word], word


# Names


def test_names_titles_and_repetitions():
    assert [method.name for method in chosen(" POS , grad-cam,pos,Guided BP")] == [
        "pos", "grad-cam", "guided-backpropagation"]  # fmt: skip
    assert [method.name for method in chosen()] == list(methods())
    assert len({method.title for method in methods().values()}) == len(methods())
    assert all(method.about for method in methods().values())


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["grad-can"], r"No method is called 'grad-can'\. Did you mean 'grad-cam'.*The methods: pos, neg, "),
        (["zzz"], r"No method is called 'zzz'\. The methods: pos, "),
        ([None], r"No method is called None\."),
        ("pos,", r"No method is called ''"),
        ([], r"Expected at least one method\. Received: none"),
    ],
)
def test_unknown_names(names, match):
    with pytest.raises(UnknownMethodError, match=match):
        chosen(names)


def test_a_missing_extra(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("tf_keras_vis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tf_keras_vis", None)
    assert len(chosen("pos,gradient,full-grad,integrated-gradients,random")) == 5
    for name in ("grad-cam", "smooth-grad", "guided-pane"):
        with pytest.raises(MissingExtraError, match=r'tf-keras-vis.*pip install "pane-keras\[evaluation\]"'):
            chosen(["pos", name])


# Bad input


@pytest.mark.parametrize(
    ("images", "targets", "error", "match"),
    [
        (
            IMAGES[0],
            None,
            InputError,
            r"Expected images \(n, height, width, channels\).*an array of \(7, 6, 2\)",
        ),
        (IMAGES[:0], None, InputError, r"at least one\. Received: an array of \(0, 7, 6, 2\)"),
        (IMAGES[:, :5], 0, InputError, r"\(5, 5, 6, 2\)"),
        (np.where(IMAGES > 2, np.nan, IMAGES), 0, NonFiniteError, "NaN"),
        (IMAGES, 3, TargetError, "Class 3 lies outside 'logits', which has 3 classes"),
        (IMAGES, [0, 1], TargetError, "Expected one class for each of the 5 samples"),
        (IMAGES, 0.5, TargetError, "A class is an int"),
    ],
)
def test_bad_images_and_targets(images, targets, error, match):
    with pytest.raises(error, match=match):
        methods()["gradient"].explain(network(), images, targets)


def test_a_classifier_of_vectors():
    x = keras.Input((4,))
    model = filled(x, layers.Dense(2)(x))
    with pytest.raises(ModelError, match=r"Expected a classifier of pictures of a fixed size.*the input \(4,\)"):
        methods()["full-grad"].explain(model, draw(2, 4))


def test_a_classifier_of_pictures_of_any_size():
    x = keras.Input((None, None, 1))
    model = filled(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Conv2D(2, 1)(x))))
    with pytest.raises(ModelError, match=r"of a fixed size.*Received: model 'functional.*the input \(None, None, 1\)"):
        methods()["grad-cam"].explain(model, draw(2, 4, 4, 1))


def test_two_outputs(two_outputs):
    with pytest.raises(ModelError, match="one input and one output"):
        methods()["pos"].explain(two_outputs, draw(2, 6))
