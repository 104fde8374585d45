"""`pane-keras explain`: a user's own model, explained on pictures."""

from pathlib import Path

import keras
import numpy as np

from pane_keras.commands.output import OutputFolder, ranked, verdict
from pane_keras.errors import InputError
from pane_keras.loading import load_model
from pane_keras.pictures import read_picture
from pane_keras.plotting import plot, save_png
from pane_keras.wrapping import wrap

_PREPROCESSING = (keras.layers.Rescaling, keras.layers.Normalization)


def run(arguments):
    """Explains each picture and writes a figure for it.

    Args:
        arguments: The parsed arguments of the command.
    """
    model = load_model(arguments.model)
    pane = wrap(model)
    size, channels = _picture_shape(pane)
    pictures = [read_picture(path, channels, size) for path in arguments.images]
    print(f"{model.name} ({model.count_params():,} parameters, {arguments.model})")
    print(f"pixels: {_preprocessing(pane, arguments)}")
    folder = OutputFolder(arguments.out)
    for path, picture in zip(arguments.images, pictures):
        _explain(pane, Path(path), picture, folder, arguments)


def _explain(pane, path, picture, folder, arguments):
    print(f"\n{path.name}{''.join(f', {notice}' for notice in picture.notices)}")
    trace = pane.trace(_prepared(picture.pixels, pane, arguments))
    maps, what = _class_map(trace, arguments) if arguments.layer is None else _layer_map(trace, arguments)
    print(f"  explained: {what}")
    file = folder.file(path.stem)
    note = None if maps.asker is None else str(maps.diagnose())
    save_png(plot(maps, picture.pixels[None], titles=[f"{path.name}: {what}"], note=note), file)
    print("" if note is None else f"  {note}\n", end="")
    print(f"  {verdict(trace.check())}\n  written: {file}")


def _class_map(trace, arguments):
    if len(trace.output_names) > 1:
        raise InputError(f"The model has the outputs {list(trace.output_names)}: say with --layer which one is meant.")
    logits = np.asarray(trace.logits())[0]
    if logits.ndim != 1:
        raise InputError(
            f"The model's output has the shape {logits.shape}, not one number a class: say --layer and --unit."
        )
    top = ranked(logits)
    print("  highest logits: " + ", ".join(f"class {k} {value:.3g}" for k, value in top))
    chosen = top[0][0] if arguments.target is None else arguments.target
    maps = trace.saliency(chosen) if arguments.source is None else _over(trace, arguments, "logits", (chosen,))
    return maps, f"the logit {logits[chosen]:.3g} of class {chosen % len(logits)}{_from(arguments)}"


def _layer_map(trace, arguments):
    output = np.asarray(trace[arguments.layer].output)[0]
    unit = arguments.unit
    if unit is None:
        unit = tuple(map(int, np.unravel_index(np.argmax(np.abs(output)), output.shape)))
        print(f"  unit {_comma(unit)} of layer {arguments.layer!r} is its strongest; --unit chooses another")
    maps = _over(trace, arguments, arguments.layer, unit)
    return maps, f"unit {_comma(unit)} of layer {arguments.layer!r} (output {output[unit]:.3g}){_from(arguments)}"


def _over(trace, arguments, target, unit):
    return trace.between(arguments.source or "input", target).map(target=unit)


def _from(arguments):
    return "" if arguments.source is None else f", over layer {arguments.source!r}"


def _comma(unit):
    return ",".join(map(str, unit))


def _picture_shape(pane):
    specs = pane.graph.specs
    if len(specs) != 1 or len(specs[0].shape) not in (3, 4):
        shapes = ", ".join(str(tuple(spec.shape)) for spec in specs)
        raise InputError(
            f"explain takes a model of one picture, (batch, height, width, channels). Received inputs: {shapes}."
        )
    _, height, width, *channels = specs[0].shape
    return (height, width), *(channels or [1])


def _preprocessing(pane, arguments):
    own = [layer.label for layer in pane.excitations if isinstance(layer.operation, _PREPROCESSING)]
    said = None if arguments.scale is None and arguments.offset is None else _formula(arguments)
    if said:
        return said + (f", and then the model's own layer {own[0]!r}" if own else "")
    if own:
        return f"0 to 255, preprocessed by the model's own layer {own[0]!r}"
    return (
        "0 to 255 as they are, since the model has no Rescaling or Normalization layer and nothing was said. If it was "
        "trained on other values, say --scale and --offset"
    )


def _scaling(arguments):
    return 1.0 if arguments.scale is None else arguments.scale, arguments.offset or 0.0


def _formula(arguments):
    scale, offset = _scaling(arguments)
    return f"pixel * {scale:g} + {offset:g}"


def _prepared(pixels, pane, arguments):
    scale, offset = _scaling(arguments)
    values = pixels[None].astype("float32") * scale + offset
    return values if len(pane.graph.specs[0].shape) == 4 else values[..., 0]
