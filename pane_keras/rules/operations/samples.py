"""What every rule of an operation has to refuse: arithmetic between the samples of a batch."""

from pane_keras.errors import UnsupportedLayerError


def refuse_axis(operation, axes, rank):
    """Raises where an operation works along the batch axis.

    Args:
        operation: The operation.
        axes: Its axis or axes; None for all of them.
        rank: Number of axes of its input.
    """
    if axes is None or 0 in [axis % rank for axis in ([axes] if isinstance(axes, int) else axes)]:
        refuse(operation)


def refuse_shape(operation, x, y):
    """Raises where an output does not have the batch of the input as its first axis."""
    if not y.shape or y.shape[0] != x.shape[0]:
        refuse(operation)


def refuse(operation):
    """Raises: the operation mixes the samples of a batch."""
    raise UnsupportedLayerError(
        f"The operation {operation.name!r} (keras.ops, class {type(operation).__name__}) works along the batch axis, "
        "so what it emits for one sample depends on the others. Name the axes behind the batch axis instead."
    )
