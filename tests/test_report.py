"""`report(model)`: what every layer will be treated as, before anything runs."""

import keras
import pytest
from keras import layers, ops

import pane_keras
from pane_keras import pieces
from pane_keras.errors import ModelError, UnsupportedLayerError


class Odd(layers.Layer):
    def call(self, x):
        return x * x


class Louder(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


@pytest.fixture
def model():
    """One layer of every treatment: excited, transparent, held, and three that are unsupported."""
    keras.backend.clear_session()  # operations have automatic names
    x = keras.Input((4,), name="x")
    h = layers.Dropout(0.5, name="drop")(layers.Dense(4, name="fc")(x))
    h = h * ops.cast(h > 0, "float32")
    h = Louder(4, name="louder")(Odd(name="odd")(h))
    return keras.Model(x, layers.Dropout(0.5, name="noisy")(h, training=True), name="mixed")


def treatments(model):
    return {layer.name: layer for layer in pane_keras.report(model).layers}


def test_groups(model):
    found = {name: layer.group for name, layer in treatments(model).items()}
    assert found == {
        "fc": "excited",
        "drop": "transparent",
        "greater": "held",
        "cast": "held",
        "multiply": "excited",
        "odd": "unsupported",
        "louder": "unsupported",
        "noisy": "unsupported",
    }


def test_notes_say_the_law_or_the_remedy(model):
    found = treatments(model)
    assert found["fc"].note == "o'_j = sum_i x_i W_ij."
    assert (found["fc"].layer, found["fc"].shape) == ("Dense", (None, 4))
    assert "@pane_keras.register(Odd)" in found["odd"].note
    assert "redefines call of Dense" in found["louder"].note
    assert "training=True" in found["noisy"].note


def test_the_table(model):
    lines = str(pane_keras.report(model)).splitlines()
    assert lines[0].split() == ["layer", "class", "output", "shape", "treated", "as", "because"]
    assert [line.split()[0] for line in lines[1:4]] == ["fc", "drop", "greater"]
    assert lines[-1] == "mixed: 3 of 8 layers are unsupported"


def test_ok_once_everything_is_registered(model, own_registry):
    report = pane_keras.report(model)
    assert not report.ok
    assert [layer.name for layer in report.unsupported] == ["odd", "louder", "noisy"]
    pane_keras.register(Odd, Louder)(pieces.graph)
    assert [layer.name for layer in pane_keras.report(model).unsupported] == ["noisy"]


def test_a_supported_model(cnn):
    report = pane_keras.report(cnn)
    assert report.ok
    assert str(report).splitlines()[-1] == "cnn: 6 layers, all supported"
    assert pane_keras.wrap(cnn)


def test_what_the_report_says_wrap_does(model):
    with pytest.raises(UnsupportedLayerError) as caught:
        pane_keras.wrap(model)
    assert str(caught.value) == pane_keras.report(model).unsupported[0].note


def test_several_outputs_have_several_shapes():
    x = keras.Input((5, 3))
    output, *states = layers.LSTM(2, return_state=True, return_sequences=True, name="lstm")(x)
    found = treatments(keras.Model(x, [output, *states]))
    assert found["lstm"].shape == [(None, 5, 2), (None, 2), (None, 2)]


def test_an_operation_without_a_rule():
    x = keras.Input((3, 3))
    found = treatments(keras.Model(x, ops.cross(x, x)))
    assert found["cross"].group == "unsupported"
    assert "(keras.ops, class Cross) has no excitation rule" in found["cross"].note


def test_a_refused_layer_says_why():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, layers.ContrastLimitedAdaptiveHistogramEqualization(name="clahe")(x))
    assert "cannot be explained: it counts pixels" in treatments(model)["clahe"].note


def test_a_wrapped_model_is_reported_as_its_model(cnn):
    assert pane_keras.report(pane_keras.wrap(cnn)) == pane_keras.report(cnn)


def test_no_model():
    with pytest.raises(ModelError, match=r"Expected a built keras\.Model"):
        pane_keras.report("model")
