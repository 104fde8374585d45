"""`wrap(model)`: a model in which every call of a layer is an `ExcitationLayer` that shares the original's weights."""

import copy
from collections.abc import Iterator
from functools import partial
from os import PathLike
from typing import Any

import keras
from keras import tree

from pane_keras import backend
from pane_keras.compiled import Explainer
from pane_keras.composite import emit_call, live_calls
from pane_keras.display.models import pane_html, pane_text
from pane_keras.errors import ModelError, ReadOnlyError, SaveError
from pane_keras.excitation_layer import ExcitationLayer
from pane_keras.fingerprints import fingerprint
from pane_keras.inputs import prepare_inputs, refuse_nonfinite_outputs
from pane_keras.maps import ExcitationMap
from pane_keras.masks import masks_of
from pane_keras.model_report import treatments_of
from pane_keras.reading import is_nested, read_graph
from pane_keras.record import Record
from pane_keras.throughput import MapFolder, explained, first_samples
from pane_keras.trace import Emitted, Trace, keys_of


def wrap(model: Any) -> "PaneModel":
    """Returns a `PaneModel` around a Keras model, which is left as it was.

    Args:
        model: A built `keras.Model`: Functional, Sequential, or a subclass whose `call` is a graph of layers. Of a
            `PaneModel` the model inside is wrapped, as it is now.

    Raises:
        ModelError: `model` has no graph of layers to read.
        UnsupportedLayerError: A layer has no excitation rule, or a subclassed model's `call` is no graph of layers.
        NonFiniteError: A weight holds a NaN or an infinity.
    """
    return PaneModel(model.model if isinstance(model, PaneModel) else model)


class PaneModel(keras.Model):
    """A Keras model that also tells what excites and what inhibits each of its units. Made by `wrap`.

    `pane(x)` and `pane.predict(x)` are the user's model's own results. `pane.trace(x)` is one forward pass in which
    every layer emits (output, E+, E-).

    Attributes:
        model: The user's model.
        graph: Its calls.
        excitations: One `ExcitationLayer` for each call.
    """

    def __init__(self, model, **kwargs):
        graph = read_graph(model)
        # The dtype only keeps Keras from casting what the user's model standardises itself.
        dtype = _widest_dtype(graph)
        super().__init__(name=kwargs.pop("name", f"pane_{model.name}"), dtype=dtype, **kwargs)
        self._held = _Held(model, graph, dtype, Explainer(self._run), _layers_inside(model))
        self.excitations = [
            ExcitationLayer(call.operation, call.name, call.kwargs, model.name, live)
            for call, live in zip(graph.calls, live_calls(graph))
        ]
        self.built = True

    @property
    def model(self) -> Any:
        """The user's model, untouched."""
        return self._held.model

    @property
    def graph(self):
        """The calls of the user's model."""
        return self._held.graph

    def call(self, inputs, training=None, mask=None):
        """Returns exactly what the user's model returns."""
        masks = {} if all(m is None for m in tree.flatten([mask])) else {"mask": mask}
        return self.model(inputs, training=training, **masks)

    @backend.as_written
    def trace(self, inputs: Any) -> Trace:
        """Runs one eager forward pass and returns its `Trace`.

        Args:
            inputs: What the user's model takes: an array or tensor (batch, *shape), or a list or dict of them.

        Raises:
            InputError: Wrong shape, dtype, structure or number of inputs.
            ModelError: The model runs other layers than when it was wrapped.
            NonFiniteError: A NaN or an infinity in the input, or coming out of the model (looked for where the host
                has the values).
        """
        tensors = prepare_inputs(self.graph, self.model.name, inputs, self._held.dtype)
        return self._run(tensors)

    @backend.as_written
    def explain(
        self,
        inputs: Any,
        target: Any = None,
        *,
        output: str | int | None = None,
        split_below: str | None = None,
        xla: bool = False,
    ) -> ExcitationMap | Any:
        """Returns what `trace(inputs).saliency(target)` returns, from one compiled function.

        The function is traced once for each signature of the inputs, which takes seconds; after that it is faster than
        the eager pass. Without a GPU, XLA makes one loop of what lies between two kernels, for layers that emit a
        million values or more: activations and masks are worked out again instead of being kept, so it takes less
        memory, too. No trace is kept. Rows that leave the range of float32 are swept again with care, as by `trace`,
        but not inside a graph.

        Args:
            inputs: As for `trace`.
            target, output, split_below: As for `Trace.saliency`.
            xla: Whether XLA compiles it. On a CPU that is slower for convolutions; measure it.

        Raises:
            PaneError: As `trace` and `Trace.saliency`.
        """
        self._held.refuse_other_layers()
        tensors = prepare_inputs(self.graph, self.model.name, inputs, self._held.dtype)
        return self._held.explainer.explain(tensors, target, output, split_below, xla)

    def explain_dataset(
        self,
        data: Any,
        target: int | None = None,
        *,
        batch_size: int | None = 8,
        out: str | PathLike | None = None,
        progress: bool = True,
        **how: Any,
    ) -> Iterator[Any]:
        """Yields the maps of many images batch by batch, from the compiled function of `explain`.

        Nothing is computed or written before it is iterated over: `for maps in ...`, or `list(...)` of the paths.

        Args:
            data: An array, a list of arrays for a model with several inputs, or a `tf.data.Dataset` of samples, or of
                (samples, labels), of which the labels are left out.
            target: None for the top class of each sample, or an int.
            batch_size: Samples a batch; None for a dataset that is batched already.
            out: A folder: maps are written to `maps_00000.npz`, ... and the paths are yielded. A file is moved into
                place when it is whole; called again with the same model, data and settings, finished files are kept.
            progress: Whether to show a progress bar.
            **how: `output`, `split_below` and `xla`, as for `explain`.

        Yields:
            `ExcitationMap`s of a batch, or paths.

        Raises:
            PaneError: As `explain`; SaveError where the folder cannot be written, or holds other maps.
        """
        explain = lambda inputs: self.explain(inputs, target, **how)  # noqa: E731
        if out is None:
            for *_, maps, count in explained(explain, data, batch_size, progress=progress):
                yield first_samples(maps, count)
            return
        asked = {"target": target, "batch_size": batch_size, "output": None, "split_below": None, "xla": False, **how}
        folder = MapFolder(out, fingerprint(self.model, data, **asked))
        for batch in explained(explain, data, batch_size, folder.done, progress):
            yield folder.save(*batch)

    def _run(self, tensors):
        """Runs the forward pass on tensors, one for each input, and returns its `Trace`."""
        graph, record = self._current_graph(), Record(dtype=self._held.dtype)
        slots = dict(enumerate(map(record.slot, tensors)))
        input_slots, emitted = [slot.index for slot in slots.values()], []
        for call, layer, masks in zip(graph.calls, self.excitations, masks_of(graph, tensors), strict=True):
            reads = [slots[i] for i in call.inputs]
            record.name, record.gain = layer.label, layer.gain
            wrote = emit_call(record, call, slots, masks, layer.label, layer.rule)
            slots.update(zip((v.index for v in tree.flatten(call.outputs)), tree.flatten(wrote)))
            emitted += _emitted(layer.label, reads, tree.flatten(wrote))
        outputs = tuple(slots[v.index].index for v in tree.flatten(graph.outputs))
        refuse_nonfinite_outputs(self.model, record, emitted, outputs)
        again = partial(self._run, tensors)
        keys = keys_of(graph.outputs)
        return Trace(record, emitted, graph.inputs, input_slots, outputs, graph.output_names, again, keys)

    def _current_graph(self):
        """What a subclassed model takes from its weights and attributes while it is read may change after `wrap`."""
        if is_nested(self.model):
            self._held.refuse_other_layers()
            return self.graph
        graph = read_graph(self.model)
        wrapped = [type(layer.operation) for layer in self.excitations]
        self._held.refuse_other_layers([type(call.operation) for call in graph.calls] == wrapped)
        return graph

    @property
    def trainable(self):
        """Whether the user's model is trainable; set it there."""
        held = getattr(self, "_held", None)
        return held.model.trainable if held else True

    @trainable.setter
    def trainable(self, value):
        if getattr(self, "_held", None) and value != self.model.trainable:
            raise ReadOnlyError("Set `trainable` on the model that was wrapped: a PaneModel shares its layers.")

    def __reduce__(self):
        return wrap, (self.model,)

    def __deepcopy__(self, memo):
        return wrap(copy.deepcopy(self.model, memo))

    def save(self, *args, **kwargs):
        """Raises SaveError: the excitations are rebuilt from the model in no time, so only the model needs saving."""
        raise SaveError("A PaneModel is not saved: save the model itself, `pane.model.save(path)`, and wrap it again.")

    def get_config(self):
        """Raises SaveError, as `save`."""
        return self.save()

    def __repr__(self):
        return pane_text(self, treatments_of(self))

    def _repr_html_(self):
        return pane_html(self, treatments_of(self))


class _Held:
    """Keeps the user's model and what was read of it away from Keras's tracking of attributes."""

    def __init__(self, model, graph, dtype, explainer, layers):
        self.model, self.graph, self.dtype, self.explainer, self.layers = model, graph, dtype, explainer, layers

    def refuse_other_layers(self, same=True):
        """Raises ModelError where the layers are not the `same`, or a Sequential among them has grown or shrunk."""
        if not same or _layers_inside(self.model) != self.layers:
            raise ModelError(
                f"The call of model {self.model.name!r} runs other layers than when it was wrapped. Wrap it again."
            )


def _layers_inside(model):
    """All layers of a model that Keras runs without code of the user's, and of the models inside it."""
    inside = model.layers if is_nested(model) else []
    return [layer for each in inside for layer in (each, *_layers_inside(each))]


def _emitted(name, reads, wrote):
    """A layer with several outputs is known as name[0], name[1], ..."""
    names = [name] if len(wrote) == 1 else [f"{name}[{k}]" for k in range(len(wrote))]
    return [Emitted(n, tuple(s.index for s in reads), slot.index, name) for n, slot in zip(names, wrote)]


def _widest_dtype(graph):
    """float64 where the model computes anything in it; half precision is explained in float32."""
    dtypes = [getattr(call.operation, "compute_dtype", None) for call in graph.calls]
    return "float64" if "float64" in [*dtypes, *(spec.dtype for spec in graph.specs)] else "float32"
