"""Vision transformers: one built from Keras layers, and the backbones of keras-hub, as people bring them."""

import keras
import keras_hub
import numpy as np
import pytest
from applications import calibrate, photographs
from keras import layers, ops

import pane_keras
from pane_keras import pieces
from pane_keras.errors import UnsupportedLayerError
from pane_keras.testing import channels, dense_network


class ClassToken(layers.Layer):
    """A learned vector before the patches, and a learned position for each."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="normal", name="token")
        self.position = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), initializer="normal", name="position")

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.position


def small_vit(side=16, patch=8, width=6, heads=2, blocks=2):
    picture = keras.Input((side, side, 3), name="picture")
    x = layers.Conv2D(width, patch, strides=patch, name="patches")(picture)
    x = ClassToken(name="token")(layers.Reshape((-1, width))(x))
    for k in range(blocks):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, width // heads, name=f"attention{k}")(y, y)
        y = layers.Dense(2 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add(name=f"block{k}")([x, layers.Dense(width)(y)])
    return keras.Model(picture, layers.Dense(5, activation="softmax", name="scores")(x[:, 0]), name="small_vit")


@pytest.fixture
def vit(randomize, own_registry):
    pane_keras.register(ClassToken)(pieces.graph)
    return randomize(small_vit())


def test_a_small_vit(vit):
    pictures = photographs(16)[:2] / 127.5 - 1
    trace = pane_keras.wrap(vit).trace(pictures)
    report = trace.check()
    assert report.ok
    assert report.max_residual < 1e-6
    np.testing.assert_allclose(trace.logits(), ops.log(vit(pictures)) + _normaliser(trace.logits()), atol=1e-5)
    for part in (maps := trace.saliency()).positive, maps.negative, maps.sum:
        assert np.isfinite(part).all()
        assert np.any(part)


def _normaliser(logits):
    return ops.logsumexp(logits, axis=-1, keepdims=True)


def test_a_small_vit_against_the_four_products(vit):
    trace = pane_keras.wrap(vit).trace(photographs(16)[:2] / 127.5 - 1)
    for source, target in (("input", "logits"), ("patches", "block0"), ("token", "attention1"), ("block0", "logits")):
        _assert_like_twin(trace, source, target)


def _assert_like_twin(trace, source, target):
    pair = trace.between(source, target)
    network, ends = dense_network(trace), (trace._source(source), trace._target(target))
    (p, n), size = network.between(*ends), network.magnitude(*ends)
    s, d = channels(pair.dense())
    tolerance = 1e-5 * np.abs(size).max()
    np.testing.assert_allclose(s.reshape(p.shape), p + n, atol=tolerance)
    np.testing.assert_allclose(d.reshape(p.shape), p - n, atol=tolerance)


def test_resnet_of_keras_hub():
    model = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 96],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    calibrate(model, photographs(32))
    assert pane_keras.report(model).ok
    _assert_explained(model, photographs(32)[:2])


def test_vit_of_keras_hub_is_refused_by_name_until_its_blocks_are_registered(own_registry):
    model = keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3), patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16
    )
    unsupported = pane_keras.report(model).unsupported
    assert [layer.layer for layer in unsupported] == ["ViTPatchingAndEmbedding", "ViTEncoder"]
    with pytest.raises(UnsupportedLayerError, match=r"register\(ViTPatchingAndEmbedding\)\(pane_keras.pieces.graph\)"):
        pane_keras.wrap(model)
    for layer in model.layers[1:]:
        pane_keras.register(type(layer))(pieces.graph)
    _assert_explained(model, photographs(32)[:2] / 127.5 - 1)


def _assert_explained(model, pictures):
    trace = pane_keras.wrap(model).trace(pictures)
    report = trace.check()
    assert report.ok
    assert report.max_residual < 1e-5
    last = list(trace)[-1]
    np.testing.assert_allclose(trace[last].output, model(pictures, training=False), atol=1e-5)
    maps = trace.between("input", last).map(target=(0,) * len(trace[last].output.shape[1:]))
    assert np.isfinite(maps.positive).all()
    assert np.isfinite(maps.negative).all()
