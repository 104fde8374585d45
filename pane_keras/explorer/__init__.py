"""The explorer: choose a unit, see what in an earlier layer excites and inhibits it, and go on from there."""

from pane_keras.extras import needed


def explore(traces, pictures=None, class_names=None, *, names=None, channel_axis=-1):
    """Returns the explorer of a trace, a widget for Jupyter: a cell that ends with it shows it.

    It starts with the top class of the first sample. Clicks are answered fastest on traces of one sample each, since
    a query is answered for a whole batch.

    Args:
        traces: A `Trace`, or a list of them.
        pictures: A picture for each sample of all traces: arrays (height, width) or (height, width, channels). By
            default the values of the model's first input.
        class_names: A name for each class of the logits.
        names: A name for each sample; by default "sample 1", "sample 2", ...
        channel_axis: Axis of the channels in a sample of every layer: -1, or 0 for `channels_first`.

    Returns:
        An `ipywidgets.VBox` with the attribute `state`: what is chosen, and the answer.

    Raises:
        MissingExtraError: ipywidgets, anywidget or matplotlib is not installed.
        InputError: Something else than traces, or another number of pictures, names or classes.
        ReleasedError: A trace was released.
        NoPathError: Nothing excites the model's output.
    """
    for package in ("ipywidgets", "anywidget"):
        needed(package, package, "explore")
    from pane_keras.explorer.samples import samples_of
    from pane_keras.explorer.state import State
    from pane_keras.explorer.view import Explorer

    return Explorer(State(samples_of(traces, pictures, names), class_names, channel_axis))
