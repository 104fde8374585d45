"""Selections that do not fit their layer: every TargetError of `map` and `effect`."""

import re

import keras
import numpy as np
import pytest
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.errors import TargetError


@pytest.fixture(scope="module")
def trace():
    x = keras.Input((2, 2, 2))
    y = layers.Dense(3, name="rank3")(x)
    y = layers.Dense(4, name="rank2")(layers.Reshape((4, 3))(y))
    return pane_keras.wrap(filled(x, layers.Dense(2)(layers.Flatten()(y)))).trace(draw(3, 2, 2, 2))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "Expected either {word}=, weights=, or channel= and region=, to say which units of '{layer}' are meant."),
        ({"units": (0, 0, 0), "channel": 1}, "Expected either {word}=, weights=, or channel= and region="),
        ({"weights": np.ones((2, 2, 3)), "channel": 1}, "Expected either {word}=, weights=, or channel= and region="),
        ({"units": (0, 0, 0), "weights": np.ones((2, 2, 3))}, "Expected either {word}=, weights=, or channel="),
        ({"units": []}, "Expected at least one unit of layer '{layer}'. Received: an empty list."),
        ({"units": 1.5}, "A unit of layer '{layer}' is a tuple of 3 ints, and several units are a list of tuples."),
        ({"units": "rank1"}, "A unit of layer '{layer}' is a tuple of 3 ints"),
        ({"units": {1: 2}}, "A unit of layer '{layer}' is a tuple of 3 ints"),
        ({"units": np.array([0, 0, 0])}, "A unit of layer '{layer}' is a tuple of 3 ints"),
        ({"units": np.zeros((2, 2, 3))}, "A unit of layer '{layer}' is a tuple of 3 ints"),
        ({"units": np.ones((2, 3), bool)}, "A unit of layer '{layer}' is a tuple of 3 ints"),
        ({"units": [(0, 0, 0), (0, 0)]}, "Unit (0, 0) lies outside layer '{layer}', whose shape is (2, 2, 3)"),
        ({"units": (0, 2, 0)}, "Unit (0, 2, 0) lies outside layer '{layer}', whose shape is (2, 2, 3)"),
        ({"units": (0, 0, -4)}, "Unit (0, 0, -4) lies outside"),
        ({"units": [(0, 0, 0)], "per_sample": True}, "one selection of layer '{layer}' for each of 3 samples. Rec"),
        ({"units": (0, 0, 0), "per_sample": True}, "for each of 3 samples. Received: 1."),
        ({"weights": [np.ones((2, 2, 3))] * 2, "per_sample": True}, "for each of 3 samples. Received: 2."),
        ({"weights": np.ones((2, 3))}, "Weights on layer '{layer}' expect the shape (2, 2, 3) or (3, 2, 2, 3). Rec"),
        ({"weights": [np.ones((2, 2, 3)), np.ones(3)]}, "Received: (3,)."),
        ({"weights": np.full((2, 2, 3), np.nan)}, "Weights on layer '{layer}' expect finite numbers."),
        ({"weights": "all"}, "Weights on layer '{layer}' expect an array of real numbers. Received: 'all'."),
        ({"weights": [[1, 2], [3]]}, "Weights on layer '{layer}' expect an array of real numbers."),
        ({"weights": np.ones((2, 2, 3)) * 1j}, "Weights on layer '{layer}' expect an array of real numbers."),
        ({"channel": 3}, "Layer '{layer}' has the channels 0 to 2. Received: channel=3."),
        ({"channel": -4}, "Layer '{layer}' has the channels 0 to 2. Received: channel=-4."),
        ({"channel": 1.0}, "Layer '{layer}' has the channels 0 to 2. Received: channel=1.0."),
        ({"channel": [0, 3]}, "Received: channel=3."),
        ({"channel": []}, "Expected at least one channel of layer '{layer}'. Received: channel=[]."),
        ({"channel": True}, "Layer '{layer}' has the channels 0 to 2. Received: channel=True. Pass a mask as region=."),
        ({"channel": np.array([True, False, True])}, "Received: channel=True. Pass a mask as region=."),
        ({"channel": "ab"}, "Layer '{layer}' has the channels 0 to 2. Received: channel='ab'."),
        ({"channel": (0, 1.5)}, "Layer '{layer}' has the channels 0 to 2. Received: channel=1.5."),
        ({"units": (True, 0, 1)}, "Received: booleans. Pass a mask as region=."),
        ({"units": [(0, 0, 1), (0, True, 1)]}, "Received: booleans. Pass a mask as region=."),
        ({"units": [[[True] * 3] * 2] * 2}, "Received: booleans. Pass a mask as region=."),
        ({"region": np.ones((3, 2, 2), bool)}, "For one region a sample pass a list, region=[...], and per_sample=T"),
        ({"region": np.ones((3, 2, 2, 3), bool)}, "For one region a sample pass a list, region=[...], and per_sample"),
        ({"weights": np.ones((3, 2, 2, 3)), "per_sample": True}, "Weights with the batch axis need no per_sample=True"),
        ({"channel": [0, 1], "region": [np.ones((2, 2), bool)] * 3}, "or one of either. Received: 2 and 3."),
        ({"region": np.ones((2, 3), bool)}, "A region of layer '{layer}' is a boolean array of shape (2, 2, 3) or (2,"),
        ({"region": np.ones((2, 2))}, "Received: float64 of shape (2, 2)."),
        ({"region": np.zeros((2, 2), bool)}, "A region of layer '{layer}' holds at least one unit. Received: an empty"),
        ({"channel": 2, "channel_axis": 1}, "Layer '{layer}' has the channels 0 to 1. Received: channel=2."),
        ({"channel": 0, "channel_axis": 3}, "'{layer}'"),
        ({"channel": 0, "channel_axis": -4}, "'{layer}'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_does_not_fit_is_said(trace, sign, how, message):
    query = trace.between("input", "rank3").map if sign > 0 else trace.between("rank3", "logits").effect
    how = dict(how)
    units = (how.pop("units"),) if "units" in how else ()
    message = message.format(word="target" if sign > 0 else "source", layer="rank3")
    with pytest.raises(TargetError, match=re.escape(message)):
        query(*units, **how)


def test_a_boolean_mask_is_not_a_list_of_units(trace):
    """Taken as rows of indices, a mask would be a wrong map without a word."""
    with pytest.raises(TargetError, match="A unit of layer 'rank2' is a tuple of 2 ints"):
        trace.between("input", "rank2").map(np.ones((3, 2), bool))


def test_a_layer_without_axes_has_no_channels():
    x = keras.Input((3,))
    total = keras.ops.sum(layers.Dense(2)(x), axis=-1)
    trace = pane_keras.wrap(keras.Model(x, total)).trace(draw(2, 3))
    pair = trace.between("input", "logits")
    assert pair.map(()).sum.shape == (2, 3)
    assert pair.map(weights=np.array(2.0)).sum.shape == (2, 3)
    with pytest.raises(TargetError, match="'logits'"):
        pair.map(channel=0)


@pytest.mark.parametrize("mask", [[True, False, True, False], np.array([True, False, True, False])], ids=type)
def test_a_list_of_booleans_is_not_units_0_and_1(mask):
    x = keras.Input((3,))
    pair = pane_keras.wrap(filled(x, layers.Dense(4)(x))).trace(draw(2, 3)).between("input", "logits")
    with pytest.raises(TargetError, match=r"of layer 'logits' is .* Received: booleans\. Pass a mask as region="):
        pair.map(mask)
    assert pair.map(region=mask).sum.shape == (2, 3)


def test_an_argument_that_there_is_not(trace):
    for query in (trace.between("input", "rank3").map, trace.between("rank3", "logits").effect):
        with pytest.raises(TypeError, match=r"Excitation\.(map|effect)\(\) got an unexpected keyword argument 'units'"):
            query(units=3)
