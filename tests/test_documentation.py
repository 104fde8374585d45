"""What the documentation shows runs, and the tables in it are those of this version."""

import pathlib
import re

import pytest

from pane_keras.layer_table import layer_rules, markdown

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.mark.usefixtures("own_registry")
def test_layers_of_your_own_run_as_written():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "own_layers.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    names = {"__name__": "own_layers"}
    for block in blocks:
        exec(block, names)


def test_every_layer_that_keras_exports_is_in_a_group():
    missing = [name for name, rule in layer_rules().items() if rule is None]
    assert not missing, f"Keras has new layers: give them a rule, or refuse them with the reason: {missing}"


def test_the_table_of_layers_is_current():
    assert (DOCS / "layers.md").read_text() == markdown(), "python -m pane_keras.layer_table > docs/layers.md"


def test_every_law_in_the_table_is_said():
    assert all(rule.summary for rule in layer_rules().values())
