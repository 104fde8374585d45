"""`pane-keras layers`: the layers of a model, their shapes and what each is treated as."""

from pane_keras.errors import UnsupportedLayerError
from pane_keras.loading import load_model
from pane_keras.model_report import report
from pane_keras.reading import read_graph


def run(arguments):
    """Prints the table of a model's layers.

    Args:
        arguments: The parsed argument `model`.

    Raises:
        UnsupportedLayerError: A layer is unsupported; the table has been printed.
    """
    model = load_model(arguments.model)
    inputs = ", ".join(f"input {spec.name!r} {tuple(spec.shape)[1:]}" for spec in read_graph(model).specs)
    treated = report(model)
    print(f"{model.name}: {inputs}")
    print(treated)
    if not treated.ok:
        raise UnsupportedLayerError(treated.unsupported[0].note)
