"""What is chosen in the explorer and what the trace answers: no widgets, so it is used and tested without a browser."""

from dataclasses import replace

import numpy as np

from pane_keras.errors import InputError, NoPathError, TargetError
from pane_keras.explorer.answer import Answer
from pane_keras.explorer.choice import Choice
from pane_keras.explorer.grid import Grid
from pane_keras.explorer.upstream import is_output, signal, size, source_before, sources, targets
from pane_keras.explorer.words import unit_words


class State:
    """A choice, the answer to it, and the choices before it.

    A choice that cannot be answered raises, and what was chosen before it stays.

    Args:
        samples: `Sample`s to choose from, at least one.
        class_names: A name for each class of the logits, or None.
        channel_axis: Axis of the channels in a sample of every layer: -1, or 0 for `channels_first`.

    Attributes:
        choice: The current `Choice`.
        answer: Its `Answer`.
        history: The choices that `back` returns to; another sample or target starts anew.

    Raises:
        InputError: There is no sample, or another number of names than of classes.
    """

    def __init__(self, samples, class_names=None, channel_axis=-1):
        if not samples:
            raise InputError("The explorer needs at least one sample. Received: none.")
        self.samples = list(samples)
        self.class_names = None if class_names is None else list(class_names)
        self.history, self._axis, self._maps = [], channel_axis, (None, None)
        self._check_names()
        self.choice, self.answer = self._asked(self._start(0))

    @property
    def sample(self):
        """The current `Sample`."""
        return self.samples[self.choice.sample]

    @property
    def trace(self):
        """The `Trace` of the current sample."""
        return self.sample.trace()

    @property
    def targets(self):
        """The layers that can be explained."""
        return targets(self.trace)

    @property
    def sources(self):
        """The layers that a path joins to the target."""
        return sources(self.trace, self.choice.target)

    @property
    def looks(self):
        """The sample's picture, or its input, as `Sample.looks` returns it."""
        return self.sample.looks(self._axis)

    @property
    def target_grid(self):
        """The `Grid` of the target."""
        return self._grid(self.choice, self.choice.target)

    @property
    def output(self):
        """The target's output at the sample, an array."""
        return self._output(self.choice)

    @property
    def value(self):
        """Value of the explained unit; the sum over a whole channel."""
        if self.choice.whole:
            return float(self.target_grid.totals(self.output)[self.target_grid.place(self.choice.unit)[2]])
        return float(self.output[self.choice.unit])

    @property
    def names(self):
        """The names of the target's units where they are classes, else None."""
        return self._names(self.choice)

    def words(self, choice):
        """Returns what a choice explains, in words."""
        return unit_words(choice, self._grid(choice, choice.target).place(choice.unit), self._names(choice))

    def choose_sample(self, sample):
        """Explains the same unit in another sample; its top class where that of this one was explained."""
        if not 0 <= sample < len(self.samples):
            raise InputError(f"There are the samples 0 to {len(self.samples) - 1}. Received: {sample}.")
        choice = self.choice
        top = is_output(self.trace, choice.target) and choice.unit == self._strongest(choice)
        choice = replace(choice, sample=sample)
        self._go(self._fitting(replace(choice, unit=None) if top else choice), [])

    def choose_target(self, target):
        """Explains another layer: its strongest unit, over the same source where a path joins the two."""
        choice = replace(self.choice, target=target, unit=None, whole=False)
        self._go(self._fitting(choice), [])

    def choose_source(self, source):
        """Asks for another source."""
        self._go(replace(self.choice, source=source, channel=None))

    def choose_unit(self, unit):
        """Explains another unit of the target.

        Args:
            unit: Its index, a tuple.

        Raises:
            TargetError: It lies outside.
        """
        shape = self.output.shape
        if not _inside(unit, shape):
            raise TargetError(f"Unit {tuple(unit)} lies outside {self.choice.target!r}, whose shape is {shape}.")
        self._go(replace(self.choice, unit=tuple(unit), whole=False))

    def choose_place(self, row, column):
        """Explains the unit at another place of the target, in the same channel."""
        grid = self.target_grid
        self.choose_unit(grid.unit(row, column, grid.place(self.choice.unit)[2]))

    def choose_channel(self, channel, whole=None):
        """Explains another channel of the target, at the same place or as a whole.

        Args:
            channel: Its index.
            whole: Whether all of it is explained; by default as before.

        Raises:
            TargetError: The target has no such channel.
        """
        grid = self.target_grid
        _refuse_channel(channel, grid, self.choice.target)
        row, column, _ = grid.place(self.choice.unit)
        whole = (self.choice.whole if whole is None else whole) and grid.channel_axis is not None
        self._go(replace(self.choice, unit=grid.unit(row, column, channel), whole=whole))

    def choose_source_channel(self, channel):
        """Draws one channel of the source, or with None all of them summed. Raises TargetError."""
        if channel is not None:
            _refuse_channel(channel, self.answer.grid, self.choice.source)
        self._go(replace(self.choice, channel=channel))

    def choose_quantity(self, contribution):
        """Shows contributions, coefficient times signal, or coefficients."""
        self._go(replace(self.choice, contribution=contribution))

    def go_on(self, row, column):
        """Makes the source the next target: its unit at a place, in the channel drawn, or in the strongest there.

        Raises:
            TargetError: The source is the model's input, or the place lies outside.
            NoPathError: Nothing excites the source.
        """
        grid = self.answer.grid
        if not (0 <= row < grid.rows and 0 <= column < grid.columns):
            raise TargetError(
                f"The map has {grid.rows} rows and {grid.columns} columns. Received: row {row}, column {column}."
            )
        channel = self.answer.strongest_at(row, column) if self.choice.channel is None else self.choice.channel
        if channel is None:
            raise TargetError(
                "Nothing at this place excites or inhibits the unit. Click a place where the map is not zero."
            )
        self._next(grid.unit(row, column, channel), False)

    def go_on_channel(self, channel):
        """Makes the source the next target: one whole channel of it, or one unit of a vector. Raises as `go_on`."""
        grid = self.answer.grid
        whole = grid.channel_axis is not None
        if whole:
            _refuse_channel(channel, grid, self.choice.source)
        self._next(self._peak(channel) if whole else grid.unit(0, channel), whole)

    def back(self):
        """Returns to the choice before the last `go_on`; at the first one nothing changes."""
        if self.history:
            self._go(self.history[-1], self.history[:-1])

    def _next(self, unit, whole):
        choice, trace = self.choice, self.trace
        if choice.source not in trace:
            raise TargetError(
                "This is the model's input: nothing comes before it. To go on, choose a layer of the network as source."
            )
        source = source_before(trace, choice.source)
        if source is None:
            raise NoPathError(f"Nothing excites {choice.source!r}: it is where excitations start.")
        following = replace(choice, target=choice.source, unit=unit, whole=whole, source=source, channel=None)
        self._go(following, [*self.history, choice])

    def _peak(self, channel):
        """The unit of a channel of the source with the largest coefficient."""
        plane = np.abs(self.answer.planes(channel)[2])
        return self.answer.grid.unit(*np.unravel_index(int(np.argmax(plane)), plane.shape), channel)

    def _go(self, choice, history=None):
        self.choice, self.answer = self._asked(choice)
        self.history = self.history if history is None else history

    def _asked(self, choice):
        """The choice and its answer."""
        maps = self._maps_of(replace(choice, channel=None, contribution=False))
        maps = maps.contribution() if choice.contribution else maps
        grid = self._grid(choice, choice.source, of_target=False)
        return choice, Answer.of(maps, self.samples[choice.sample].index, grid)

    def _maps_of(self, question):
        """The last maps are kept: what of them is drawn changes more often than what is asked."""
        if self._maps[0] != question:
            pair = self.samples[question.sample].trace().between(question.source, question.target)
            self._maps = question, pair.map(**self._selection(question))
        return self._maps[1]

    def _selection(self, choice):
        if not choice.whole:
            return {"target": choice.unit}
        grid = self._grid(choice, choice.target)
        return {"channel": grid.place(choice.unit)[2], "channel_axis": grid.channel_axis}

    def _grid(self, choice, layer, of_target=True):
        sample = self.samples[choice.sample]
        shape = tuple(signal(sample.trace(), layer, of_target).shape[1:])
        return Grid.of(shape, self._axis, sample.picture)

    def _names(self, choice):
        named = self.class_names is not None and is_output(self.samples[choice.sample].trace(), choice.target)
        return self.class_names if named and len(self.class_names) == self._output(choice).size else None

    def _output(self, choice):
        sample = self.samples[choice.sample]
        return np.asarray(signal(sample.trace(), choice.target)[sample.index])

    def _strongest(self, choice):
        """The top class, or the unit with the largest output in magnitude."""
        output, trace = self._output(choice), self.samples[choice.sample].trace()
        output = output if is_output(trace, choice.target) else np.abs(output)
        return tuple(int(i) for i in np.unravel_index(int(np.argmax(output)), output.shape))

    def _start(self, sample):
        trace = self.samples[sample].trace()
        target = next(layer.name for layer in targets(trace) if is_output(trace, layer.name))
        return self._fitting(Choice(sample, target, None, None))

    def _fitting(self, choice):
        """The choice with what another sample or target does not have replaced by what it would start with."""
        trace = self.samples[choice.sample].trace()
        if choice.target not in [layer.name for layer in targets(trace)]:
            return replace(self._start(choice.sample), contribution=choice.contribution)
        shape = tuple(signal(trace, choice.target).shape[1:])
        if choice.unit is None or not _inside(choice.unit, shape):
            choice = replace(choice, unit=self._strongest(choice))
        joined = {layer.name: layer.shape for layer in sources(trace, choice.target)}
        if choice.source not in joined:
            choice = replace(choice, source=self._source_before(trace, choice.target), channel=None)
        channels = Grid.of(joined[choice.source], self._axis, self.samples[choice.sample].picture).channels
        return choice if (choice.channel or 0) < channels else replace(choice, channel=None)

    @staticmethod
    def _source_before(trace, target):
        source = source_before(trace, target)
        if source is None:
            raise NoPathError(f"Nothing excites {target!r}: it is where excitations start. Choose another target.")
        return source

    def _check_names(self):
        trace = self.samples[0].trace()
        if self.class_names is None or targets(trace)[0].name != "logits":
            return
        count = size(targets(trace)[0].shape)
        if len(self.class_names) != count:
            raise InputError(f"Expected a name for each of the {count} classes. Received: {len(self.class_names)}.")


def _inside(unit, shape):
    return len(unit) == len(shape) and all(0 <= i < n for i, n in zip(unit, shape))


def _refuse_channel(channel, grid, layer):
    if not 0 <= channel < grid.channels:
        raise TargetError(f"Layer {layer!r} has the channels 0 to {grid.channels - 1}. Received: {channel}.")
