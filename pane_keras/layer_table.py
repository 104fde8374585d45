"""The table of Keras's layers in docs/layers.md, made from the registry: `python -m pane_keras.layer_table`."""

import keras

from pane_keras import rules as _rules  # noqa: F401  registers the rules of Keras's layers
from pane_keras.registry import EXCITED, REFUSED, TRANSPARENT, registered

_TITLES = {
    EXCITED: "Excited: coefficients by the law in the table",
    TRANSPARENT: "Transparent at inference: y = x, or nothing at all",
    REFUSED: "Refused: no deterministic linear form at a sample",
}


def layer_rules():
    """Returns {name: Rule} for every layer class that `keras.layers` exports; None for a class in no group."""
    by_class, by_name = registered()
    exported = (getattr(keras.layers, name) for name in dir(keras.layers))
    classes = {cls.__name__: cls for cls in exported if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)}
    return {name: by_class.get(cls) or by_name.get(name) for name, cls in sorted(classes.items())}


def markdown():
    """Returns the table as Markdown, one section a group."""
    rules = layer_rules()
    lines = ["# Layers of Keras", "", "Made from the registry by `python -m pane_keras.layer_table`."]
    for group, title in _TITLES.items():
        rows = [f"| {name} | {_cell(rule)} |" for name, rule in rules.items() if rule and rule.group == group]
        lines += [
            "",
            f"## {title}",
            "",
            "| layer | law |" if group != REFUSED else "| layer | why |",
            "| --- | --- |",
            *rows,
        ]
    return "\n".join([*lines, ""])


def _cell(rule):
    return rule.summary.replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
