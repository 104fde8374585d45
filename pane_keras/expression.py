"""`Expression`: a query as it will be contracted, readable before anything runs."""

from collections.abc import Callable
from dataclasses import dataclass

from pane_keras.contraction import describe
from pane_keras.display.expressions import expression_html, expression_text
from pane_keras.plain_network import PlainNetwork, plain_network


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

    def infos(self) -> list:
        """Returns opt_einsum's `PathInfo` for each chain, for one row at the target."""
        return [describe([o.shape for o in chain.operands], _one_row(chain), pull=True) for chain in self.chains]

    @property
    def equations(self) -> list[str]:
        """The einsum of each chain. Legs: a channel, b batch, c row, then one for each signal of the chain."""
        return [info.eq for info in self.infos()]

    @property
    def flops(self) -> int:
        """FLOPs if every operand were dense: an upper bound, since the native kernels use its structure."""
        return sum(int(info.opt_cost) for info in self.infos())

    @property
    def largest_intermediate(self) -> int:
        """Entries of the largest intermediate tensor."""
        return max((int(info.largest_intermediate) for info in self.infos()), default=0)

    def _repr_html_(self):
        return expression_html(self)

    def to_dense_network(self, channel: str = "sum") -> PlainNetwork:
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
        return expression_text(self)

    __repr__ = __str__


def _one_row(chain):
    last = chain.operands[-1].shape
    return last[0], last[1], 1, last[2]
