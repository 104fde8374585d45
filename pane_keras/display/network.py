"""The tensor network of an expression as plain data: junctions, and lines of boxes between them, long ones folded."""

import itertools
from typing import NamedTuple

from pane_keras.contraction import symbol

CHAIN, CHAINS = 3, 2
"""Operands that a long chain shows at either end: the only chain, and one of several."""
JUNCTIONS = 3
"""Junctions that a large graph shows at either end."""
FEW = 9
"""Junctions up to which a graph is drawn as it is."""
PARALLEL = 4
"""Chains between the same two junctions that are drawn; of more, the first ones and their number."""
_FIRST_LEG = 3  # the letters before it are the channel, the batch and the row


class Junction(NamedTuple):
    """Where chains meet or end.

    Attributes:
        name: The layer that emits there; for a fold, what it stands for.
        shape: Of a sample, or None.
        role: "source", "target", "both" (no layer lies between them), "junction" or "fold".
    """

    name: str
    shape: tuple | None
    role: str = "junction"


class Box(NamedTuple):
    """An operand, or a fold of several: then `kind` and `shape` are empty."""

    name: str
    kind: str = ""
    shape: str = ""


class Leg(NamedTuple):
    """The index that two operands share: its letter in the chain's equation, and the signal's shape."""

    letter: str
    shape: tuple


class Line(NamedTuple):
    """A chain as it is drawn.

    Attributes:
        start, end: Keys of its junctions.
        number: Of the chain, from 1; 0 for a fold of several.
        boxes: From the source to the target.
        legs: Before, between and after the boxes: one more than there are boxes; None where a fold has no letter.
    """

    start: int
    end: int
    number: int
    boxes: tuple
    legs: tuple


class Network(NamedTuple):
    """What is drawn.

    Attributes:
        junctions: {key: Junction}; keys grow from the source to the target.
        lines: All `Line`s.
        batch: Samples, or None.
    """

    junctions: dict
    lines: tuple
    batch: object


def network_of(chains, source, target):
    """Returns the `Network` of a query.

    Args:
        chains: The `Chain`s of its `Composition`.
        source, target: Names of the two layers.
    """
    ends = CHAIN if len(chains) == 1 else CHAINS
    lines = [line_of(number, chain, ends) for number, chain in enumerate(chains, 1)]
    batch = chains[0].operands[0].shape[1] if chains else None
    network = Network(junctions_of(chains, source, target), tuple(lines), batch)
    return _parallel_folded(_middle_folded(network))


def legs_of(chain):
    """Returns the `Leg`s of a chain, from its source to its target: one more than it has operands."""
    shapes = [chain.operands[0].in_shape, *(operand.out_shape for operand in chain.operands)]
    return tuple(Leg(symbol(k + _FIRST_LEG), shape) for k, shape in enumerate(shapes))


def junctions_of(chains, source, target):
    """Returns {slot: Junction}. The ends have the names that the pair was asked for by."""
    if not chains:
        return {0: Junction(target, None, "both")}
    found = {}
    for chain in chains:
        first, last = chain.operands[0], chain.operands[-1]
        found.setdefault(chain.source, Junction(source, first.in_shape, "source"))
        found[chain.target] = Junction(last.name, last.out_shape)
    last = max(found)
    return dict(sorted({**found, last: found[last]._replace(name=target, role="target")}.items()))


def line_of(number, chain, ends):
    """Returns the `Line` of a chain, folded in the middle where it is longer than two times `ends`."""
    boxes = [Box(operand.name, operand.kind, str(operand.shape)) for operand in chain.operands]
    legs, hidden = list(legs_of(chain)), len(boxes) - 2 * ends
    if hidden > 1:
        boxes[ends:-ends] = [Box(f"... {hidden} more ...")]
        legs[ends + 1 : -ends - 1] = []
    return Line(chain.source, chain.target, number, tuple(boxes), tuple(legs))


def _middle_folded(network):
    """The junctions in the middle as one. In topological order they follow each other, so no cycle comes of it."""
    keys = list(network.junctions)
    middle = keys[JUNCTIONS:-JUNCTIONS]
    if len(keys) <= FEW:
        return network
    inside = [line for line in network.lines if line.start in middle and line.end in middle]
    fold = Junction(f"... {len(middle)} more junctions, {len(inside)} chains between them ...", None, "fold")
    junctions = {key: fold if key == middle[0] else network.junctions[key] for key in keys if key not in middle[1:]}
    moved = {key: middle[0] for key in middle}
    lines = [
        line._replace(start=moved.get(line.start, line.start), end=moved.get(line.end, line.end))
        for line in network.lines
        if line not in inside
    ]
    return Network(junctions, tuple(lines), network.batch)


def _parallel_folded(network):
    lines = []
    ends = lambda line: (line.start, line.end)  # noqa: E731
    for _, group in itertools.groupby(sorted(network.lines, key=ends), key=ends):
        group = list(group)
        hidden = group[PARALLEL - 1 :] if len(group) > PARALLEL else []
        lines += group[: len(group) - len(hidden)]
        if hidden:
            box = Box(f"... {len(hidden)} more chains ...")
            lines.append(Line(*ends(hidden[0]), 0, (box,), (None, None)))
    return network._replace(lines=tuple(lines))
