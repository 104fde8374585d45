"""`pane-keras evaluate`, as a user runs it, on a network trained on scikit-learn's digits."""

import csv
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from pane_keras.cli import main
from pane_keras.commands import evaluate as evaluate_command
from pane_keras.evaluation import Ranking, change_logits
from pane_keras.evaluation.methods import methods
from pane_keras.evaluation.runner import Results

datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is in the extra `test` only")

QUICK = ("--methods", "pos,pos+neg,gradient,random", "--experiments", "remove-salient,logit-salient,guided-attack")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    digits = datasets.load_digits()
    images = np.kron(digits.images.astype("uint8") * 15, np.ones((1, 2, 2), "uint8"))[..., None]
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        name="digits",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:1500], digits.target[:1500], epochs=4, verbose=0)
    model.save(folder / "digits.keras")
    np.savez(folder / "digits.npz", images=images[1500:], labels=digits.target[1500:])
    for k, (image, label) in enumerate(zip(images[1500:1530], digits.target[1500:])):
        (folder / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / "pictures" / str(label) / f"{k}.png")
    np.savez(folder / "wrong.npz", pictures=images)
    (folder / "file").write_text("")
    return folder


@pytest.fixture
def run(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)

    def call(*arguments):
        try:
            code = main(list(map(str, ("evaluate", *arguments))))
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return call


def rows(out):
    with open(out / "numbers.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_written_and_a_second_run_computes_nothing(run, folder, tmp_path, monkeypatch):
    arguments = ("digits.keras", "--data", "digits.npz", "--samples", 30, "--out", tmp_path / "out", *QUICK)
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert "data: 30 images of digits.npz (297 in all);" in out
    assert "only those are taken" in out
    assert "units: black 0, 1/255 is 1" in out
    assert "- Taking 1/255 off the pixels that POS+NEG ranks highest lowers the logit of at least" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    figures = {"figure3_remove_salient.png", "figure6_guided_attack.png"}
    assert names == {"numbers.csv", "tables.md", "settings.json", "report.html", "values", *figures}
    for name in figures:
        with Image.open(tmp_path / "out" / name) as image:
            image.load()
            assert image.size[0] > 800
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["seed"], settings["samples"], settings["bounds"]) == (0, 30, [0, 255])
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/png;base64,") == 2
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*.[ch]*")}
    monkeypatch.setattr("pane_keras.evaluation.runner.Explainers", None)
    assert run(*arguments)[0] == 0
    assert {path: path.read_bytes() for path in before} == before


def test_limits_of_methods_and_experiments(run, tmp_path):
    chosen = ("--methods", "pos,random", "--experiments", "remove-salient,class-sensitivity", "--samples", 9)
    limits = ("--limits", "pos=4,class-sensitivity=3")
    code, _, err = run("digits.keras", "--data", "digits.npz", "--out", tmp_path, *chosen, *limits)
    assert (code, err) == (0, "")
    counts = {(row["experiment"], row["method"]): row["samples"] for row in rows(tmp_path)}
    assert counts == {
        ("remove-salient", "pos"): "4",
        ("remove-salient", "random"): "9",
        ("class-sensitivity", "pos"): "3",
        ("class-sensitivity", "random"): "3",
    }
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["limits"] == {"score-cam": 100, "smooth-grad": 100, "pos": 4}
    assert settings["experiment_limits"] == {"class-sensitivity": 3}


def test_both_ways_of_counting(run, tmp_path):
    chosen = ("--methods", "pos+neg", "--experiments", "remove-salient", "--samples", 4, "--count", "both")
    assert run("digits.keras", "--data", "digits.npz", "--out", tmp_path, *chosen)[0] == 0
    assert {row["counting"] for row in rows(tmp_path)} == {"pixels", "elements"}


def test_the_published_tables_are_the_numbers(run, tmp_path, monkeypatch, capsys):
    """tests/benchmarks/published.py prints the tables of docs/evaluation.md out of what the command wrote."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "benchmarks")
    import published

    chosen = ("--methods", "pos,neg,pos+neg,random", "--samples", 8)
    only = ("--experiments", "remove-salient,logit-salient,guided-attack,class-sensitivity,parts-agreement")
    assert run("digits.keras", "--data", "digits.npz", "--out", tmp_path, *chosen, *only)[0] == 0
    monkeypatch.setattr("sys.argv", ["published.py", f"Digits={tmp_path}"])
    published.main()
    printed, names = capsys.readouterr().out, ("experiment", "method", "ranking", "quantity", "region")
    found = {tuple(row[name] for name in names): float(row["value"] or "nan") for row in rows(tmp_path)}
    shares = [found["logit-salient", "pos+neg", "value", "share as intended", str(k / 100)] for k in range(1, 11)]
    line = next(line for line in printed.splitlines() if line.startswith("| Digits | POS+NEG | ") and "%" in line)
    assert line == "| Digits | POS+NEG | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " | 8 |"
    change = found["remove-salient", "random", "value", "probability change", "1.0"]
    assert f"| random | {change:.4f} (" in printed
    assert "| paper: AlexNet, ImageNet | POS+NEG | -6.233 |" in printed
    same = found["parts-agreement", "pos", "", "rank correlation", ""]
    assert f"| Digits | {same:.3f} (" in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score-cam", "expected numbers such as score-cam=20. Received: 'score-cam'"),
        ("=3", "expected numbers such as score-cam=20. Received: '=3'"),
        ("pos=0", "expected a whole number of at least 1. Received: '0'"),
        ("poss=3", "--limits: no method or experiment is called 'poss'. Did you mean 'pos'"),
        ("Randomization=3", "Did you mean 'randomisation'"),
    ],
)
def test_limits_that_are_none(run, text, message):
    code, _, err = run("digits.keras", "--data", "digits.npz", "--limits", text)
    assert code == 2
    assert message in err


def test_the_numbers_are_those_of_the_metric(run, folder, tmp_path):
    """On every picture, so that the order in which they are drawn does not matter."""
    method = ("--methods", "pos+neg", "--experiments", "logit-salient", "--all-images")
    code, out, _ = run("digits.keras", "--data", "pictures", "--out", tmp_path, "--step", 2, "--seed", 5, *method)
    assert code == 0
    assert "of 30 classified correctly, wrong ones kept" in out
    model, data = keras.saving.load_model(folder / "digits.keras"), np.load(folder / "digits.npz")
    images, labels = data["images"][:30], data["labels"][:30]
    maps = methods()["pos+neg"].explain(model, images, labels)
    found = change_logits(model, images, maps, step=2, targets=labels, ranking=Ranking(ties=5))
    wanted = [row for row in rows(tmp_path) if (row["quantity"], row["ranking"]) == ("share as intended", "value")]
    np.testing.assert_allclose([float(row["value"]) for row in wanted], found.share)
    wanted = [
        row for row in rows(tmp_path) if row["quantity"] == "accumulated logit change" and row["ranking"] == "value"
    ]
    np.testing.assert_allclose([float(row["value"]) for row in wanted], found.accumulated, rtol=1e-4)
    assert {row["samples"] for row in wanted} == {"30"}


def test_other_data_in_the_same_folder_are_refused(run, tmp_path):
    small = ("--methods", "random", "--experiments", "remove-salient", "--out", tmp_path)
    assert run("digits.keras", "--data", "digits.npz", "--samples", 5, *small)[0] == 0
    code, _, err = run("digits.keras", "--data", "digits.npz", "--samples", 6, *small)
    assert code == 2
    assert "holds results of another model, data or settings" in err


def test_json_holds_what_the_files_hold(run, tmp_path):
    small = ("--methods", "random,pos+neg", "--experiments", "remove-salient", "--samples", 5, "--out", tmp_path)
    code, out, err = run("digits.keras", "--data", "digits.npz", *small, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["command"], found["model"]["name"]) == ("evaluate", "digits")
    assert found["data"]["images"] == 5
    assert found["settings"] == json.loads((tmp_path / "settings.json").read_text())
    written = rows(tmp_path)
    assert [(row["method"], row["quantity"]) for row in found["numbers"]] == [
        (row["method"], row["quantity"]) for row in written
    ]
    np.testing.assert_allclose([row["value"] for row in found["numbers"]], [float(row["value"]) for row in written])
    assert found["files"]["report.html"] == str(tmp_path / "report.html")
    assert found["left_out"] == []
    assert any("removing the" in sentence for sentence in found["verdicts"])


def test_methods_left_out_for_the_same_reason_share_a_line(run, tmp_path, monkeypatch):
    names = [f"method-{k}" for k in range(8)]
    reasons = dict.fromkeys(names, "no layer\n with spatial axes") | {"other": "no ReLU"}
    monkeypatch.setattr(
        evaluate_command, "evaluate", lambda *args, **kwargs: Results((), (), reasons, {"settings": "none"})
    )
    code, out, _ = run("digits.keras", "--data", "digits.npz", "--samples", 2, "--out", tmp_path)
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("left out")]
    assert lines == [
        "left out: method-0, method-1, method-2, method-3, method-4, method-5, and 2 more: no layer with spatial axes",
        "left out: other: no ReLU",
    ]
    report = (tmp_path / "report.html").read_text()
    assert f"<li>{', '.join(names)}: no layer with spatial axes</li>" in report
    _, out, _ = run("digits.keras", "--data", "digits.npz", "--samples", 2, "--out", tmp_path, "--json")
    assert json.loads(out)["left_out"] == [
        {"methods": names, "reason": "no layer with spatial axes"},
        {"methods": ["other"], "reason": "no ReLU"},
    ]


DATA = ("digits.keras", "--data", "digits.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.keras", "--data", "digits.npz"), "No model at 'missing.keras'"),
        (("digits.keras",), "the following arguments are required: --data"),
        (("digits.keras", "--data", "nowhere"), "Expected a folder of pictures, a .npz file, or one of cifar10"),
        (("digits.keras", "--data", "wrong.npz"), "Expected the array 'images'"),
        ((*DATA, "--methods", "grad-cat"), "No method is called 'grad-cat'. Did you mean 'grad-cam'"),
        ((*DATA, "--experiments", "remove"), "No experiment is called 'remove'"),
        ((*DATA, "--samples", "0"), "argument --samples: expected a whole number of at least 1. Received: '0'"),
        ((*DATA, "--batch-size", "x"), "argument --batch-size: expected a whole number of at least 1"),
        ((*DATA, "--seed", "-1"), "argument --seed: expected a whole number of at least 0"),
        ((*DATA, "--step", "0"), "Expected step to be above 0"),
        ((*DATA, "--black", "1,2"), "Expected black to be a number, or one for each of 1 channels"),
        ((*DATA, "--black", "nan"), "argument --black: expected a finite number"),
        ((*DATA, "--scale", "1,2"), "Expected scale to be a number, or one for each of 1 channels"),
        ((*DATA, "--offset", "-1,x"), "argument --offset: expected a finite number. Received: 'x'"),
        ((*DATA, "--scale", "0"), "Expected scale to be other than 0"),
        ((*DATA, "--classes", "file"), "the data are arrays"),
        ((*DATA, "--count", "channels"), "argument --count: invalid choice: 'channels'"),
        ((*DATA, "--samples", "2", "--out", "file"), "Cannot write 'file': File exists"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(run, tmp_path, arguments, message):
    out = () if "--out" in arguments else ("--out", tmp_path / "out")
    code, _, err = run(*arguments, *out)
    assert code == 2
    assert err.startswith("pane-keras: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.npz"))


def test_a_missing_extra_is_one_line_too(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run(*DATA, "--samples", 3, "--out", tmp_path, *QUICK)
    assert code == 2
    assert 'pip install "pane-keras[plot]"' in err
    assert not list(tmp_path.iterdir())
