"""Layers that turn whole numbers or categories into vectors: excitations start from what they emit."""

import keras
from keras import ops

from pane_keras import backend, pieces
from pane_keras.backend import snapshot
from pane_keras.errors import InputError
from pane_keras.registry import exported, register_as
from pane_keras.rules.dense import refuse_quantized


@register_as(keras.layers.Embedding, whole=True)
def embedding(layer, inputs):
    """The vector of each index: excitations start from it, an index has no coefficient."""
    refuse_quantized(layer)

    def vectors(ids):
        _refuse_outside(layer, ids)
        return ops.take(snapshot(layer.embeddings), ops.cast(ids, "int32"), axis=0)

    return pieces.source(vectors)


def _refuse_outside(layer, ids):
    """Raises InputError for an index without a vector; as in Keras, negative ones count from the end."""
    if backend.is_symbolic(ids):
        return
    count, ids = layer.embeddings.shape[0], ops.convert_to_numpy(ids).astype("int64")
    outside = ids[(ids < -count) | (ids >= count)]
    if outside.size:
        raise InputError(
            f"Layer {layer.name!r} has {count} vectors and expects indices from 0 to {count - 1}. "
            f"Received: {outside[0]}."
        )


@register_as(*exported("ReversibleEmbedding"), whole=True)
def reversible_embedding(layer, inputs, arguments):
    """As an embedding, or in reverse: the product with every vector, softly capped where the layer does that."""
    if not arguments.value("reverse"):
        return embedding(layer, inputs)
    refuse_quantized(layer)
    kernel = ops.transpose(snapshot(layer.embeddings)) if layer.tie_weights else layer.reverse_embeddings
    cap = layer.logit_soft_cap
    capped = cap and pieces.elementwise(
        lambda x: ops.tanh(x / cap) * cap,
        lambda x, y: ops.where(x == 0, 1.0, y / ops.where(x == 0, 1.0, x)),
        kind="cap",
    )
    return pieces.sequence(pieces.linear(ops.matmul, kernel, kind="reverse embedding"), capped or None)


@register_as(
    keras.layers.CategoryEncoding,
    keras.layers.Discretization,
    keras.layers.Hashing,
    keras.layers.HashedCrossing,
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
    whole=True,
)
def category(layer, inputs):
    """A category: excitations start from it, what it was found by has no coefficient."""
    return lambda record, *slots: record.slot(layer.call(inputs))
