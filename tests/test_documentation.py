"""What the documentation shows runs and prints what it says, and the tables in it are those of this version."""

import importlib
import pkgutil
import re

import pages
import pytest
from skimage import data, io

import pane_keras
from pane_keras import cli
from pane_keras.errors import PaneError
from pane_keras.layer_table import layer_rules, markdown

DOCS, ROOT = pages.DOCS, pages.ROOT
_ALL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
PAGES = [path for path in _ALL if pages.blocks(path)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to run in, but for a picture of one's own."""
    io.imsave(tmp_path / "cat.jpg", data.chelsea(), check_contrast=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("own_registry", "folder")
@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_page_runs_as_written(page):
    pages.run(page)


def test_pages_with_code_are_found():
    names = {str(path.relative_to(ROOT)) for path in PAGES}
    how_to = {str(path.relative_to(ROOT)) for path in (DOCS / "how_to").glob("*.md")} - {"docs/how_to/index.md"}
    assert len(how_to) >= 8
    assert names >= how_to | {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/concepts.md", "docs/own_layers.md"}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("print('a', 2.0)\n```\n\n```text\na 1.0\n", "prints:\na 2.0"),
        ("print('a')\n```\n\n```text\nb\n", "prints:\na"),
        ("print('a')\n```\n\n```text\na 1\n", "prints:\na"),
        ("print(float('nan'))\n```\n\n```text\n1.0\n", "prints:\nnan"),
        ("raise KeyError('missing')\n", "missing"),
    ],
)
def test_a_page_that_says_what_is_not_so_fails(tmp_path, block, message):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```python\n{block}```\n")
    with pytest.raises((AssertionError, KeyError), match=message):
        pages.run(page)


def test_numbers_may_differ_a_little_and_words_may_not(tmp_path):
    pages.assert_printed("loss 100.5 of 1e3\n", "loss 100.0  of 1.001e+03\n", "here")
    with pytest.raises(AssertionError, match="here prints"):
        pages.assert_printed("loss 100.5\n", "cost 100.5\n", "here")


def test_a_page_has_one_namespace_and_nothing_is_substituted_but_the_weights(tmp_path):
    page = tmp_path / "page.md"
    page.write_text('```python\na = dict(weights="imagenet", of="imagenet")\n```\ntext\n```python\nb = a\n```\n')
    assert pages.run(page)["b"] == {"weights": None, "of": "imagenet"}


def test_every_layer_that_keras_exports_is_in_a_group():
    missing = [name for name, rule in layer_rules().items() if rule is None]
    assert not missing, f"Keras has new layers: give them a rule, or refuse them with the reason: {missing}"


def test_the_table_of_layers_is_current():
    assert (DOCS / "layers.md").read_text() == markdown(), "python -m pane_keras.layer_table > docs/layers.md"


def test_every_law_in_the_table_is_said():
    assert all(rule.summary for rule in layer_rules().values())


def test_every_error_has_its_cause_and_remedy():
    """Errors of the explorer and the like are found as well: every module is imported."""
    for module in pkgutil.walk_packages(pane_keras.__path__, "pane_keras."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    told = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \| (.+) \|$", (DOCS / "errors.md").read_text(), re.MULTILINE)
    known = {cls.__name__: cls for cls in _subclasses(PaneError) if cls.__module__.startswith("pane_keras")}
    assert {name for name, *_ in told} == set(known)
    for name, also, *_ in told:
        assert also in {base.__name__ for base in known[name].__mro__}


def _subclasses(cls):
    return {sub for child in cls.__subclasses__() for sub in {child, *_subclasses(child)}}


def test_every_command_and_option_is_told():
    text = (DOCS / "command_line.md").read_text()
    commands = next(a for a in cli._parser()._actions if a.dest == "command").choices
    sections = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert set(commands) == set(sections) - {"Exit codes"}
    shared = "Options for results, of `demo` and `explain`"
    for name, parser in commands.items():
        told = sections[name] + (sections["explain"] if shared in sections["explain"] else "")
        options = [o for a in parser._actions for o in a.option_strings if o.startswith("--") and o != "--help"]
        assert [option for option in options if f"`{option}" not in told] == [], name


def test_every_exit_code_is_told_as_the_help_tells_it():
    text = (DOCS / "command_line.md").read_text().split("## Exit codes")[1]
    table = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)}
    helped = re.findall(r"^  (\d+) +(.+)$", cli._EXIT, re.MULTILINE)
    assert list(table) == [int(code) for code, _ in helped]
    for code, meaning in helped:
        assert table[int(code)].startswith(re.split(r"[;:(]", meaning)[0].strip())


def test_the_two_commands_of_the_readme_are_those_of_ci():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert 'pip install ".[test]" && python -m pytest -n 2\n' in readme
    assert re.search(r'pip install .*"\.\[test\]" && python -m pytest -n 2\n', ci)
    assert len(readme.splitlines()) <= 110
