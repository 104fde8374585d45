"""Models by the name of an architecture; files are tested with the commands."""

import keras
import pytest
from keras import layers

from pane_keras.cli import main
from pane_keras.errors import LoadError
from pane_keras.loading import load_model


def tiny(weights="imagenet"):
    return keras.Sequential([keras.Input((4, 4, 3)), layers.Flatten(), layers.Dense(2)], name=weights)


def test_an_architecture_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr(keras.applications, "ResNet50", tiny)
    assert load_model("ResNet50").name == "imagenet"
    assert main(["layers", "ResNet50"]) == 0
    assert "flatten" in capsys.readouterr().out


def test_weights_that_cannot_be_downloaded(monkeypatch, capsys):
    def offline(weights):
        raise Exception(f"URL fetch failure on {weights}:\n  no route to host.")

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    message = (
        "The ImageNet weights of VGG16 could not be loaded: URL fetch failure on imagenet: no route to host. Where "
        'they can be downloaded, save the model, keras.applications.VGG16().save("vgg16.keras"), and pass that file.'
    )
    with pytest.raises(LoadError) as caught:
        load_model("VGG16")
    assert str(caught.value) == message
    assert main(["layers", "VGG16"]) == 2
    assert capsys.readouterr().err == f"pane-keras: {message}\n"


def test_a_file_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "VGG16").write_text("a file of that name")
    with pytest.raises(LoadError, match=r"with the ending \.keras"):
        load_model("VGG16")


@pytest.mark.parametrize("name", ["ResNet", "resnet50", "imagenet_utils", "__name__"])
def test_what_is_no_architecture_is_no_file(name):
    with pytest.raises(LoadError, match=f"No model at '{name}': no such file"):
        load_model(name)
