"""What an expression shows: its network as a diagram, and each chain's einsum, path and operands."""

import html
import itertools

from pane_keras.display.diagram import diagram
from pane_keras.display.network import junctions_of, legs_of, network_of
from pane_keras.display.tables import Table, number, page, title

OPEN = 4
"""An expression of no more chains shows their operands at once; of more, on a click."""
STEPS = 8
"""Steps of a long path that HTML shows at either end; text shows all."""


def expression_html(expression):
    """Returns an `Expression` as HTML: the diagram, and below it the same in words, chain by chain."""
    infos = expression.infos()
    said = f"{expression.source} → {expression.target}: {len(expression.chains)} chain(s)"
    drawn = diagram(network_of(expression.chains, expression.source, expression.target))
    opened = ' open=""' if len(infos) <= OPEN else ""
    chains = (_chain_html(opened, *each) for each in _ends(expression, infos))
    return page(title("Expression", said), f'<div style="overflow:auto">{drawn}</div>', *chains)


def expression_text(expression):
    """Returns an `Expression` as text: where each chain leads, its einsum, operands with their legs, and path."""
    many = f"{len(expression.chains)} chain(s), channel a = (sum, difference), batch b, row c"
    lines = [f"{expression.source} -> {expression.target}: {many}"]
    for count, chain, info, start, end in _ends(expression, expression.infos()):
        lines += ["", f"chain {count}: {info.eq}", f"  from {start} to {end}"]
        lines += [line for each in zip(chain.operands, _legs(chain)) for line in _operand_lines(*each)]
        lines += ["  " + line.strip() for line in str(info).splitlines() if line.strip()]
    return "\n".join(lines)


def _ends(expression, infos):
    """Yields (number, chain, info, start, end) of each chain, the last two in words."""
    junctions = junctions_of(expression.chains, expression.source, expression.target)
    words = {key: _place(junction) for key, junction in junctions.items()}
    for count, (chain, info) in enumerate(zip(expression.chains, infos), 1):
        yield count, chain, info, words[chain.source], words[chain.target]


def _place(junction):
    role = "" if junction.role == "junction" else f", open leg of the {junction.role}"
    return f"{junction.name} {junction.shape}{role}"


def _legs(chain):
    """For each operand, the legs that it joins, in words."""
    legs = [f"{leg.letter} {leg.shape}" for leg in legs_of(chain)]
    return [f"{below} -> {above}" for below, above in itertools.pairwise(legs)]


def _chain_html(opened, count, chain, info, start, end):
    head = ("layer", "kind", "legs", "channel, batch, out, in", "D as elementary tensors")
    rows = [
        (o.name, o.kind, legs, str(o.shape), " · ".join(map(str, o.factors(difference=True))))
        for o, legs in zip(chain.operands, _legs(chain))
    ]
    cost, largest = (number(float(value)) for value in (info.opt_cost, info.largest_intermediate))
    facts = f"{len(rows)} operand(s), {cost} FLOPs dense, largest intermediate {largest} entries"
    said = html.escape(f"chain {count}: {start} → {end}, {facts}")
    equation = f'<p style="overflow-wrap:anywhere"><code>{html.escape(info.eq)}</code><br/>path {_path(info.path)}</p>'
    table = Table(head, tuple(rows)).html()
    return f"<details{opened}><summary>{said}</summary>{equation}{table}</details>"


def _path(steps):
    """The steps of a path, of many the first and the last ones."""
    shown = [str(step) for step in steps]
    hidden = len(shown) - 2 * STEPS
    return ", ".join(shown if hidden < 2 else [*shown[:STEPS], f"... {hidden} more ...", *shown[-STEPS:]])


def _operand_lines(operand, legs):
    """One line for the operand, and one for each of its channels with the elementary tensors it stands for."""
    yield f"  {operand.name:32} {operand.kind:24} {operand.shape}  {legs}"
    for channel, difference in (("S", False), ("D", True)):
        yield f"    {channel} = " + " ".join(map(str, operand.factors(difference)))
