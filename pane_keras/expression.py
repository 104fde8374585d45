"""`Expression`: a query as it will be contracted, readable before anything runs."""

import html
from collections.abc import Callable
from dataclasses import dataclass

from pane_keras.contraction import describe
from pane_keras.plain_network import plain_network


@dataclass(frozen=True)
class Expression:
    """The tensor networks of a pair, one for each chain between junctions of the graph. Shows as HTML in a notebook.

    Attributes:
        chains: The chains, from the source to the target.
        source, target: Names of the two layers.
        segments: Function without arguments that returns the stretches of `to_dense_network`.
    """

    chains: tuple
    source: str
    target: str
    segments: Callable = tuple

    def infos(self):
        """Returns opt_einsum's `PathInfo` for each chain, for one row at the target."""
        return [describe([o.shape for o in chain.operands], _one_row(chain), pull=True) for chain in self.chains]

    @property
    def equations(self):
        """The einsum of each chain. Legs: a channel, b batch, c row, then one for each signal of the chain."""
        return [info.eq for info in self.infos()]

    @property
    def flops(self):
        """FLOPs if every operand were dense: an upper bound, since the native kernels use its structure."""
        return sum(int(info.opt_cost) for info in self.infos())

    @property
    def largest_intermediate(self):
        """Entries of the largest intermediate tensor."""
        return max((int(info.largest_intermediate) for info in self.infos()), default=0)

    def _repr_html_(self):
        title = f"{html.escape(self.source)} → {html.escape(self.target)}: {len(self.chains)} chain(s)"
        return f"<h4>{title}</h4>" + "".join(_html_chain(*each) for each in zip(self.chains, self.infos()))

    def to_dense_network(self, channel="sum"):
        """Returns the `PlainNetwork` of the pair: NumPy arrays and one einsum, for small layers.

        Args:
            channel: "sum" for S = P + N, "difference" for D = P - N; P = (S + D) / 2 and N = (S - D) / 2.

        Raises:
            ValueError: Another channel was asked for.
        """
        if channel not in ("sum", "difference"):
            raise ValueError(f"Expected channel='sum' or 'difference'. Received: {channel!r}.")
        return plain_network(self.segments(), channel == "difference")

    def __str__(self):
        lines = [f"{self.source} -> {self.target}: {len(self.chains)} chain(s), channel a = (sum, difference)"]
        for number, (chain, info) in enumerate(zip(self.chains, self.infos()), 1):
            lines += ["", f"chain {number}: {info.eq}"]
            lines += [line for o in chain.operands for line in _operand_lines(o)]
            lines += ["  " + line.strip() for line in str(info).splitlines() if line.strip()]
        return "\n".join(lines)


def _html_chain(chain, info):
    facts = (
        f"{float(info.opt_cost):.3g} FLOPs dense, largest intermediate {float(info.largest_intermediate):.3g} entries"
    )
    head = "<tr><th>layer</th><th>kind</th><th>channel, batch, out, in</th><th>D as elementary tensors</th></tr>"
    return (
        f"<p><code>{html.escape(info.eq)}</code><br>{facts}, path {html.escape(str(info.path))}</p>"
        f"<table>{head}{''.join(_html_rows(chain))}</table>"
    )


def _html_rows(chain):
    for operand in chain.operands:
        factors = " · ".join(map(str, operand.factors(difference=True)))
        cells = (operand.name, operand.kind, operand.shape, factors)
        yield "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _operand_lines(operand):
    """One line for the operand, and one for each of its channels with the elementary tensors it stands for."""
    yield f"  {operand.name:32} {operand.kind:24} {operand.shape}"
    for channel, difference in (("S", False), ("D", True)):
        yield f"    {channel} = " + " ".join(map(str, operand.factors(difference)))


def _one_row(chain):
    last = chain.operands[-1].shape
    return last[0], last[1], 1, last[2]
