"""The demo's network by its name, and the names of classes."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from skimage import data

from pane_keras.cli import main
from pane_keras.loading import is_imagenet


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    stack = [keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)]
    keras.Sequential(stack).save("model.keras")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype="uint8")).save("noise.png")
    return tmp_path


def document(capsys):
    return json.loads(capsys.readouterr().out)


def test_the_demo_s_network_on_a_picture_of_one_s_own(folder, capsys):
    Image.fromarray(data.chelsea()).save("cat.png")
    assert main(["explain", "demo", "cat.png"]) == 0
    said = capsys.readouterr().out
    assert "explained: the logit" in said
    assert "of class 285 (Egyptian cat)" in said
    assert "preprocessed by the model's own layer 'rescaling'" in said
    assert Image.open("cat_pane.png").size > (500, 300)
    assert main(["explain", "demo", "cat.png", "--target", "282", "--json", "--no-png"]) == 0
    told = document(capsys)
    assert told["pictures"][0]["top"][0]["name"] == "Egyptian cat"
    assert told["pictures"][0]["explained"]["unit"] == [282]


def test_a_file_called_demo_comes_first(folder, capsys):
    (folder / "demo").write_text("a file of that name")
    assert not is_imagenet("demo")
    assert main(["layers", "demo"]) == 2
    assert "with the ending .keras" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "known"), [("demo", True), ("ResNet50", True), ("resnet", False), ("m.keras", False)]
)
def test_whose_classes_are_those_of_imagenet(folder, model, known):
    assert is_imagenet(model) == known


def test_names_from_a_file(folder, capsys):
    (folder / "names.txt").write_text("red\ngrün\n", encoding="utf-8")
    assert main(["explain", "model.keras", "noise.png", "--target", "1", "--classes", "names.txt", "--no-png"]) == 0
    said = capsys.readouterr().out
    assert "of class 1 (grün)" in said
    assert "class 2 " in said.split("highest logits")[1].splitlines()[0]
    assert main(["explain", "model.keras", "noise.png", "--json", "--classes", "names.txt", "--no-png"]) == 0
    names = {entry["class"]: entry.get("name") for entry in document(capsys)["pictures"][0]["top"]}
    assert names == {0: "red", 1: "grün", 2: None}


def test_without_names_there_are_numbers(folder, capsys):
    assert main(["explain", "model.keras", "noise.png", "--target", "1", "--no-png"]) == 0
    assert "of class 1\n" in capsys.readouterr().out


def test_names_that_cannot_be_read(folder, capsys):
    assert main(["explain", "model.keras", "noise.png", "--classes", "none.txt"]) == 2
    assert capsys.readouterr().err == "pane-keras: Cannot read the classes in 'none.txt': No such file or directory.\n"
