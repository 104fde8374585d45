"""`pane-keras layers`: the layers of a model, their shapes and what each is treated as."""

from pane_keras.commands.console import Console
from pane_keras.errors import UnsupportedLayerError
from pane_keras.loading import load_model
from pane_keras.model_report import report
from pane_keras.reading import read_graph


def run(arguments):
    """Prints the table of a model's layers.

    Args:
        arguments: The parsed arguments `model` and `json`.

    Raises:
        UnsupportedLayerError: A layer is unsupported; the table has been printed.
    """
    with Console(arguments.json) as console:
        model = load_model(arguments.model)
        inputs = {spec.name: tuple(spec.shape)[1:] for spec in read_graph(model).specs}
        treated = report(model)
        said = ", ".join(f"input {name!r} {shape}" for name, shape in inputs.items())
        console.say(f"{model.name}: {said}\n{treated}")
        console.finish("layers", **_document(model, arguments.model, inputs, treated))
    if not treated.ok:
        raise UnsupportedLayerError(treated.unsupported[0].note)


def _document(model, source, inputs, treated):
    layers = [
        {"name": t.name, "class": t.layer, "output_shape": t.shape, "treated_as": t.group, "because": t.note}
        for t in treated.layers
    ]
    return {
        "model": {"name": model.name, "parameters": model.count_params(), "from": source},
        "ok": treated.ok,
        "inputs": [{"name": name, "shape": shape} for name, shape in inputs.items()],
        "layers": layers,
    }
