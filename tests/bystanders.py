"""Models of every kind that is read in its own way, and all that must be as before after they were explained."""

import json
import random
import threading

import keras
import numpy as np
import tensorflow as tf
from agreement import draw, filled
from keras import layers, ops, tree
from tensorflow.python.framework import ops as tf_ops
from test_composite import Outer as Blocks
from test_subclassed import Outer as Subclassed
from test_subclassed import built

IDS = np.array([[3, 1, 2, 0, 0], [5, 2, 0, 4, 0]], "int32")


def functional():
    """A shared layer, a nested model, an operation and a layer that draws in training."""
    x = keras.Input((4,), name="p")
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, layers.BatchNormalization(name="norm")(layers.Dense(4, name="fc")(inner_input)))
    shared = layers.Dense(4, activation="relu", name="shared", kernel_regularizer="l2")
    h = layers.Dropout(0.5, name="drop")(shared(inner(shared(x)) + x))
    return filled(x, layers.Dense(2, name="out")(h)), draw(2, 4)


def subclassed():
    x = draw(2, 4)
    return built(Subclassed(), x), x


def composite():
    x = keras.Input((4,), name="p")
    return filled(x, layers.Dense(2, name="out")(Blocks(name="blocks")(x))), draw(2, 4)


def masked():
    """A mask from an embedding that an LSTM, attention and pooling read."""
    ids = keras.Input((5,), dtype="int32", name="ids")
    vectors = layers.Embedding(7, 4, mask_zero=True, name="emb")(ids)
    h = layers.LSTM(4, return_sequences=True, name="lstm")(vectors)
    h = layers.MultiHeadAttention(2, 3, dropout=0.2, name="attention")(h, h)
    h = layers.GRU(3, name="gru")(h)
    return filled(ids, layers.Dense(2, name="out")(h)), IDS


def passed_mask():
    """A mask that is passed to a nested model."""
    inner_input = keras.Input((5, 3))
    inner = keras.Model(inner_input, layers.GlobalAveragePooling1D()(layers.Dense(4)(inner_input)), name="inner")
    x, valid = keras.Input((5, 3), name="x"), keras.Input((5,), dtype="bool", name="valid")
    return filled([x, valid], layers.Dense(2, name="out")(inner(x, mask=valid))), [draw(2, 5, 3), IDS > 0]


MODELS = {f.__name__: f for f in (functional, subclassed, composite, masked, passed_mask)}


def tensors(x):
    return tree.map_structure(tf.constant, x)


def explain(pane, x, source):
    """Returns a trace that has been asked for a map, and for the maps of the inputs if they are numbers."""
    trace = pane.trace(x)
    trace.between(source, "logits").map(1)
    if source != "emb":
        trace.saliency(1)
    return trace


def source_of(name):
    return {"masked": "emb", "passed_mask": "x"}.get(name, "input")


def state_of(model):
    """Everything about a model."""
    parts = list(model._flatten_layers())
    return {
        "config": _json(model),
        "build": str(model.get_build_config()),
        "variables": [(id(v), v.path, v.trainable, str(v.dtype), v.numpy().tobytes()) for v in model.variables],
        "nodes": [(p.name, *map(len, (p._inbound_nodes, p._outbound_nodes))) for p in parts],
        "ends": [(p.name, _ends(p, "input"), _ends(p, "output")) for p in parts],
        "layers": [(id(p), p.name, p.trainable, p.built, str(p.dtype_policy), _attributes(p)) for p in parts],
        "losses": [float(loss) for loss in model.losses],
        "metrics": [(m.name, [v.numpy().tobytes() for v in m.variables]) for m in model.metrics],
        "optimizer": [(v.path, v.numpy().tobytes()) for v in model.optimizer.variables] if model.compiled else [],
        "compiled": (model.compiled, *(id(vars(model).get(word)) for word in ("optimizer", "loss", "train_function"))),
        "call": [id(vars(p).get("call")) for p in parts],
    }


def world():
    """Everything global that an explanation might touch."""
    return {
        "policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "format": keras.config.image_data_format(),
        "variable": [list(vars(cls).items()) for cls in (*keras.Variable.__mro__, keras.KerasTensor)],
        "layer": list(vars(keras.Layer).items()) + list(vars(keras.Operation).items()),
        "gradients": sorted(tf_ops.gradient_registry.list()),
        "threads": [t.ident for t in threading.enumerate()],
        "eager": tf.executing_eagerly(),
        "functions eagerly": tf.config.functions_run_eagerly(),
    }


def draws():
    """Numbers from every source of chance."""
    return [random.random(), np.random.random(), float(tf.random.uniform(())), float(keras.random.uniform(()))]


def names():
    """What Keras calls the next things."""
    x = keras.Input((2,))
    made = [layers.Dense(1), layers.LSTM(2), layers.Embedding(2, 3), keras.Sequential(), keras.Model(x, ops.exp(x))]
    values = [x, ops.add(x, x), ops.relu(x)]
    return [thing.name for thing in (*made, *values)]


def _json(model):
    try:
        return json.dumps(model.get_config(), sort_keys=True, default=str)
    except NotImplementedError:
        return None


def _attributes(part):
    """All but the notes that TensorFlow makes once something that holds the layer is held by something else."""
    return [name for name in sorted(vars(part)) if not name.startswith("_self_")]


def _ends(part, word):
    try:
        return list(map(id, tree.flatten(getattr(part, word))))
    except (AttributeError, ValueError):
        return None
