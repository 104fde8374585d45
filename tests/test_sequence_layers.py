"""Categories, masked merges and softmax, adaptive pooling, pictures before training, wrappers, Dot, spectrograms.

The twins are `Tracked` formulas with signs of their own, except where a test says that it takes the signs of the trace
(`assert_network`, `check_layer`).
"""

import keras
import numpy as np
import pytest
import twins_sequences as twins
from agreement import assert_agrees, assert_close, assert_network, draw, filled, traced
from keras import layers, ops
from tracked import joined, linear, matrix, scaled, source, stage, tanh, where

from pane_keras.errors import NoPathError
from pane_keras.plotting import strip
from pane_keras.testing import check_layer

T, D = 3, 2


# --- masks --------------------------------------------------------------------------------------------------------

KEPT = np.array([[True, True, False, True], [False, True, False, False]])


@pytest.mark.parametrize("numbers", [False, True])
def test_masked_softmax_holds_what_the_mask_keeps(numbers):
    """The normaliser Z and the mean m are those of the elements that the mask keeps: c = (y - e^m / Z) / (x - m)."""
    x, mask = keras.Input((4,), name="x"), keras.Input((4,), dtype="float32" if numbers else "bool", name="mask")
    layer, data = layers.Softmax(name="softmax"), draw(2, 4)
    kept = np.where(KEPT, 0.9, 0.2).astype("float32") if numbers else KEPT
    trace = traced(filled([x, mask], layers.Dense(2)(layer(x, mask=mask))), [data, kept])
    assert_agrees(trace, "x", "softmax", _masked_softmax(data))


def _masked_softmax(data):
    powers = np.where(KEPT, np.exp(np.float64(data)), 0)
    total, mean = powers.sum(axis=1, keepdims=True), (data * KEPT).sum(axis=1, keepdims=True) / KEPT.sum(1)[:, None]
    level, distance = np.exp(mean) / total, data - mean
    at_mean = np.abs(distance) < 1e-7  # of a single element that is kept
    slopes = np.where(at_mean, level, (powers / total - level) / np.where(at_mean, 1, distance))
    return scaled(source("x", data), slopes * KEPT, (level - slopes * mean) * KEPT)


def test_masked_average_over_time():
    data, kept = draw(2, 4, D), KEPT
    x, mask = keras.Input((4, D), name="x"), keras.Input((4,), dtype="bool", name="mask")
    layer = layers.GlobalAveragePooling1D()
    trace = traced(filled([x, mask], layer(x, mask=mask)), [data, kept])
    weights = kept / kept.sum(axis=1, keepdims=True)
    expected = linear(source("x", data), [lambda s, w=w: w @ s for w in weights])
    assert_agrees(trace, "x", layer.name, expected)


IDS = np.array([[[0, 3, 0, 1], [2, 0, 0, 3]], [[1, 2, 0, 0], [3, 0, 4, 0]]])  # (inputs, batch, time)


def _product(a, b, first, second):
    return where(first | second, where(first, a, 1.0) * where(second, b, 1.0), 0.0)


MERGES = {
    "Multiply": _product,
    "Add": lambda a, b, *_: a + b,
    "Concatenate": lambda a, b, *_: joined(lambda s, t: np.concatenate([s, t], axis=-1), a, b),
}


def _masked_pair(merge):
    """A model that merges two embeddings with masks, which a recurrent layer reads."""
    ids = [keras.Input((4,), dtype="int32", name=name) for name in ("left", "right")]
    tables = [layers.Embedding(5, D, mask_zero=True, name=f"table_{i.name}") for i in ids]
    layer, end = getattr(layers, merge)(), layers.SimpleRNN(2)
    model = filled(ids, end(layer([table(i) for table, i in zip(tables, ids)])))
    return model, layer, end, tables


@pytest.mark.parametrize("merge", MERGES)
def test_masked_inputs_merged(merge):
    model, layer, end, tables = _masked_pair(merge)
    trace = traced(model, list(IDS))
    a, b = (source(table.name, twins.embedding(table, ids)) for table, ids in zip(tables, IDS))
    merged = MERGES[merge](a, b, *(IDS != 0))
    after = twins.recurrent(end, merged, mask=(IDS != 0).any(axis=0))[0][-1]
    for table in tables:
        assert_agrees(trace, table.name, layer.name, merged)
        assert_agrees(trace, table.name, end.name, after)


@pytest.mark.parametrize(("merge", "function"), [("Maximum", np.maximum), ("Minimum", np.minimum)])
def test_masked_inputs_chosen(merge, function):
    """Where only one of them is kept it is the one, where none is, the first; else 1 at the larger, or smaller."""
    model, layer, end, tables = _masked_pair(merge)
    trace = traced(model, list(IDS))
    a, b = (source(table.name, twins.embedding(table, ids)) for table, ids in zip(tables, IDS))
    first, second = (np.broadcast_to(kept[..., None], a.value.shape) for kept in IDS != 0)
    larger = function(a.value, b.value) == a.value
    merged = where(np.where(first & second, larger, first | ~second), a, b)
    for table in tables:
        assert_agrees(trace, table.name, layer.name, merged)
        assert_network(trace, table.name, end.name)


# --- categories ---------------------------------------------------------------------------------------------------

NUMBERS, WORDS = np.array([[1, 3, 1], [0, 2, 3]]), np.array([["a b"], ["c a"]])


def _lookup():
    return layers.IntegerLookup(vocabulary=[3, 1, 2], output_mode="multi_hot")


CATEGORIES = {
    "one hot": (lambda: layers.CategoryEncoding(4, output_mode="one_hot"), NUMBERS[:, :1], "int32"),
    "multi hot": (lambda: layers.CategoryEncoding(4, output_mode="multi_hot"), NUMBERS, "int32"),
    "count": (lambda: layers.CategoryEncoding(4, output_mode="count"), NUMBERS, "int32"),
    "bins": (lambda: layers.Discretization([0.5, 2.5], output_mode="one_hot"), NUMBERS[:, 1:2] * 1.0, "float32"),
    "hash": (lambda: layers.Hashing(4, output_mode="one_hot"), NUMBERS[:, :1], "int32"),
    "numbers": (_lookup, NUMBERS, "int64"),
}


@pytest.mark.parametrize("case", CATEGORIES)
def test_excitations_start_from_a_category(case):
    make, data, dtype = CATEGORIES[case]
    layer, dense = make(), layers.Dense(2, name="scores")
    x = keras.Input(data.shape[1:], dtype=dtype, name="x")
    trace = traced(filled(x, dense(layer(x))), data.astype(dtype))
    category = np.asarray(layer(data.astype(dtype)))
    assert_agrees(trace, layer.name, "scores", twins.dense(dense, source(layer.name, category)))
    with pytest.raises(NoPathError):
        trace.between("x", "scores")


@pytest.mark.parametrize("make", [
    lambda: layers.StringLookup(vocabulary=["a b", "c"], output_mode="one_hot"),
    lambda: layers.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot"),
], ids=["lookup", "vectorization"])  # fmt: skip
def test_excitations_start_from_a_category_of_words(make):
    layer, dense = make(), layers.Dense(2, name="scores")
    x = keras.Input((1,), dtype="string")
    trace = traced(filled(x, dense(layer(x))), ops.convert_to_tensor(WORDS))
    category = np.asarray(layer(WORDS))
    assert_agrees(trace, layer.name, "scores", twins.dense(dense, source(layer.name, category)))


WORDY = {
    "lookup": lambda **how: layers.StringLookup(vocabulary=["a b", "c"], output_mode="one_hot", **how),
    "vectorization": lambda **how: layers.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot", **how),
    "hash": lambda **how: layers.Hashing(4, output_mode="one_hot", **how),
}


@pytest.mark.parametrize("case", WORDY)
def test_words_have_no_coefficients(case):
    """Words are zero excitation; what they are turned into can be asked for and drawn."""
    layer, x = WORDY[case](name="found"), keras.Input((1,), dtype="string", name="words")
    trace = traced(filled(x, layers.Dense(2, name="scores")(layer(x))), ops.convert_to_tensor(WORDS))
    output, positive, negative = trace[layer.name]
    np.testing.assert_array_equal(output, layer(WORDS))
    assert positive.shape == negative.shape == (2, *output.shape[1:], 1)
    assert not positive.excitation.signal.numpy().any()
    for part in (positive, negative):
        assert not np.asarray(part).any()
    assert layer.name in strip(trace, [layer.name]).axes[0].get_title()


def test_words_as_indices_of_an_embedding():
    text, table = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3), layers.Embedding(5, D)
    x, end = keras.Input((1,), dtype="string"), layers.GlobalAveragePooling1D()
    trace = traced(filled(x, end(table(text(x)))), ops.convert_to_tensor(WORDS))
    vectors = source(table.name, twins.embedding(table, np.asarray(text(WORDS))))
    assert_agrees(trace, table.name, end.name, linear(vectors, lambda s: s.mean(axis=0)))


# --- adaptive pooling ---------------------------------------------------------------------------------------------

SPACES = {1: ((5,), 3), 2: ((4, 3), (3, 2)), 3: ((3, 3, 4), (2, 2, 3))}


def _windows(space, outs):
    """For each output the index of its window, from floor(i n / m) to ceil((i + 1) n / m) on every axis."""
    for place in np.ndindex(*outs):
        yield place, tuple(slice(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(place, space, outs))


def _pooled(space, outs, first, reduce):
    """The function of one sample that reduces each window of each channel to a number."""

    def of(sample):
        moved = np.moveaxis(sample, 0, -1) if first else sample
        result = np.zeros((*outs, moved.shape[-1]))
        for place, window in _windows(space, outs):
            result[place] = [reduce(moved[window][..., c], place, c) for c in range(moved.shape[-1])]
        return np.moveaxis(result, -1, 0) if first else result

    return of


@pytest.mark.parametrize("rank", SPACES)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("kind", ["Average", "Max"])
def test_adaptive_pooling(rank, data_format, kind):
    _check_adaptive_pooling(*SPACES[rank], rank, data_format, kind)


@pytest.mark.parametrize(("space", "size"), [((4,), 6), ((2, 3), (5, 2))], ids=str)
@pytest.mark.parametrize("kind", ["Average", "Max"])
def test_adaptive_pooling_to_more_than_there_is(space, size, kind):
    """Windows overlap, and an element is selected more than once. In three dimensions Keras's own layer crashes."""
    _check_adaptive_pooling(space, size, len(space), "channels_last", kind)


def _check_adaptive_pooling(space, size, rank, data_format, kind):
    outs, first = (size,) if rank == 1 else size, data_format == "channels_first"
    layer = getattr(layers, f"Adaptive{kind}Pooling{rank}D")(size, data_format=data_format)
    shape = (D, *space) if first else (*space, D)
    x, data = keras.Input(shape), draw(2, *shape)
    trace = traced(filled(x, layer(x)), data)
    mean = _pooled(space, outs, first, lambda window, *_: window.mean())
    choose = [_selected(space, outs, first, sample) for sample in data]
    assert_agrees(trace, "input", layer.name, linear(source("input", data), mean if kind == "Average" else choose))


def _selected(space, outs, first, sample):
    """Picks the first largest element of each window of this sample."""
    index = {}
    _pooled(space, outs, first, lambda w, place, c: index.setdefault((place, c), np.argmax(w)))(sample)
    return _pooled(space, outs, first, lambda w, place, c: w.ravel()[index[place, c]])


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 3), (6, 5)])
def test_center_crop_keeps_every_law(size):
    """The middle, or a resized picture; signs from the forward pass."""
    check_layer(layers.CenterCrop(*size), (4, 5, 1))


def test_center_crop_is_the_middle():
    x, data, layer = keras.Input((4, 5, D)), draw(2, 4, 5, D), layers.CenterCrop(2, 3)
    trace = traced(filled(x, layer(x)), data)
    assert_agrees(trace, "input", layer.name, source("input", data)[1:3, 1:4])


def test_auto_contrast_holds_the_darkest_and_the_brightest():
    data = draw(2, 3, 3, D) * 40 + 100
    data[1, :, :, 1] = 7
    x, layer = keras.Input((3, 3, D)), layers.AutoContrast()
    trace = traced(filled(x, layer(x)), data)
    low, high = (f(data, axis=(1, 2), keepdims=True).astype("float64") for f in (np.min, np.max))
    scale = np.where(high == low, 1, 255 / np.where(high == low, 1, high - low))
    expected = scaled(source("input", data), np.broadcast_to(scale, data.shape), np.where(high == low, 0, -low * scale))
    assert_agrees(trace, "input", layer.name, expected)


AUGMENTATION = {
    "RandomFlip": (), "RandomRotation": (0.2,), "RandomZoom": (0.2,), "RandomContrast": (0.2,), "RandomShear": (0.2,),
    "RandomBrightness": (0.2,), "RandomTranslation": (0.1, 0.1), "RandomCrop": (4, 4), "Solarization": (),
    "RandomGaussianBlur": (), "RandomHue": (0.2,), "RandomGrayscale": (), "RandomErasing": (), "MixUp": (),
    "RandomInvert": (), "RandAugment": (), "CutMix": (),
}  # fmt: skip


@pytest.mark.parametrize("name", AUGMENTATION)
def test_augmentation_changes_nothing_at_inference(name):
    layer = getattr(layers, name)(*AUGMENTATION[name])
    x, data, dense = keras.Input((4, 4, 3)), draw(1, 4, 4, 3), layers.Dense(2)
    trace = traced(filled(x, dense(layer(x))), data)
    assert_close(trace[layer.name].output, data, "picture")
    assert_agrees(trace, "input", dense.name, linear(source("input", data), lambda s: s @ twins.values(dense.kernel),
                                                     twins.values(dense.bias)))  # fmt: skip


# --- wrappers, functions, products --------------------------------------------------------------------------------


def test_spectral_normalization_is_the_layer_inside():
    inner = layers.Dense(3, activation="tanh")
    x, data, layer = keras.Input((4,)), draw(2, 4), layers.SpectralNormalization(inner)
    trace = traced(filled(x, layer(x)), data)
    assert_agrees(trace, "input", layer.name, tanh(twins.dense(inner, source("input", data))))


def test_a_pipeline_is_its_layers():
    parts = [layers.Rescaling(0.5, offset=1.0), layers.RandomFlip(), layers.CenterCrop(2, 2)]
    x, data, layer = keras.Input((4, 4, 1)), draw(2, 4, 4, 1), layers.Pipeline(parts)
    trace = traced(filled(x, layer(x)), data)
    assert_agrees(trace, "input", layer.name, scaled(source("input", data), 0.5, 1.0)[1:3, 1:3])


def test_a_lambda_of_operations():
    layer = layers.Lambda(lambda t: ops.tanh(t[:, 0] * t[:, 1]) - ops.mean(t, axis=1))
    x, data = keras.Input((T, D)), draw(2, T, D)
    trace = traced(filled(x, layer(x)), data)
    signal = source("input", data)
    expected = tanh(signal[0] * signal[1]) - linear(signal, lambda s: s.mean(axis=0))
    assert_agrees(trace, "input", layer.name, expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_dot_gives_each_factor_half(normalize):
    """Normalised, each vector is divided by its length, which is held fixed."""
    shapes, layer = {"left": (T, D), "right": (4, D)}, layers.Dot(axes=2, normalize=normalize)
    symbols = [keras.Input(shape, name=name) for name, shape in shapes.items()]
    x = {name: draw(2, *shape, seed=4) for name, shape in shapes.items()}
    trace = traced(filled(symbols, layer(symbols)), list(x.values()))
    a, b = (_unit(source(name, value)) if normalize else source(name, value) for name, value in x.items())
    expected = _products(a, b)
    for name in x:
        assert_agrees(trace, name, layer.name, expected)


def _unit(x):
    length = np.sqrt((x.value**2).sum(axis=-1, keepdims=True))
    return scaled(x, np.broadcast_to(np.divide(1, length, where=length > 0, out=np.zeros_like(length)), x.value.shape))


def _products(a, b):
    """o[t, s] = sum_d a[t, d] b[s, d]: half of each term counts for a, half for b, and all terms are one sum."""
    return stage(
        [
            (np.stack([matrix(lambda s, f=f: s @ f.T / 2, a.value.shape[1:]) for f in b.value]), a),
            (np.stack([matrix(lambda s, f=f: f @ s.T / 2, b.value.shape[1:]) for f in a.value]), b),
        ],
        (a.value.shape[1], b.value.shape[1]),
    )


@pytest.mark.parametrize("mode", ["real", "imag", "stft", "magnitude", "psd", "log"])
def test_spectrogram(mode):
    """Signs of the trace."""
    layer = layers.STFTSpectrogram(mode=mode, frame_length=4, frame_step=2, fft_length=4)
    x, data = keras.Input((8, 1)), draw(2, 8, 1, seed=2)
    trace = traced(filled(x, layer(x)), data)
    assert assert_network(trace, "input", layer.name).any()


@pytest.mark.parametrize(("rank", "settings"), [
    (1, {"return_sequences": True, "go_backwards": True}), (1, {"dropout": 0.3, "use_bias": False}),
    (2, {"padding": "same"}), (3, {}),
])  # fmt: skip
def test_convolutional_recurrence(rank, settings):
    """Signs of the trace."""
    layer = getattr(layers, f"ConvLSTM{rank}D")(1, 2, **settings)
    x, data = keras.Input((2, *[3] * rank, 1)), draw(2, 2, *[3] * rank, 1)
    trace = traced(filled(x, layer(x)), data)
    assert assert_network(trace, "input", layer.name).any()
