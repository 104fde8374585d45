"""`Choice`: one question that the explorer puts to a trace."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One question to a trace.

    Attributes:
        sample: Index into the samples.
        target, source: Names of the layers.
        unit: Index of the unit of the target that is explained; of a whole channel, any of its units.
        whole: Whether the unit's whole channel is explained.
        channel: The channel of the source that is drawn, or None for all of them summed.
        contribution: Whether coefficients are multiplied by the signal.
    """

    sample: int
    target: str
    unit: tuple
    source: str
    whole: bool = False
    channel: int | None = None
    contribution: bool = False
