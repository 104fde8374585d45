"""`Expression`: a query as it will be contracted, readable before anything runs."""

from dataclasses import dataclass

from pane_keras.contraction import describe


@dataclass(frozen=True)
class Expression:
    """The tensor networks of a pair, one for each chain between junctions of the graph.

    Attributes:
        chains: The chains, from the source to the target.
        source, target: Names of the two layers.
    """

    chains: tuple
    source: str
    target: str

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

    def __str__(self):
        lines = [f"{self.source} -> {self.target}: {len(self.chains)} chain(s), channel a = (sum, difference)"]
        for number, (chain, info) in enumerate(zip(self.chains, self.infos()), 1):
            lines += ["", f"chain {number}: {info.eq}"]
            lines += [line for o in chain.operands for line in _operand_lines(o)]
            lines += ["  " + line.strip() for line in str(info).splitlines() if line.strip()]
        return "\n".join(lines)


def _operand_lines(operand):
    """One line for the operand, and one for each of its channels with the elementary tensors it stands for."""
    yield f"  {operand.name:32} {operand.kind:24} {operand.shape}"
    for channel, difference in (("S", False), ("D", True)):
        yield f"    {channel} = " + " ".join(map(str, operand.factors(difference)))


def _one_row(chain):
    last = chain.operands[-1].shape
    return last[0], last[1], 1, last[2]
