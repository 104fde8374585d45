"""Keras's data sets by name, in a process of its own: where Keras keeps them is read once, from the environment."""

import gzip
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from idx_files import idx
from keras import layers

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of pictures, and Keras's own files of Fashion-MNIST with a few pictures as if it had downloaded them."""
    folder = tmp_path_factory.mktemp("datasets")
    keras.utils.set_random_seed(0)
    conv = layers.Conv2D(2, 3, activation="relu")
    keras.Sequential([keras.Input((28, 28, 1)), conv, layers.Flatten(), layers.Dense(10)]).save(folder / "net.keras")
    (kept := folder / "home" / "datasets" / "fashion-mnist").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("t10k", COUNT)):
        arrays = {"images-idx3": rng.integers(0, 256, (count, 28, 28)), "labels-idx1": rng.integers(0, 10, count)}
        for kind, array in arrays.items():
            (kept / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return folder


def evaluate(folder, data, *arguments):
    """Nothing answers at the proxy, so that nothing is downloaded where there is a network, either."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "pane_keras", "evaluate", "net.keras", "--data", data, *arguments]
    environment = {**os.environ, "KERAS_HOME": str(folder / "home"), **proxies}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_test_pictures_are_taken(folder):
    chosen = ("--methods", "pos,neg", "--experiments", "parts-agreement", "--all-images", "--out", "results", "--json")
    done = evaluate(folder, "fashion-mnist", *chosen)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["data"]["from"], found["data"]["images"]) == ("fashion-mnist", COUNT)
    assert found["settings"]["bounds"] == [0, 255]
    assert [(row["method"], row["samples"]) for row in found["numbers"]] == [("pos", COUNT)]


def test_one_that_cannot_be_downloaded(folder):
    done = evaluate(folder, "cifar10")
    assert done.returncode == 2
    assert "Keras could not download cifar10 (" in done.stderr
    assert "call keras.datasets.cifar10.load_data() once and copy the folder .keras/datasets here" in done.stderr


def test_a_folder_of_that_name_comes_first(folder):
    (folder / "mnist").mkdir()
    done = evaluate(folder, "mnist")
    assert done.returncode == 2
    assert "No pictures in 'mnist'" in done.stderr
