"""What figures show where nothing was asked for: a unit, and a few layers that are worth a look."""

from collections import Counter

import numpy as np

from pane_keras.errors import InputError

MOST = 8
"""Columns that a figure holds without its words getting too small."""

_FEW = 5


def strongest_unit(output, layer):
    """Returns the index of the unit with the largest output: of one axis, the top class; of more, by magnitude.

    Args:
        output: Array of one sample.
        layer: Its name, for the message.

    Raises:
        InputError: The layer has no axis.
    """
    if not output.size or not output.ndim:
        raise InputError(f"Layer {layer!r} of shape {output.shape} has no unit to choose. Say which one with unit=.")
    values = output if output.ndim == 1 else np.abs(output)
    return tuple(int(k) for k in np.unravel_index(np.argmax(values), output.shape))


def unit_words(layer, unit, output):
    """Returns a unit and its value in words."""
    index = (unit,) if isinstance(unit, (int, np.integer)) else tuple(unit)
    value = output[index]
    if layer == "logits" and len(index) == 1:
        return f"class {index[0] % len(output)} (logit {value:.3g})"
    return f"unit {', '.join(map(str, index))} of {layer!r} (output {value:.3g})"


def readable_layers(trace, target, channel_axis=-1):
    """Returns at most `MOST` sources below a target, the highest first: about one a resolution, and every input.

    Args:
        trace: The `Trace`.
        target: Name of a layer, or "logits".
        channel_axis: Axis of the channels in a sample.
    """
    inputs = ["input"] if len(trace.input_names) == 1 else list(trace.input_names)
    below = _below(trace, target)
    sizes = {name: _size(trace[name].output.shape[1:], channel_axis) for name in below}
    with_space = [name for name in below if sizes[name]] or below
    return [*reversed(_few(with_space, sizes, MOST - len(inputs))), *inputs]


def _below(trace, target):
    names = [name for name in trace if name not in trace.input_names]
    return names[: names.index(target)] if target in names else names[:-1]


def _size(shape, channel_axis):
    """The number of places of a layer with space axes, 0 of one without."""
    places = [size for k, size in enumerate(shape) if k != channel_axis % len(shape)] if shape else []
    return int(np.prod(places)) if places and max(places) > 1 else 0


def _few(names, sizes, most):
    """The last layer of each resolution, and more between them where that is few."""
    if len(names) <= most:
        return names
    chosen = sorted(_last_of_each_resolution(names, sizes))
    if len(chosen) < _FEW:
        chosen = sorted({*chosen, *_spread(range(len(names)), _FEW)})
    return [names[k] for k in (_spread(chosen, most) if len(chosen) > most else chosen)]


def _last_of_each_resolution(names, sizes):
    """Indices. A resolution is a factor of two each way: a border of padding makes no new one."""
    octaves = {}
    for name in names:
        octaves.setdefault(_octave(sizes[name]), Counter())[sizes[name]] += 1
    usual = {octave: found.most_common(1)[0][0] for octave, found in octaves.items()}
    last = {octave: k for k, name in enumerate(names) if sizes[name] == usual[octave := _octave(sizes[name])]}
    return last.values()


def _octave(size):
    return round(np.log2(max(size, 1)) / 2)


def _spread(indices, count):
    return [indices[k] for k in np.unique(np.linspace(0, len(indices) - 1, count).round().astype(int))]
