"""Which way a pair is contracted: from the target, from the source, or from a layer in the middle.

A sweep costs the multiply-adds of the native kernels for every row that it carries. From the target, one row for each
unit of the target; from the source, one for each of its units. Where every path runs through a narrow layer between
them, rows can be swept from there to both ends, or from both ends to there, and multiplied: T M S multiply-adds more.
"""

from typing import NamedTuple

TARGET, SOURCE, MIDDLE = "target", "source", "middle"

# A matrix product runs at more multiply-adds a second than the kernels of a sweep do.
_PRODUCT = 1.0


class Plan(NamedTuple):
    """One way to contract a pair.

    Attributes:
        start: TARGET, SOURCE or MIDDLE.
        cost: Multiply-adds of the native kernels.
        slot: The slot in the middle, or None.
    """

    start: str
    cost: float
    slot: int | None = None


def plans(composition, rows, columns, widths):
    """Returns all `Plan`s for `rows` rows of the target and `columns` of the source, the cheapest first.

    Args:
        composition: `Composition` with one source.
        rows, columns: Rows that are asked for at the target, and at the source.
        widths: Function slot -> number of its units.
    """
    spared = {pull: composition.picked_work(pull) for pull in (True, False)}
    found = [
        Plan(TARGET, rows * (composition.work - spared[True])),
        Plan(SOURCE, columns * (composition.work - spared[False])),
    ]
    for slot, above, below in composition.waists():
        width = widths(slot)
        above, below = above - spared[True] * (rows <= width), below - spared[False] * (columns <= width)
        product = 2 * rows * width * columns * _PRODUCT
        found.append(Plan(MIDDLE, min(rows, width) * above + min(columns, width) * below + product, slot))
    return sorted(found, key=lambda plan: plan.cost)
