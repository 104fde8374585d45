"""AlexNet and VGG-16 for small pictures, and the script that trains them."""

import gzip
import importlib.util
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from idx_files import idx
from keras import layers

import pane_keras
from pane_keras.errors import InputError, LoadError
from pane_keras.evaluation.builders import BUILDERS, alexnet, vgg16
from pane_keras.loading import load_model

SCRIPT = Path(__file__).parents[1] / "pane_keras" / "evaluation" / "train_fashion.py"


def count(model, kind):
    return sum(isinstance(layer, kind) for layer in model.layers)


def shape_of(model, name):
    return tuple(model.get_layer(name).output.shape[1:])


@pytest.mark.parametrize(("builder", "weighted"), [(alexnet, 5 + 3), (vgg16, 13 + 3)])
def test_weight_layers(builder, weighted):
    model = builder((28, 28, 1), 10, width=0.05)
    assert count(model, (layers.Conv2D, layers.Dense)) == weighted
    assert count(model, (layers.BatchNormalization, layers.Add)) == 0
    normalized = builder((28, 28, 1), 10, width=0.05, batch_normalization=True)
    assert count(normalized, layers.BatchNormalization) == weighted - 3
    assert count(normalized, layers.Add) == 0
    assert all(not layer.use_bias for layer in normalized.layers if isinstance(layer, layers.Conv2D))
    residual = builder((28, 28, 1), 10, width=0.05, residual=True)
    assert count(residual, layers.Add) == {8: 3, 16: 5}[weighted]
    assert count(residual, layers.BatchNormalization) >= weighted - 3


@pytest.mark.parametrize("side", [28, 56, 64, 127, 128, 224])
@pytest.mark.parametrize("builder", BUILDERS)
def test_sides(builder, side):
    """Something with both axes is left for the Dense layers, at every side from 28 to 224."""
    model = BUILDERS[builder]((side, side, 1), 4, width=0.01)
    last = {"alexnet": "pool5", "vgg16": "block5_pool"}[builder]
    height, width, _ = shape_of(model, last)
    expected = {"vgg16": -(-side // 32), "alexnet": {28: 4, 56: 4, 64: 4, 127: 8, 128: 4, 224: 7}[side]}[builder]
    assert (height, width) == (expected, expected)


def vgg_parameters(width):
    channels, parameters = 3, 0
    for convolutions, filters in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(convolutions):
            parameters += 9 * channels * filters // width + filters // width
            channels = filters // width
    for inputs, outputs in ((49 * channels, 4096 // width), (4096 // width, 4096 // width), (4096 // width, 1000)):
        parameters += inputs * outputs + outputs
    return parameters


def test_the_originals_sizes():
    """At 224 pixels; the original VGG-16 would take half a gigabyte, so it is counted at an eighth of its width."""
    model = vgg16((224, 224, 3), 1000, width=1 / 8)
    shapes = {"block1_conv2": (224, 224, 8), "block3_conv3": (56, 56, 32), "block5_conv3": (14, 14, 64)}
    assert {name: shape_of(model, name) for name in shapes} == shapes
    assert vgg_parameters(1) == 138_357_544
    assert model.count_params() == vgg_parameters(8)
    assert [shape_of(alexnet((224, 224, 3), 2, width=0.25), f"conv{k}") for k in range(1, 6)] == [
        (56, 56, 24), (28, 28, 64), (14, 14, 96), (14, 14, 96), (14, 14, 64)]  # fmt: skip


def test_a_picture_that_is_not_square():
    assert vgg16((28, 50, 3), 2, 0.02)(np.zeros((1, 28, 50, 3))).shape == (1, 2)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("residual", [False, True])
def test_logits_and_softmax_at_the_end(builder, residual):
    """Maps explain the layer `logits`; the self-check is complete."""
    model, images = BUILDERS[builder]((28, 28, 1), 3, 0.03, residual=residual), np.ones((2, 28, 28, 1), "float32")
    np.testing.assert_allclose(np.asarray(model(images)).sum(axis=1), 1, rtol=1e-5)
    trace = pane_keras.wrap(model).trace(images)
    np.testing.assert_array_equal(np.asarray(trace.logits()), np.asarray(trace["logits"].output))
    assert trace.check().ok


def test_it_is_saved_and_loaded(tmp_path):
    model = alexnet((28, 28, 1), 3, 0.03, residual=True)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(2, 28, 28, 1))
    np.testing.assert_array_equal(np.asarray(loaded(images)), np.asarray(model(images)))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (((27, 28, 1), 2), r"at least 28 pixels a side\. Received: \(27, 28, 1\)\. Resize"),
        (((28, 28), 2), r"Received: \(28, 28\)"),
        (((None, 28, 1), 2), r"Received: \(None, 28, 1\)"),
        (((28, 28, 0), 2), r"Received: \(28, 28, 0\)"),
        (((28, 28, 1), 1), r"at least 2 classes\. Received: classes=1"),
        (((28, 28, 1), 2.0), r"Received: classes=2\.0"),
        (((28, 28, 1), 2, 0), r"a width above 0.*Received: 0"),
        (((28, 28, 1), 2, float("nan")), r"a width above 0.*Received: nan"),
    ],
)
@pytest.mark.parametrize("builder", BUILDERS)
def test_bad_arguments(builder, given, match):
    with pytest.raises(InputError, match=f"{builder} expects .*{match}"):
        BUILDERS[builder](*given)


# The script


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_fashion", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """Two kinds of pictures, easily told apart; half of the files packed."""
    rng, made = np.random.default_rng(0), tmp_path / "data"
    made.mkdir()
    for prefix, number, pack in (("train", 64, True), ("t10k", 20, False)):
        labels = rng.integers(0, 2, number)
        pictures = rng.integers(0, 100, (number, 28, 28)) + 150 * labels[:, None, None]
        for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            name, data = f"{prefix}-{kind}-ubyte", idx(array)
            (made / f"{name}.gz").write_bytes(gzip.compress(data)) if pack else (made / name).write_bytes(data)
    return made


def arguments(folder, out, *more):
    small = ["--size", "28", "--width", "0.05", "--batch-size", "8", "--epochs", "2", "--dropout", "0"]
    return ["alexnet", "--data", str(folder), "--out", str(out), *small, *more]


def test_training(script, folder, tmp_path, capsys):
    out, test = tmp_path / "net.keras", tmp_path / "test.npz"
    assert script.main(arguments(folder, out, "--evaluation", str(test), "--samples", "5", "--residual")) == 0
    facts, model = json.loads(out.with_suffix(".json").read_text()), keras.saving.load_model(out)
    assert f"held-out accuracy: {facts['accuracy']:.4f}" in capsys.readouterr().out
    assert facts["test_pictures"] == 20
    assert facts["train_pictures"] == 64
    assert len(facts["seconds"]) == 2
    assert count(model, layers.Add) == 3
    (pictures, _), (test_pictures, test_labels) = script.fashion_mnist(folder)
    assert facts["mean"] == pytest.approx(pictures.mean() / 255)
    assert facts["deviation"] == pytest.approx(pictures.std() / 255)
    standardised = (test_pictures[..., None] / 255 - facts["mean"]) / facts["deviation"]
    # 28 pixels stay 28: what the network takes is the formula alone.
    right = np.argmax(model.predict(standardised, verbose=0), axis=-1) == test_labels
    assert right.mean() == facts["accuracy"]
    kept = np.load(test)
    np.testing.assert_allclose(kept["images"], standardised[right][:5], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(kept["labels"], test_labels[right][:5])
    # Black and the step of 1 / 255, in the units of the network.
    assert facts["black"] == pytest.approx((0 - facts["mean"]) / facts["deviation"])
    assert facts["step"] == pytest.approx(1 / 255 / facts["deviation"])
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".keras", ".json", ".npz"}


def test_fewer_pictures_change_no_standardisation(script, folder, tmp_path):
    few, out = ("--limit", "16", "--epochs", "1"), tmp_path / "net.keras"
    assert script.main([*arguments(folder, out), *few]) == 0
    facts, pictures = json.loads(out.with_suffix(".json").read_text()), script.fashion_mnist(folder)[0][0]
    assert facts["train_pictures"] == 16
    assert facts["mean"] == pytest.approx(pictures.mean() / 255)
    assert facts["deviation"] == pytest.approx(pictures.std() / 255)


def test_pictures_are_enlarged_and_the_background_is_not_zero(script):
    picture = np.zeros((1, 28, 28), "uint8")
    picture[0, 7:21, 7:21] = 255
    prepared = np.asarray(script.preparation(64, 0.25, 0.5)(picture))
    assert prepared.shape == (1, 64, 64, 1)
    assert prepared[0, 0, 0, 0] == pytest.approx(-0.5)
    assert prepared[0, 32, 32, 0] == pytest.approx(1.5)


def test_what_is_broken_off_leaves_no_network(script, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out" / "net.keras"
    assert script.main(arguments(folder, out)) == 2
    assert f"Cannot write {str(out)!r}: No such file or directory." in capsys.readouterr().err
    out.parent.mkdir()
    out.write_text("before")

    def half(model, path):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", half)
    assert script.main(arguments(folder, out)) == 2
    assert f"Cannot write {str(out)!r}: No space left on device." in capsys.readouterr().err
    assert [path.read_text() for path in out.parent.iterdir()] == ["before"]


def test_bad_files(script, folder, tmp_path, capsys):
    assert script.main(arguments(folder, tmp_path / "net.h5")) == 2
    assert "Expected --out with the ending .keras. Received: 'net.h5'." in capsys.readouterr().err
    name = "t10k-labels-idx1-ubyte"
    for damaged in (b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\x01\0", (folder / name).read_bytes()[:-1]):
        (folder / name).write_bytes(damaged)
        with pytest.raises(LoadError, match=rf"{name}' is no idx file of bytes, or is cut short"):
            script.fashion_mnist(folder)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(LoadError, match="Cannot read train-images-idx3-ubyte"):
        script.fashion_mnist(folder)
    with pytest.raises(LoadError, match=r"Cannot read train-images.*empty', with or without \.gz: .*No such file"):
        script.fashion_mnist(tmp_path / "empty")


def test_no_download(script, monkeypatch):
    def fail():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", fail)
    with pytest.raises(LoadError, match=r"could not download fashion_mnist \(URL fetch failure\).*Pass --data"):
        script.fashion_mnist()
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: "the data")
    assert script.fashion_mnist() == "the data"
