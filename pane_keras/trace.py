"""`Trace`: what one forward pass emitted, layer by layer, and every query that can be put to it."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from keras import tree

from pane_keras import backend
from pane_keras.check import Report, check_record
from pane_keras.composition import composed
from pane_keras.diagnosis import Asker
from pane_keras.display.traces import TraceDisplay, emission_html, emission_text
from pane_keras.errors import NoPathError, TargetError, UnknownLayerError
from pane_keras.excitation import Excitation
from pane_keras.maps import ExcitationMap, map_of
from pane_keras.selection import class_rows, said_classes
from pane_keras.types import Tensor
from pane_keras.views import views


@dataclass(frozen=True)
class Emitted:
    """Slots that one call of a layer read, and one that it wrote.

    Attributes:
        name: How the output is asked for: the layer's name, or `name[k]` where the layer has several outputs.
        inputs, output: Slots.
        layer: The layer's name.
    """

    name: str
    inputs: tuple
    output: int
    layer: str


class Emission(NamedTuple):
    """What one layer emitted: its output, (batch, *shape), and lazy views of E+ and E-.

    For a layer with several inputs the views are lists, one view an input.
    """

    output: Tensor
    positive: Any
    negative: Any

    def __repr__(self):
        return emission_text(self)

    def _repr_html_(self):
        return emission_html(self)


def keys_of(outputs):
    """Returns the keys of a model's outputs, a dict of `Value`s, in the order in which they are flattened; else ()."""
    keys = tree.flatten({key: key for key in outputs}) if isinstance(outputs, dict) else []
    return tuple(keys) if len(keys) == len(tree.flatten(outputs)) else ()


class Trace:
    """One forward pass. Iterates over the names of the layers; `trace[name]` is an `Emission`.

    It keeps the values of the weights that it was made with. Memory is freed with the last reference to it and to its
    pairs, or by `release`.

    Attributes:
        input_names, output_names: Of the model's inputs and outputs.
        output_keys: The keys under which the model returns its outputs in a dict, in the same order; else empty.
        released: Whether `release` was called.
    """

    def __init__(self, record, emitted, input_names, input_slots, outputs, output_names, again, output_keys=()):
        self._record = record
        self._emitted = {e.name: e for e in emitted}
        self._input_slots = tuple(input_slots)
        self.input_names = input_names
        self._outputs = outputs
        self.output_names, self.output_keys = output_names, tuple(output_keys)
        self._again, self.released = again, False
        shapes = {name: tuple(record.slots[i].value.shape) for name, i in zip(input_names, self._input_slots)}
        self._display = TraceDisplay(record, emitted, shapes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._emitted)

    def __len__(self) -> int:
        return len(self._emitted)

    def __contains__(self, name: object) -> bool:
        return name in self._emitted

    def __getitem__(self, name: str) -> Emission:
        """Returns the `Emission` of a layer. Raises UnknownLayerError."""
        emitted = self._call(name)
        positive, negative = views(self._record, emitted.inputs, emitted.output, emitted.layer, len(emitted.inputs) > 1)
        return Emission(self._record.slots[emitted.output].value, positive, negative)

    def logits(self, output: str | int | None = None) -> Tensor:
        """Returns the tensor of logits: what the model emits, without a final softmax or sigmoid.

        Args:
            output: Name, key or index of the output, required where the model has several.
        """
        return self._record.slots[self._logits_slot(output)].value

    @backend.as_written
    def between(self, source: str, target: str) -> Excitation:
        """Returns the `Excitation` from the output of one layer to the output of another.

        Args:
            source: Name of a layer, or "input".
            target: Name of a layer, or "logits". The name of a final softmax layer means its logits.

        Raises:
            UnknownLayerError: No layer has this name.
            NoPathError: Nothing that the source emits excites the target.
        """
        ends = self._source(source), self._target(target)
        return Excitation(self._record, *ends, (source, target), locate=lambda name: self._call(name).output)

    @backend.as_written
    def saliency(
        self, target: Any = None, *, output: str | int | None = None, split_below: str | None = None
    ) -> ExcitationMap | Any:
        """Returns the `ExcitationMap` of a class over the input.

        Args:
            target: None for the top class of each sample, an int, or a sequence with one int a sample. Inside a graph
                nothing can be raised for a tensor of classes that lie outside: their maps are zero.
            output: Name, key or index of the output, required where the model has several.
            split_below: Name of a layer at and below which positive is told from negative; above it both carry the
                sum, which keeps the map's class-sensitivity. By default everything is told apart, as in
                the paper.

        Returns:
            Maps (batch, *input shape); a dict of them by input name where the model has several inputs.

        Raises:
            TargetError: The class lies outside, or the logits have more than one axis: use `between`.
            UnknownLayerError: No layer is called `split_below`.
            NoPathError: No input excites the logits: they are indices that an embedding looks up.
        """
        slot = self._logits_slot(output)
        logits = self._record.slots[slot].value
        if len(logits.shape) != 2:
            raise TargetError(
                f"saliency() explains classes, outputs of shape (batch, classes). This output has the shape "
                f"{tuple(logits.shape)}: ask between('input', 'logits').map(target=...) for one of its units."
            )
        cut = None if split_below is None else self._call(split_below).output
        composition = composed(self._record, self._input_slots, slot, cut=cut)
        if not composition.connected:
            raise NoPathError(self._no_path_from_inputs())
        blocks = composition.pull(class_rows(target, logits, "logits"))
        of = said_classes(target)
        maps = {
            name: map_of(blocks[i], False, signal=self._record.signal(i), over=name, of=of)
            for name, i in zip(self.input_names, self._input_slots)
            if i in blocks
        }
        asker = Asker.of(self, self._again, target, {"output": output, "split_below": split_below}, logits)
        if len(self._input_slots) > 1:
            return {name: replace(one, asker=replace(asker, name=name)) for name, one in maps.items()}
        return replace(maps[self.input_names[0]], asker=asker)

    def plot(self, target=None, pictures=None, **how):
        """Returns a matplotlib Figure of `saliency`: see `pane_keras.plotting.plot_trace`."""
        from pane_keras.plotting import plot_trace

        return plot_trace(self, target, pictures, **how)

    def check(self) -> Report:
        """Returns the self-check: local and end-to-end completeness."""
        heads = [self._head(slot) for slot in self._outputs]
        self._display.report = check_record(self._record, self._input_slots, heads)
        return self._display.report

    def release(self) -> None:
        """Frees the memory of the trace, of its pairs and of what queries kept, while names still refer to them.

        Maps that were computed stay. What is asked of the trace or of its pairs afterwards raises ReleasedError.
        """
        self._display.release()
        self._record.release()
        self._again, self.released = None, True

    def __repr__(self):
        return self._display.text()

    def _repr_html_(self):
        return self._display.html()

    def _no_path_from_inputs(self):
        starts = [stage.name for stage in self._record.stages if not stage.edges]
        ask = f"between({starts[0]!r}, 'logits').map(...)" if starts else "between(source, target) for inner layers"
        return (
            f"Nothing that the inputs {list(self.input_names)} hold excites the logits: an index or a category has no "
            f"coefficient. Excitations start from the vectors behind it: ask {ask}."
        )

    def _source(self, name):
        several = len(self._input_slots) > 1
        if name in self.input_names and (several or name != "input"):
            return self._input_slots[self.input_names.index(name)]
        if name == "input" and not (several and name in self):
            return self._one_input()
        return self._slot(name)

    def _target(self, name):
        if name != "logits" or (len(self._outputs) > 1 and name in self):
            return self._slot(name)
        if len(self._outputs) == 1 or name in self.output_keys:
            return self._logits_slot(None if len(self._outputs) == 1 else name)
        raise TargetError(f"The model has several outputs: name the layer of one of {list(self.output_names)}.")

    def _slot(self, name):
        slot = self._call(name).output
        return self._head(slot) if slot in self._outputs else slot

    def _one_input(self):
        if len(self._input_slots) > 1:
            raise UnknownLayerError(f"The model has several inputs: say which one of {list(self.input_names)}.")
        return self._input_slots[0]

    def _logits_slot(self, output):
        if output is None and len(self._outputs) > 1:
            raise TargetError(f"The model has several outputs: pass output=, one of {list(self.output_names)}.")
        names, keys = list(self.output_names), list(self.output_keys)
        numbers = {None: 0, **{i: i for i in range(len(self._outputs))}}
        # The key of a dict is the model's own word for the output, whatever the layers are called.
        numbers |= {word: i for words in (names, keys) for i, word in enumerate(words)}
        try:
            return self._head(self._outputs[numbers[output]])
        except (KeyError, TypeError):
            by_key = f", by key {keys}" if keys else ""
            raise TargetError(
                f"The model has no output {output!r}. Its outputs are {names}{by_key}, or 0 to "
                f"{len(self._outputs) - 1}."
            ) from None

    def _head(self, slot):
        """Maps explain the logit (V.C.5): a final softmax or sigmoid is left out."""
        for stage in self._record.stages:
            if stage.output == slot and stage.head:
                return stage.edges[0].source
        return slot

    def _call(self, name):
        if isinstance(name, str) and name in self._emitted:
            return self._emitted[name]
        outputs = [e.name for e in self._emitted.values() if e.layer == name]
        if outputs:
            raise UnknownLayerError(
                f"Layer {name!r} has several outputs: ask for one of {', '.join(map(repr, outputs))}."
            )
        close = difflib.get_close_matches(str(name), list(self._emitted), n=3)
        hint = f" Did you mean {', '.join(map(repr, close))}?" if close else ""
        raise UnknownLayerError(
            f"The model has no layer {name!r}.{hint} Its {len(self)} layers are listed by `list(trace)` "
            "and by `pane-keras layers`."
        )
