"""Excitations composed over the graph: chains between junctions contract, blocks that meet at a junction add up.

Paths are never enumerated: a sweep visits every junction once, in reverse topological order for a pull and in
topological order for a push, so its cost is linear in the number of layers.
"""

import itertools
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from keras import ops

from pane_keras import backend
from pane_keras.block import accumulate, closing, fork, in_range
from pane_keras.contraction import pull_chain, push_chain
from pane_keras.fusion import with_scales_in_kernels
from pane_keras.portions import entries
from pane_keras.receptive_field import landing, narrowed
from pane_keras.windows import window_of


@dataclass(frozen=True)
class Chain:
    """Operands between two junctions, listed from source to target."""

    source: int
    target: int
    operands: tuple

    def swept(self, careful):
        """Returns the operands as a sweep contracts them: scales of channels go into kernels, if their range allows."""
        return self.operands if careful else with_scales_in_kernels(self.operands)


class Composition:
    """The excitations on all paths between source slots and one target slot.

    Args:
        record: What a forward pass recorded.
        sources: Slots that the rows end on (or start from).
        target: Slot that the rows start from (or end on).
        edges: The excitations to compose; by default all of the record.
        told_apart: Slots below the cut of `split_below`, see `told_apart`; by default everything is told apart.
    """

    def __init__(self, record, sources, target, edges=None, told_apart=None):
        self.sources = tuple(sources)
        self.target = target
        edges = _between(record.edges if edges is None else edges, self.sources, target)
        self.connected = bool(edges) or target in self.sources
        self._blocked = record.slots[target].blocks_sum
        self._values = {slot: record.slots[slot].value for slot in (*self.sources, target)}
        self._edges = list(_unmasked(record, edges, self.sources, told_apart))
        self.chains = tuple(_chains(self._edges, {*self.sources, target}))

    def pull(self, weights, units=None):
        """Returns {source: block} for weights (rows, batch, *shape) that close the target's leg.

        Sources without a path are missing. `units` are flat indices, (rows,), where each row selects one unit.
        """
        sweep = partial(self._sweep, self.target, True, self.sources, self._window(units))
        return self._pulled(sweep, weights, units)

    def pull_within(self, weights, units=None):
        """Returns (block over the one source, window): the rows come as what lies inside the `Window`, or None: whole.

        Outside of it they are zero.
        """
        window = self._window(units)
        reached = self._landing(window)
        sweep = partial(self._sweep, self.target, True, self.sources, window, placed=reached is None)
        return self._pulled(sweep, weights, units)[self.sources[0]], reached

    def push(self, weights, units=None):
        """Returns the block on the target's leg for weights that close the leg of the one source."""
        source = self.sources[0]
        sweep = partial(self._sweep, source, False, (self.target,), None)
        return _carefully(sweep, weights, self._alive(weights, units, source, True), units)[self.target]

    @property
    def work(self):
        """Multiply-adds of one row, of both channels, over all edges."""
        return sum(operand.work for operand in self.operands)

    def alive(self, units):
        """Returns which flat units of the target, in each sample, its first stage does not make a zero excitation.

        Boolean tensor (units * batch,), the batch running fastest.
        """
        return self._alive_units(units, self.target, self._blocked)

    def picked_work(self, pull):
        """Work that a row of one unit is spared: coefficients of the first linear layer it meets are looked up."""
        end = self.target if pull else self.sources[0]
        while True:
            here = [edge for edge in self._edges if edge[pull] == end]
            if len(here) != 1:
                return 0
            end, operand = here[0][not pull], here[0][2]
            if not operand.keeps_units:
                return operand.picked_work

    @property
    def operands(self):
        """The operands of all edges, in topological order."""
        return [operand for *_, operand in self._edges]

    @property
    def leaving(self):
        """The operands of each chain that ends at the target, from source to target."""
        return [chain.operands for chain in self.chains if chain.target == self.target]

    def tensors(self):
        """Yields the signals and the kernels of all edges: what their coefficients are made of."""
        for operand in self.operands:
            yield from (operand.x, operand.out, *operand.kernels)

    @property
    def widest(self):
        """Entries of the largest signal on the way, over the whole batch."""
        return max((entries(signal) for operand in self.operands for signal in (operand.x, operand.out)), default=0)

    def waists(self):
        """Yields (slot, work above, work below) of the slots between the ends that every path runs through.

        Slots are in topological order, so those are the ones that no edge passes over.
        """
        furthest, below = 0, 0
        edges = sorted(self._edges, key=lambda edge: edge[0])
        arriving = sorted(self._edges, key=lambda edge: edge[1])
        for slot, group in itertools.groupby(edges, key=lambda edge: edge[0]):
            if slot >= furthest and slot not in self.sources:
                below = sum(operand.work for _, target, operand in arriving if target <= slot)
                yield slot, self.work - below, below
            furthest = max(furthest, *(target for _, target, _ in group))

    def _pulled(self, sweep, weights, units):
        return _carefully(sweep, weights, self._alive(weights, units, self.target, self._blocked), units)

    def _window(self, units):
        return None if units is None else window_of(units, self._values[self.target].shape[1:])

    def _landing(self, window):
        """The window of the source that one of the target reaches, if it does so through a single chain."""
        if window is None or len(self.chains) != 1:
            return None
        return landing(self.chains[0].operands, window)

    def _alive_units(self, units, slot, masked):
        values = self._values[slot]
        flat = ops.take(ops.reshape(values, (-1, math.prod(values.shape[1:]))), np.array(units), axis=1)
        alive = flat != 0 if masked else ops.ones_like(flat, dtype="bool")
        return ops.reshape(ops.transpose(alive), (-1,))

    def _alive(self, weights, units, slot, masked):
        """Rows with a weight on a unit that its first stage does not make a zero excitation: (rows * batch,)."""
        if units is not None:
            return self._alive_units(units, slot, masked)
        weights = weights * ops.cast(self._values[slot] != 0, weights.dtype) if masked else weights
        return ops.any(ops.reshape(weights != 0, (-1, math.prod(backend.dims(weights)[2:]))), axis=-1)

    def _sweep(self, closed, pull, ends, window, block, careful=False, placed=True):
        arrived, done = {closed: [block]}, {}
        for junction, chains in _visits(self.chains, pull):
            block = accumulate(arrived.pop(junction))
            done[junction] = block if junction in ends else None
            start = fork(block) if len(chains) > 1 else block
            for chain in chains:
                contract, end = (pull_chain, chain.source) if pull else (push_chain, chain.target)
                rows, operands = start, chain.swept(careful)
                if window is not None and junction == closed:
                    rows, operands = narrowed(start, operands, window, placed)
                arrived.setdefault(end, []).append(contract(rows, operands))
        done.update({end: accumulate(blocks) for end, blocks in arrived.items()})
        return {end: done[end] for end in ends if end in done}


def composed(record, sources, target, edges=None, cut=None):
    """Returns the `Composition` of a query, which later queries of the same record share.

    Args:
        record, sources, target, edges: As for `Composition`.
        cut: Slot of the layer at and below which positive is told from negative; by default everywhere.
    """
    asked = (tuple(sources), target, None if edges is None else tuple(edges), cut)
    if asked not in record.compositions:
        told = None if cut is None else told_apart(record, cut)
        record.compositions[asked] = Composition(record, sources, target, edges, told)
    return record.compositions[asked]


def _carefully(sweep, weights, alive, units):
    """Sweeps again, normalising before every stage and keeping kernels as they are, where that left the dtype's range.

    That takes units that only tiny weights reach, or weights that grew or shrank by millions after the model was
    wrapped, when their gains were read. Inside a graph the host cannot look at the result, and the gains hold.
    """
    swept = sweep(closing(weights, units=units))
    if all(in_range(block, alive) for block in swept.values()):
        return swept
    return sweep(closing(weights, room=0, units=units), careful=True)


def _visits(chains, pull):
    """Yields (junction, chains that leave it in the direction of the sweep) in the order of the sweep."""
    leaving = {}
    for chain in chains:
        leaving.setdefault(chain.target if pull else chain.source, []).append(chain)
    return sorted(leaving.items(), reverse=pull)


def _between(edges, sources, target):
    """Returns the edges on a path from a source to the target, in topological order."""
    reached = set(sources)
    forward = []
    for edge in edges:
        if edge.source in reached:
            reached.add(edge.target)
            forward.append(edge)
    needed = {target}
    kept = []
    for edge in reversed(forward):
        if edge.target in needed:
            needed.add(edge.source)
            kept.append(edge)
    return kept[::-1]


def told_apart(record, cut):
    """Returns the slots that the layer of the slot `cut` wrote, and all slots that those depend on.

    A stage that writes one of them tells positive from negative; any other carries the sum in both channels.
    """
    layer = {stage.output: stage.name for stage in record.stages}.get(cut)
    told = {cut, *(stage.output for stage in record.stages if layer is not None and stage.name == layer)}
    for stage in reversed(record.stages):
        if stage.output in told:
            told.update(edge.source for edge in stage.edges)
    return told


def _unmasked(record, edges, sources, told):
    """Yields (source, target, operand) with the masks left out that a neighbour's zeros make redundant.

    At a source of the query nothing comes before, so there the masks stay. An operand above the cut is as one of single
    terms: D := S.
    """
    for edge in edges:
        slot, operand = record.slots[edge.source], edge.operand
        above = told is not None and edge.target not in told
        if above:
            operand = operand.as_single()
        if edge.source not in sources:
            mixed = above or (told is not None and edge.source not in told)
            operand = operand.without_masks(slot.blocks_sum, slot.blocks_sum if mixed else slot.blocks_difference)
        yield edge.source, edge.target, operand


def _chains(edges, ends):
    edges = list(edges)
    into, out_of = {}, {}
    for edge in edges:
        into.setdefault(edge[1], []).append(edge)
        out_of.setdefault(edge[0], []).append(edge)

    def junction(slot):
        return slot in ends or len(into.get(slot, ())) != 1 or len(out_of.get(slot, ())) != 1

    for source, target, operand in edges:
        if junction(source):
            operands = [operand]
            while not junction(target):
                _, target, operand = out_of[target][0]
                operands.append(operand)
            yield Chain(source, target, tuple(operands))
