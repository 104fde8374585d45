"""The package as others use it: what a type checker sees of it, and what a wheel has to hold."""

import importlib.util
import pathlib
import re
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SNIPPET = """
import keras
import numpy as np
import pane_keras

pane = pane_keras.wrap(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
trace = pane.trace(np.zeros((1, 4)))
reveal_type(trace)  # pane_keras.trace.Trace
reveal_type(trace.saliency().sum)  # pane_keras.types.Tensor | Any
reveal_type(np.asarray(trace.saliency().sum))  # numpy.ndarray
reveal_type(trace["dense"].output)  # pane_keras.types.Tensor
reveal_type(trace.check().max_residual)  # float
pair = trace.between("input", "logits")
reveal_type(pair)  # pane_keras.excitation.Excitation
reveal_type(pair.map((1,)))  # pane_keras.maps.ExcitationMap
reveal_type(pair.map((1,)).positive * 2)  # pane_keras.types.Tensor
reveal_type(pair.dense())  # pane_keras.dense.DenseExcitation
positive, negative = pair.dense()
reveal_type(negative)  # pane_keras.types.Tensor
reveal_type(pair.expression().flops)  # int
reveal_type(pane.explain(np.zeros((1, 4))).diagnose())  # pane_keras.diagnosis.Diagnosis | Any
reveal_type(pane_keras.report(pane.model).unsupported)  # list[pane_keras.model_report.Treatment]


@pane_keras.register(keras.layers.Dense)
def excite(layer: object, inputs: object) -> list[int]:
    return []


reveal_type(excite)  # def (layer: object, inputs: object) -> list[int]
try:
    pane(np.zeros((1, 4)))
except pane_keras.PaneError as error:
    reveal_type(error)  # pane_keras.errors.PaneError
"""
MISTAKES = """
import pane_keras

trace = pane_keras.wrap(None).trace(None)
trace.salience()  # "Trace" has no attribute "salience"
trace.between("input", 3)  # Argument 2 to "between" of "Trace" has incompatible type "int"; expected "str"
pane_keras.warp(None)  # Module has no attribute "warp"
trace.check().ok.nothing  # "bool" has no attribute "nothing"
"""


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Function code -> {line of the code: what mypy says of it}."""
    api = pytest.importorskip("mypy.api", reason="mypy is in the extra `test` only")
    folder = tmp_path_factory.mktemp("types")

    def check(code):
        (folder / "snippet.py").write_text(code)
        options = ["--strict", "--ignore-missing-imports", "--no-warn-unused-ignores", "--no-error-summary"]
        silent = ["--follow-imports=silent", f"--cache-dir={folder / 'cache'}"]
        out, err, _ = api.run([*options, *silent, str(folder / "snippet.py")])
        assert not err
        found = {}
        for line, said in re.findall(r"snippet\.py:(\d+): \w+: (.*)", out):
            found[int(line)] = found.get(int(line), "") + said
        return found

    return check


def expected(code):
    """{line: its comment}."""
    return {k: line.split("  # ")[1] for k, line in enumerate(code.splitlines(), 1) if "  # " in line}


@pytest.mark.parametrize("code", [SNIPPET, MISTAKES], ids=["types", "mistakes"])
def test_what_a_type_checker_sees(checked, code, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    found, wanted = checked(code), expected(code)
    assert set(found) == set(wanted), found
    for line, text in wanted.items():
        assert text.replace(" ", "") in found[line].replace("builtins.", "").replace("typing.", "").replace(" ", "")


@pytest.fixture(scope="module")
def contents():
    spec = importlib.util.spec_from_file_location("package_contents", ROOT / ".ci" / "package_contents.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def packages(folder, names):
    """Returns a wheel and an sdist that hold empty files of these names."""
    with zipfile.ZipFile(wheel := folder / "a.whl", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    with tarfile.open(sdist := folder / "a.tar.gz", "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"pane_keras-1.0/{name}"))
    return [str(wheel), str(sdist)]


def test_packages_that_hold_what_they_should(contents, tmp_path, capsys):
    assert contents.main(packages(tmp_path, contents.NEEDED)) == 0
    assert capsys.readouterr().out == "2 packages hold what they should\n"


def test_what_is_missing_or_should_not_be_there_is_named(contents, tmp_path, capsys):
    names = [name for name in contents.NEEDED if name != "pane_keras/py.typed"]
    wheel, sdist = packages(tmp_path, [*names, "tests/test_laws.py", "pane_keras/__pycache__/laws.pyc"])
    assert contents.main([wheel, sdist]) == 1
    lacks, has = "lacks pane_keras/py.typed", "has pane_keras/__pycache__/laws.pyc"
    told = ((wheel, lacks), (wheel, "has tests/test_laws.py"), (wheel, has), (sdist, lacks), (sdist, has))
    lines = [f"{path} {what}" for path, what in told]
    assert capsys.readouterr().out.splitlines() == lines


def test_every_file_that_a_package_needs_is_in_the_checkout(contents):
    assert [name for name in contents.NEEDED if not (ROOT / name).is_file()] == []
