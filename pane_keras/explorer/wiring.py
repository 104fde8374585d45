"""Small steps that both panels of the explorer take with ipywidgets."""

import contextlib


def watch(widget, listener):
    """Calls `listener(value)` when the user changes a widget's value, and not when `silent` code does."""
    widget.pane_silent = False
    widget.observe(lambda change: None if widget.pane_silent else listener(change["new"]), "value")


@contextlib.contextmanager
def silent(*widgets):
    """Within it, changed values are not told to listeners."""
    for widget in widgets:
        widget.pane_silent = True
    try:
        yield
    finally:
        for widget in widgets:
            widget.pane_silent = False


def put(widget, value, **traits):
    """Sets the value of a widget, and others of its traits, without telling listeners."""
    with silent(widget):
        for name, trait in traits.items():
            if getattr(widget, name) != trait:
                setattr(widget, name, trait)
        widget.value = value


def offer(dropdown, layers, chosen):
    """Lists layers in a dropdown and shows which one is chosen."""
    put(dropdown, chosen, options=tuple((str(layer), layer.name) for layer in layers))
