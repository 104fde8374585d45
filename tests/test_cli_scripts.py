"""The command in scripts: folders and patterns, JSON, arrays, exit codes, and what a channel's own scale does."""

import json
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import pane_keras
from pane_keras.check import Report
from pane_keras.cli import main
from pane_keras.commands import output
from pane_keras.commands.preprocessing import scale_and_offset
from pane_keras.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with channels last, one with channels first, and a folder of pictures in which two are none."""
    folder = tmp_path_factory.mktemp("scripts")
    keras.utils.set_random_seed(5)
    _model((8, 8, 3), "channels_last").save(folder / "model.keras")
    first = keras.Sequential([keras.Input((3, 8, 6)), layers.Flatten(), layers.Dense(2, name="scores")], name="first")
    first.save(folder / "first.keras")
    (folder / "photos" / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(6)
    for name, size in (("b.png", (8, 8)), ("a.JPG", (9, 7)), ("deeper/c.png", (8, 8)), (".hidden.png", (8, 8))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype="uint8")).save(folder / "photos" / name)
    (folder / "photos" / "notes.txt").write_text("no picture")
    (folder / "photos" / "broken.png").write_bytes(b"no picture either")
    (folder / "only_broken").mkdir()
    (folder / "only_broken" / "x.png").write_bytes(b"nothing")
    return folder


def _model(shape, name):
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", name="predictions"),
        ],
        name=name,
    )


@pytest.fixture
def run(folder, capsys, monkeypatch, tmp_path):
    """Function (*arguments) -> (exit code, stdout, stderr), run where the user's files are; results go to tmp_path."""
    monkeypatch.chdir(folder)

    def call(*arguments):
        out = () if arguments[0] == "layers" else ("--out", tmp_path)
        try:
            code = main(list(map(str, (*arguments, *out))))
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def document(run):
    """Function (*arguments) -> the JSON document, without figures."""

    def call(*arguments):
        figures = () if arguments[0] == "layers" else ("--no-png",)
        code, out, _ = run(*arguments, "--json", *figures)
        assert code == 0
        return json.loads(out)

    return call


def true_map(folder, picture, **how):
    pixels = np.asarray(Image.open(folder / picture), "float32")[None]
    return pane_keras.wrap(keras.saving.load_model(folder / "model.keras")).trace(pixels).saliency(**how)


def test_a_folder_means_its_pictures_sorted(document):
    found = document("explain", "model.keras", "photos")
    assert [picture["file"] for picture in found["pictures"]] == ["photos/a.JPG", "photos/b.png"]
    assert [skipped["file"] for skipped in found["skipped"]] == ["photos/broken.png"]
    assert "is not a picture that can be read" in found["skipped"][0]["reason"]
    assert found["pictures"][0]["changes"] == ["resized from 7 x 9 to 8 x 8"]
    assert found["pictures"][1]["changes"] == []


def test_what_is_skipped_is_named_on_stderr(run):
    code, out, err = run("explain", "model.keras", "photos", "--no-png")
    assert code == 0
    assert "a.JPG, resized from 7 x 9 to 8 x 8" in out
    assert err.startswith("pane-keras: notice: skipped: 'photos/broken.png' is not a picture")
    assert err.count("\n") == 1


def test_a_pattern_in_quotes_is_expanded(document):
    found = document("explain", "model.keras", "photos/**/*.png")
    assert [picture["file"] for picture in found["pictures"]] == ["photos/b.png", "photos/deeper/c.png"]
    assert len(found["skipped"]) == 1


def test_a_name_with_brackets_is_a_name_first(document, folder):
    (folder / "cat[1].png").write_bytes((folder / "photos" / "b.png").read_bytes())
    assert document("explain", "model.keras", "cat[1].png")["pictures"][0]["file"] == "cat[1].png"


def test_no_picture_left_is_an_error(run):
    code, out, err = run("explain", "model.keras", "only_broken", "--json")
    assert (code, out) == (2, "")
    assert "None of the 1 pictures can be read" in err


def test_explain_as_json_says_what_the_map_is(document, folder):
    found = document("explain", "model.keras", "photos/b.png", "--target", "-1")
    assert set(found) == {"pane_keras", "command", "model", "pixels", "pictures", "skipped", "notices"}
    assert (found["pane_keras"], found["command"]) == (pane_keras.__version__, "explain")
    assert found["model"] == {"name": "channels_last", "parameters": 547, "from": "model.keras"}
    picture = found["pictures"][0]
    logits = pane_keras.wrap(keras.saving.load_model(folder / "model.keras")).trace(
        np.asarray(Image.open(folder / "photos" / "b.png"), "float32")[None]
    )
    logits = np.asarray(logits.logits())[0]
    assert picture["explained"]["unit"] == [2]
    np.testing.assert_allclose(picture["explained"]["value"], logits[2], rtol=1e-5)
    assert [top["class"] for top in picture["top"]] == np.argsort(-logits).tolist()
    assert picture["self_check"]["ok"] is True
    assert picture["diagnosis"]["text"].endswith(".")
    assert picture["figure"] is picture["maps"] is None


def test_arrays_are_those_of_the_library(document, folder, tmp_path):
    picture = document("explain", "model.keras", "photos/b.png", "--npz")["pictures"][0]
    assert picture["maps"] == str(tmp_path / "b_pane.npz")
    expected = true_map(folder, "photos/b.png")
    with np.load(picture["maps"]) as arrays:
        assert sorted(arrays) == ["log2_scale", "negative", "positive", "signal", "sum", "sum_log2_scale"]
        for name in arrays:
            np.testing.assert_allclose(arrays[name], getattr(expected, name), rtol=1e-5, atol=1e-7, err_msg=name)
    assert [path.name for path in tmp_path.iterdir()] == ["b_pane.npz"]


def test_a_unit_of_a_layer_as_json(document):
    picture = document("explain", "model.keras", "photos/b.png", "--layer", "conv", "--unit", "1,2,3")["pictures"][0]
    assert picture["explained"] | {"value": 0} == {"target": "conv", "unit": [1, 2, 3], "value": 0, "over": "input"}
    assert picture["top"] is picture["diagnosis"] is None


def test_layers_as_json(document):
    found = document("layers", "model.keras")
    assert found["ok"] is True
    assert found["inputs"][0]["shape"] == [8, 8, 3]
    assert found["layers"][0] | {"because": ""} == {
        "name": "conv",
        "class": "Conv2D",
        "output_shape": [None, 6, 6, 4],
        "treated_as": "excited",
        "because": "",
    }


def test_demo_as_json(document, monkeypatch):
    monkeypatch.setattr("pane_keras.commands.demo.PHOTOGRAPHS", ("coffee",))
    found = document("demo")
    assert [picture["file"] for picture in found["pictures"]] == ["coffee"]
    top = found["pictures"][0]["top"][0]
    assert (top["class"], top["name"]) == (967, "espresso")
    assert 0.9 < top["probability"] < 1
    assert found["pictures"][0]["diagnosis"]["positive_correlation"] == pytest.approx([1, 1], abs=0.01)


def test_what_libraries_print_does_not_spoil_the_json(run, monkeypatch):
    def talkative(*args, **kwargs):
        print("Downloading data")
        return _model((8, 8, 3), "talkative")

    monkeypatch.setattr(keras.applications, "VGG16", talkative)
    code, out, err = run("layers", "VGG16", "--json")
    assert code == 0
    assert json.loads(out)["model"]["name"] == "talkative"
    assert "Downloading data" in err


def test_what_json_has_no_number_for_is_null(capsys):
    from pane_keras.commands.console import Console

    with Console(True) as console:
        console.finish("layers", values=np.array([1, np.nan, -np.inf]), whole=np.int64(3), none=None, yes=np.bool_(1))
    found = json.loads(capsys.readouterr().out)
    assert found["values"] == [1, None, None]
    assert (found["whole"], found["none"], found["yes"]) == (3, None, True)


def test_channels_of_their_own_scale(document, folder, tmp_path):
    how = ("--scale", "0.5,1,2", "--offset", "-1,-2,.5")
    found = document("explain", "model.keras", "photos/b.png", "--npz", *how)
    assert found["pixels"] == "pixel * (0.5, 1, 2) + (-1, -2, 0.5)"
    pixels = np.asarray(Image.open(folder / "photos" / "b.png"), "float32")
    with np.load(tmp_path / "b_pane.npz") as arrays:
        np.testing.assert_allclose(arrays["signal"][0], pixels * [0.5, 1, 2] + [-1, -2, 0.5], rtol=1e-6)


def test_a_model_with_channels_first(run, folder, tmp_path, monkeypatch):
    drawn = []
    real = output.plot
    monkeypatch.setattr(output, "plot", lambda *args, **kwargs: drawn.append(kwargs) or real(*args, **kwargs))
    code, out, _ = run("explain", "first.keras", "photos/b.png", "--npz")
    assert code == 0
    assert "resized from 8 x 8 to 6 x 8" in out
    assert drawn[0]["channel_axis"] == 0
    with np.load(tmp_path / "b_pane.npz") as arrays:
        assert arrays["sum"].shape == (1, 3, 8, 6)
        small = Image.open(folder / "photos" / "b.png").resize((6, 8), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(arrays["signal"][0], np.moveaxis(np.asarray(small), -1, 0))


def test_an_architecture_by_name_gets_its_own_preprocessing(document, folder, tmp_path, monkeypatch):
    def resnet(weights):
        return keras.saving.load_model(folder / "model.keras")

    resnet.__module__ = "keras.anything.applications.resnet"
    monkeypatch.setattr(keras.applications, "ResNet50", resnet)
    found = document("explain", "ResNet50", "photos/b.png", "--npz")
    assert found["pixels"] == "as keras.applications.resnet.preprocess_input makes them"
    pixels = np.asarray(Image.open(folder / "photos" / "b.png"), "float32")
    with np.load(tmp_path / "b_pane.npz") as arrays:
        # Blue first, the mean of ImageNet taken off.
        np.testing.assert_allclose(arrays["signal"][0], pixels[..., ::-1] - [103.939, 116.779, 123.68], rtol=1e-5)
    assert document("explain", "ResNet50", "photos/b.png", "--scale", 1)["pixels"] == "pixel * 1 + 0"


def architecture(monkeypatch, name, module):
    def build(weights):
        raise AssertionError("not built here")

    build.__module__ = f"keras.anything.applications.{module}"
    monkeypatch.setattr(keras.applications, name, build, raising=False)
    return SimpleNamespace(model=name, scale=None, offset=None)


@pytest.mark.parametrize(
    ("module", "scale", "offset"),
    [
        ("mobilenet_v2", [1 / 127.5] * 3, [-1] * 3),
        ("efficientnet", [1] * 3, [0] * 3),
        (
            "densenet",
            1 / 255 / np.array([0.229, 0.224, 0.225]),
            -np.array([0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        ),
    ],
)
def test_evaluate_takes_an_architectures_own_units(monkeypatch, module, scale, offset):
    found = scale_and_offset(architecture(monkeypatch, "Network", module), 3)
    np.testing.assert_allclose(found[0], scale, rtol=1e-5)
    np.testing.assert_allclose(found[1], offset, rtol=1e-5, atol=1e-7)
    assert found[2] is False


@pytest.mark.parametrize("module", ["resnet", "vgg16"])
def test_evaluate_turns_the_channels_around_where_blue_comes_first(monkeypatch, module):
    scale, offset, blue_first = scale_and_offset(architecture(monkeypatch, "Network", module), 3)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 2, 2, 3)).astype("float32")
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    assert blue_first is True
    np.testing.assert_allclose(pixels[..., ::-1] * scale + offset, expected, rtol=1e-5, atol=1e-4)


def test_evaluate_says_where_no_scale_and_offset_do(monkeypatch):
    arguments = architecture(monkeypatch, "Squared", "resnet")
    monkeypatch.setattr(keras.applications.resnet, "preprocess_input", np.square)
    with pytest.raises(
        InputError, match=r"Squared takes pixels as keras\.applications\.resnet\.preprocess_input makes"
    ):
        scale_and_offset(arguments, 3)
    arguments.scale = 2.0
    assert scale_and_offset(arguments, 3) == (2.0, None, False)
    arguments.model, arguments.scale = "model.keras", None
    assert scale_and_offset(arguments, 3) == (None, None, False)


def test_a_self_check_that_fails_is_exit_code_3(run, monkeypatch):
    monkeypatch.setattr("pane_keras.trace.Trace.check", lambda self: Report({"conv": 0.5}, 0.0, 1e-4))
    code, out, err = run("explain", "model.keras", "photos/b.png", "--no-png")
    assert (code, err) == (3, "")
    assert "self-check FAILED: largest residual 5.0e-01" in out
    code, out, _ = run("explain", "model.keras", "photos/b.png", "--no-png", "--json")
    assert code == 3
    assert json.loads(out)["pictures"][0]["self_check"]["ok"] is False


def test_an_unsupported_layer_is_in_the_json_and_exit_code_2(run, folder):
    x = keras.Input((4,))
    keras.Model(x, layers.Dense(2)(layers.Dropout(0.5, name="noise")(x, training=True))).save(folder / "noise.keras")
    code, out, err = run("layers", "noise.keras", "--json")
    assert code == 2
    assert [layer["treated_as"] for layer in json.loads(out)["layers"]] == ["unsupported", "excited"]
    assert "Layer 'noise'" in err


def test_interrupted_while_a_figure_is_written(run, monkeypatch, tmp_path):
    import matplotlib.figure

    def interrupted(self, file, **kwargs):
        file.write(b"half a figure")
        raise KeyboardInterrupt

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", interrupted)
    code, _, err = run("explain", "model.keras", "photos/b.png")
    assert code == 130
    assert err == "pane-keras: interrupted\n"
    assert os.listdir(tmp_path) == []
