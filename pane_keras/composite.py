"""Layers made of other layers: a sequence of them, or the graph of what a function computes with them."""

import weakref
from dataclasses import replace
from typing import Any

import keras
from keras import tree

from pane_keras import backend
from pane_keras.arguments import Arguments
from pane_keras.emission import emit
from pane_keras.errors import UnsupportedLayerError
from pane_keras.graph import Value
from pane_keras.masks import masks_of
from pane_keras.reading import is_nested, read_functional, read_graph, refuse_training
from pane_keras.record import Slot
from pane_keras.registry import Rule, rule_for
from pane_keras.registry import known as registered_somehow
from pane_keras.symbolic import Spec, functional

# The graph of a layer's call, by what it was called with. It holds no weights.
_GRAPHS: Any = weakref.WeakKeyDictionary()
_GRAPHS_A_LAYER = 8  # batches of more sizes than that are read again


def layers(*parts):
    """Returns the piece of layers that are called one after the other on one tensor.

    @pane_keras.register(MyBlock)
    def excite(layer, inputs):
        return pieces.layers(layer.norm, layer.dense, layer.relu)
    """

    def run(record, slot):
        for part in parts:
            slot = emit(record, Arguments(part, (slot,), {}), f"{record.name}/{part.name}")
        return slot

    return run


def graph(layer, inputs=None, arguments=None, *, function=None, holds=(), key=None):
    """The graph of Keras layers and `keras.ops` that the layer's own call is. A piece, and a rule by itself.

        pane_keras.register(MyBlock)(pieces.graph)  # with the layers inside it that have no rule of their own

        @pane_keras.register(MyOtherBlock)
        def excite(layer, inputs):
            return pieces.graph(layer, function=lambda x: x + layer.dense(layer.norm(x)))

    Args:
        layer: The layer.
        inputs: What a rule is given; not needed.
        arguments: The call's `Arguments`; with none, the piece's slots are the positional arguments.
        function: Function of symbolic tensors to read instead of `layer.call`; it is read every time.
        holds: Names of classes of operations whose outputs are held: nothing excites them.
        key: For a `function` that depends on the layer alone: it is read once for all calls of one trace.
    """
    del inputs
    key = "call" if function is None else key

    def run(record, *slots):
        call = arguments or Arguments(layer, slots, {})
        hung = call.hung
        if function is None:
            call = _as_keras_calls(record, call)
        read = _graph_of(record, call, hung, function or layer.call, key)
        masks = [record.slot(hung[slot.index], held=True) for slot in call.slots if slot.index in hung]
        return run_graph(record, read, [*call.slots, *masks], record.name, holds, hung)

    return run


def model(inner, inputs, arguments):
    """Its graph of layers, each explained by its own rule."""
    if not is_nested(inner):
        return graph(inner, inputs, arguments)
    slots = [leaf for leaf in tree.flatten(arguments.args[0]) if isinstance(leaf, Slot)]
    return lambda record, *_: run_graph(record, read_graph(inner), slots, record.name, hung=arguments.hung)


def run_graph(record, read, slots, name, holds=(), hung=None):
    """Runs the calls of a `Graph` on slots and returns the slots of its outputs.

    Args:
        record: Where the excitations go, under the name of the layer that the graph belongs to.
        read: The graph.
        slots: One for each of its inputs.
        name: Of the layer, for messages.
        holds: As in `graph`.
        hung: Keras's masks of the slots, by index.
    """
    known = dict(enumerate(slots))
    masks = masks_of(read, [slot.value for slot in slots], [(hung or {}).get(slot.index) for slot in slots])
    for call, masked in zip(read.calls, masks):
        label = f"{name}/{call.name}"
        refuse_training(label, call.operation, call.kwargs)
        emitted = emit_call(record, call, known, masked, label, _inner_rule(call.operation), holds)
        known.update(zip((v.index for v in tree.flatten(call.outputs)), tree.flatten(emitted)))
    return tree.map_structure(lambda value: known[value.index], read.outputs)


def emit_call(record, call, known, masks, label, rule=None, holds=()):
    """Runs one `Call` of a graph on the slots `known` by index, and returns the slots of what it emits."""
    args, kwargs = tree.map_structure(lambda a: known[a.index] if isinstance(a, Value) else a, (call.args, call.kwargs))
    arguments = Arguments(call.operation, args, kwargs, masks)
    if type(call.operation).__name__ in holds:
        values = arguments.function(arguments.slots)(*(slot.value for slot in arguments.slots))
        return tree.map_structure(lambda value: record.slot(value, held=True), values)
    emitted = emit(record, arguments, label, rule)
    count, wanted = len(tree.flatten(emitted)), len(tree.flatten(call.outputs))
    if count != wanted:
        raise UnsupportedLayerError(
            f"The rule of layer {label!r} is expected to return a piece with {wanted} output(s), as the layer has. "
            f"Received: {count}."
        )
    return emitted


def live_calls(read, strict=True):
    """Returns, for each call of a `Graph`, whether it reads anything that is not held: only then it needs a rule.

    Args:
        read: The graph.
        strict: Whether an operation without a rule is an error; if not, it counts as one that holds nothing.
    """
    held, live = set(), []
    for call in read.calls:
        live.append(isinstance(call.operation, keras.Layer) or not held.issuperset(call.inputs))
        if not live[-1] or _holds(call, strict):
            held.update(value.index for value in tree.flatten(call.outputs))
    return live


def _inner_rule(operation):
    """Whoever reads a layer as a graph reads the layers inside that nobody registered as graphs too."""
    return Rule(graph) if isinstance(operation, keras.Layer) and not registered_somehow(operation) else None


def _holds(call, strict):
    try:
        return not isinstance(call.operation, keras.Layer) and rule_for(call.operation, call.name).holds
    except UnsupportedLayerError:
        if strict:
            raise
        return False


def _as_keras_calls(record, call):
    """Adds what Keras passes to a layer's `call` on its own: masks by name, and that it is not training."""
    more = {"training": False} if call.takes("training") else {}
    for name in call.names:
        mask = call.mask(name)
        word = "mask" if call.takes("mask") else f"{name}_mask"
        if any(part is not None for part in tree.flatten(mask)) and call.takes(word) and call.get(word) is None:
            more[word] = tree.map_structure(lambda m: m if m is None else record.slot(m, held=True), mask)
    return replace(call, kwargs={**call.kwargs, **more})


def _graph_of(record, call, hung, function, key):
    def spec(leaf):
        if not isinstance(leaf, Slot):
            return leaf
        mask = hung.get(leaf.index)
        return Spec(*_signature(leaf.value), mask if mask is None else Spec(*_signature(mask)))

    args, kwargs = tree.map_structure(spec, (call.args, call.kwargs))
    leaves = [leaf.key if isinstance(leaf, Spec) else leaf for leaf in tree.flatten((args, kwargs))]
    key = None if key is None or any(map(backend.is_tensor, leaves)) else (key, repr(leaves))
    for known in (_GRAPHS.setdefault(call.operation, {}), record.graphs.setdefault(call.operation, {})):
        if key in known:
            return known[key]
    read = functional(call.operation, function, args, kwargs, record.name.replace("/", "."), read_functional)
    if key is not None:
        kept = (_GRAPHS if _lasts(call.operation, read) else record.graphs)[call.operation]
        if len(kept) >= _GRAPHS_A_LAYER:
            kept.clear()
        kept[key] = read
    return read


def _lasts(layer, read):
    """Whether a graph is the same next time: nothing in it came from weights, or from attributes of a user's layer.

    What a user's function reads may change as well: that of a Lambda, or an activation.
    """
    activations = [getattr(layer, word, None) for word in ("activation", "recurrent_activation")]
    own = all(map(_of_keras, [type(layer), *filter(None, activations)])) and not isinstance(layer, keras.layers.Lambda)
    return own and not any(map(backend.is_tensor, constants(read)))


def _of_keras(thing):
    return (getattr(thing, "__module__", None) or "").split(".")[0] == "keras"


def _signature(tensor):
    # With the batch as it is, code that reads the shape of a tensor finds numbers.
    return tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype)


def constants(read):
    """Returns everything that the calls of a `Graph` are given beside its own tensors."""
    return [leaf for call in read.calls for leaf in tree.flatten((call.args, call.kwargs))]
