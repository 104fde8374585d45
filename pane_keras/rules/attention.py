"""Attention: the values are projected, mixed with weights that are held fixed, and projected again.

The weights come from the query and the key, which are zero excitation: a softmax inside attention is held.
"""

from dataclasses import replace

import keras
from keras import ops

from pane_keras import backend, pieces
from pane_keras.arguments import is_live, values_of
from pane_keras.registry import register_as


@register_as(keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention, whole=True)
def projected_attention(layer, inputs, arguments):
    """Values mixed with attention weights that are held fixed; query and key are zero excitation."""
    return pieces.graph(layer, inputs, _with_causal_mask(arguments), holds=("Softmax",))


@register_as(keras.layers.Attention, keras.layers.AdditiveAttention, whole=True)
def attention(layer, inputs, arguments):
    """Values mixed with attention weights that are held fixed; query and key are zero excitation."""
    return pieces.graph(layer, inputs, arguments, holds=("Softmax",))


def _with_causal_mask(arguments):
    """The triangle as a mask: Keras reads its size from a projected tensor, which has lost it when it is symbolic."""
    if not arguments.value("use_causal_mask"):
        return arguments
    sizes = (arguments.value(name).shape[1] for name in ("query", "value"))
    mask = ops.tril(ops.ones(tuple(sizes), "bool"))[None]
    given = arguments.value("attention_mask")
    mask = mask if given is None else ops.logical_and(mask, ops.cast(given, "bool"))
    return replace(arguments, kwargs={**arguments.kwargs, "use_causal_mask": False, "attention_mask": mask})


@register_as("DotProductAttention", whole=True)
def dot_product_attention(operation, arguments):
    """y = A v with A = softmax(q k / sqrt(d)) held fixed."""
    query, key = values_of(arguments.get("query")), values_of(arguments.get("key"))
    value = arguments.get("value")
    if not is_live(value):
        return pieces.held(arguments.function())
    weights = _weights(operation, arguments, query, key)

    def mix(x, kernel):
        return ops.einsum("bnts,bsnh->btnh", kernel, x)

    total = lambda x: mix(x, weights)  # noqa: E731
    piece = pieces.signed_sum(total, [(mix, None, weights)], per_sample=True, kind="attention")
    return lambda record, *_: piece(record, value)


def _weights(operation, arguments, query, key):
    """(batch, heads, targets, sources), as Keras computes them from (batch, time, heads, size)."""
    scale = arguments.value("scale")
    logits = ops.einsum("btnh,bsnh->bnts", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if operation.attn_logits_soft_cap is not None:
        logits = ops.tanh(logits / operation.attn_logits_soft_cap) * operation.attn_logits_soft_cap
    bias, mask = arguments.value("bias"), arguments.value("mask")
    logits = logits if bias is None else logits + ops.cast(backend.snapshot(bias), logits.dtype)
    if operation.is_causal:
        logits = ops.where(ops.tril(ops.ones(logits.shape[-2:], "bool")), logits, _lowest(logits))
    if mask is not None:
        logits = ops.where(ops.cast(mask, "bool"), logits, _lowest(logits))
    return ops.softmax(logits, axis=-1)


def _lowest(logits):
    return -0.7 * (3.4e38 if keras.backend.standardize_dtype(logits.dtype) == "float32" else 1.7e308)
