"""`pane.explain_dataset`: maps of many samples, batch by batch, in memory or as files that a later call completes."""

import os

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers

import pane_keras
from pane_keras.errors import InputError, NonFiniteError, SaveError, TargetError
from pane_keras.testing import channels
from pane_keras.wrapping import PaneModel

PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale")
SAMPLES = 5


def small():
    x = keras.Input((6,), name="features")
    hidden = layers.Dense(7, activation="relu", name="hidden")(x)
    kind = layers.Dense(3, activation="softmax", name="kind")(hidden)
    return filled(x, [kind, layers.Dense(2, name="size")(hidden)])


@pytest.fixture(scope="module")
def pane():
    """Shared, with the functions that it has compiled, by the tests that change no weights."""
    return pane_keras.wrap(small())


@pytest.fixture
def x():
    return draw(SAMPLES, 6)


@pytest.fixture
def computed(monkeypatch):
    """The list of batches that were explained rather than read."""
    seen, plain = [], PaneModel.explain
    monkeypatch.setattr(
        PaneModel, "explain", lambda self, x, *args, **how: seen.append(len(x)) or plain(self, x, *args, **how)
    )
    return seen


def explain(pane, data, **how):
    return list(pane.explain_dataset(data, **{"batch_size": 2, "output": "kind", "progress": False, **how}))


def assert_maps(maps, pane, x, **how):
    """Batches of maps, one after the other, are those of all samples at once; batches are uneven at the end only."""
    assert [len(m.sum) for m in maps] == [2] * (len(x) // 2) + [1] * (len(x) % 2)
    whole = pane.trace(x).saliency(output="kind", **how)
    found = [np.concatenate(parts) for parts in zip(*map(channels, maps))]
    size = np.abs(channels(whole)[1]).max()
    for mine, twin in zip(found, channels(whole)):
        assert np.abs(mine - twin).max() <= 1e-5 * size
    np.testing.assert_array_equal(np.concatenate([m.signal for m in maps]), whole.signal)


def labelled(x):
    return tf.data.Dataset.from_tensor_slices((x, np.arange(len(x))))


def hdf5(x):
    """A dataset in memory, which is indexed in increasing order only."""
    return h5py.File("samples.h5", "w", driver="core", backing_store=False).create_dataset("x", data=x)


DATA = {
    "array": (lambda x: x, 2),
    "list of one array": (lambda x: [x], 2),
    "tensor": (tf.convert_to_tensor, 2),
    "dataset": (tf.data.Dataset.from_tensor_slices, 2),
    "dataset with labels": (labelled, 2),
    "batched dataset": (lambda x: tf.data.Dataset.from_tensor_slices(x).batch(2), None),
    "batched dataset with labels": (lambda x: labelled(x).batch(2), None),
    "hdf5": (hdf5, 2),
    "generated": (lambda x: tf.data.Dataset.from_generator(lambda: iter(x), output_signature=tf.TensorSpec(6)), 2),
}


@pytest.mark.parametrize("kind", DATA)
def test_any_kind_of_data(pane, x, kind):
    make, batch_size = DATA[kind]
    assert_maps(explain(pane, make(x), batch_size=batch_size, target=1), pane, x, target=1)


def test_hdf5_and_array_are_the_same_data_to_files(pane, x, computed, tmp_path):
    how = {"out": tmp_path / "maps", "target": 1}
    assert explain(pane, hdf5(x), **how) == explain(pane, x, **how)
    assert computed == [2, 2, 2]


def test_settings_are_those_of_explain(pane, x):
    assert_maps(explain(pane, x), pane, x)
    assert_maps(explain(pane, x, target=2, split_below="hidden"), pane, x, target=2, split_below="hidden")


def test_the_last_batch_is_filled_up_and_traced_once(monkeypatch, x):
    runs, plain = [], PaneModel._run
    monkeypatch.setattr(
        PaneModel, "_run", lambda self, tensors: runs.append(tensors[0].shape[0]) or plain(self, tensors)
    )
    pane = pane_keras.wrap(small())
    for data in (x, labelled(x)):
        explain(pane, data, target=1)
    assert runs == [2]


def test_several_inputs_are_a_list_or_nested_in_a_dataset(two_inputs, inputs_for):
    pane, arrays = pane_keras.wrap(two_inputs), inputs_for(two_inputs, 3)
    whole = pane.trace(arrays).saliency(1)
    datasets = [tf.data.Dataset.from_tensor_slices((tuple(arrays), np.zeros(3)))]
    datasets.append(tf.data.Dataset.from_tensor_slices(dict(zip(("left", "right"), arrays))))
    for data in (arrays, tuple(arrays), *datasets):
        found = list(pane.explain_dataset(data, 1, batch_size=2, progress=False))
        for name in ("left", "right"):
            mine = np.concatenate([channels(maps[name])[0] for maps in found])
            np.testing.assert_allclose(mine, channels(whole[name])[0], rtol=1e-5, atol=1e-6)


def test_progress_goes_to_stderr_or_nowhere(pane, x, capsys):
    explain(pane, x, target=1)
    assert capsys.readouterr() == ("", "")
    explain(pane, x, target=1, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "batch" in err


def test_nothing_runs_before_it_is_asked_for(pane, x, computed):
    batches = pane.explain_dataset(x, 1, batch_size=2, output="kind", progress=False)
    assert computed == []
    next(batches)
    assert computed == [2]


@pytest.mark.parametrize("data", [None, [], 3.0, "pictures", [[1.0] * 6], {"features": np.ones((2, 6))}], ids=repr)
@pytest.mark.parametrize("to_files", [False, True])
def test_no_data(pane, data, to_files, tmp_path):
    with pytest.raises(InputError, match=r"Expected an array or a tf\.data\.Dataset\. Received: "):
        explain(pane, data, out=tmp_path / "maps" if to_files else None)


def test_no_samples(pane, x):
    assert explain(pane, x[:0]) == []


def test_what_one_batch_raises_comes_out(pane, x):
    with pytest.raises(TargetError, match="has 3 classes"):
        explain(pane, x, target=7)
    with pytest.raises(InputError, match="shape"):
        explain(pane, x[:, :4])
    x[4, 0] = np.nan
    with pytest.raises(NonFiniteError):
        explain(pane, x)


def test_arrays_of_different_length(two_inputs, inputs_for):
    left, right = inputs_for(two_inputs, 5)
    with pytest.raises(InputError):
        list(pane_keras.wrap(two_inputs).explain_dataset([left, right[:3]], 1, batch_size=2, progress=False))


# --- files ----------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(os.listdir(folder))


FILES = ["explained.json", "maps_00000.npz", "maps_00001.npz", "maps_00002.npz"]


def test_files_are_whole_and_named(pane, x, tmp_path):
    folder = tmp_path / "deep" / "maps"
    paths = explain(pane, x, target=1, out=folder)
    assert [path.name for path in paths] == FILES[1:]
    assert names(folder) == FILES
    for path, maps in zip(paths, explain(pane, x, target=1)):
        with np.load(path) as arrays:
            assert set(arrays) == {*PARTS, "inputs_sha256"}
            for part in PARTS:
                np.testing.assert_array_equal(arrays[part], getattr(maps, part))


def test_several_inputs_are_in_one_file(two_inputs, inputs_for, tmp_path):
    pane, arrays = pane_keras.wrap(two_inputs), inputs_for(two_inputs, 3)
    first, _ = pane.explain_dataset(arrays, 1, batch_size=2, out=str(tmp_path), progress=False)
    expected = pane.explain([a[:2] for a in arrays], 1)
    with np.load(first) as found:
        parts = {f"{name}/{part}" for name in ("left", "right") for part in PARTS}
        assert set(found) == {*parts, "inputs_sha256"}
        for name in ("left", "right"):
            np.testing.assert_array_equal(found[f"{name}/sum"], expected[name].sum)


@pytest.mark.parametrize("make", [lambda x: x, labelled], ids=["array", "dataset"])
def test_finished_files_are_kept(pane, x, computed, tmp_path, make):
    paths = explain(pane, make(x), target=1, out=tmp_path)
    assert computed == [2, 2, 2]
    before = [path.read_bytes() for path in paths]
    os.remove(paths[1])
    assert explain(pane, make(x), target=1, out=tmp_path) == paths
    assert computed == [2, 2, 2, 2]
    assert names(tmp_path) == FILES
    for path, content in zip(paths, before):
        with np.load(path) as again:
            assert set(again) == {*PARTS, "inputs_sha256"}
        assert path == paths[1] or path.read_bytes() == content


def test_a_call_that_was_stopped_goes_on(pane, x, computed, tmp_path):
    batches = pane.explain_dataset(x, 1, batch_size=2, output="kind", out=tmp_path, progress=False)
    next(batches)
    batches.close()
    assert names(tmp_path) == FILES[:2]
    (tmp_path / "tmpleftover.part").write_bytes(b"half a file")
    assert [path.name for path in explain(pane, x, target=1, out=tmp_path)] == FILES[1:]
    assert computed == [2, 2, 2]


def test_other_files_in_the_folder_do_no_harm(pane, x, tmp_path):
    (tmp_path / "maps_mean.npz").write_bytes(b"somebody's own")
    assert [path.name for path in explain(pane, x, target=1, out=tmp_path)] == FILES[1:]


@pytest.mark.parametrize(
    "other",
    [{"target": 2}, {"target": None}, {"batch_size": 3}, {"output": "size"}, {"split_below": "hidden"}, "data",
     "more data", "weights"],
    ids=str,
)  # fmt: skip
def test_a_folder_of_other_maps_is_refused(pane, x, tmp_path, other):
    pane = pane_keras.wrap(small()) if other == "weights" else pane
    explain(pane, x, target=1, out=tmp_path)
    how = {"target": 1, **(other if isinstance(other, dict) else {})}
    if other == "weights":
        pane.model.get_layer("kind").kernel.assign_add(np.ones((7, 3)))
    data = {"data": 2 * x, "more data": np.concatenate([x, x])}.get(other if isinstance(other, str) else None, x)
    with pytest.raises(SaveError, match="holds results of another model, data or settings"):
        explain(pane, data, out=tmp_path, **how)
    assert names(tmp_path) == FILES


def test_a_sample_in_the_middle_that_changed_is_noticed(pane, x, tmp_path):
    explain(pane, x, target=1, out=tmp_path)
    other = np.array(x)
    other[len(x) // 2] *= 2
    with pytest.raises(SaveError, match=r"maps_00001\.npz' holds the maps of other inputs\. Choose another folder"):
        explain(pane, other, target=1, out=tmp_path)


@pytest.mark.parametrize("change", [{"activation": "tanh"}, {"strides": 2}])
def test_another_architecture_with_the_same_weights_is_refused(x, tmp_path, change):
    def model(**how):
        inputs = keras.Input((8, 8, 2))
        y = layers.Conv2D(3, 3, padding="same", name="conv", **how)(inputs)
        return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)), name="net")

    first, other = model(), model(**change)
    other.set_weights(first.get_weights())
    pictures = np.ones((2, 8, 8, 2), "float32")
    explain(pane_keras.wrap(first), pictures, out=tmp_path, output=None)
    with pytest.raises(SaveError, match="holds results of another model, data or settings"):
        explain(pane_keras.wrap(other), pictures, out=tmp_path, output=None)


def test_a_model_that_was_saved_and_loaded_finds_its_folder(computed, tmp_path):
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=3)
    model.save(tmp_path / "net.keras")
    pictures = np.ones((1, 32, 32, 3), "float32")
    for one in (model, keras.saving.load_model(tmp_path / "net.keras")):
        explain(pane_keras.wrap(one), pictures, out=tmp_path / "maps", output=None)
    assert len(computed) == 1


def test_a_folder_of_another_dataset_is_refused(pane, x, tmp_path):
    explain(pane, labelled(x), target=1, out=tmp_path)
    with pytest.raises(SaveError, match="holds results of another model, data or settings"):
        explain(pane, labelled(2 * x), target=1, out=tmp_path)


@pytest.mark.parametrize("how", [{"target": np.int64(1)}, {"xla": False}, {"split_below": None}], ids=str)
def test_settings_that_say_the_same(pane, x, computed, tmp_path, how):
    """A class may be a NumPy integer, and what is the default anyway may be left out."""
    explain(pane, x, target=1, out=tmp_path / "one")
    explain(pane, x, out=tmp_path / "one", **{"target": 1, **how})
    assert computed == [2, 2, 2]


def test_a_class_that_is_a_numpy_integer_in_a_new_folder(pane, x, tmp_path):
    assert len(explain(pane, x, target=np.int64(1), out=tmp_path)) == 3


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none/maps"])
def test_a_folder_that_cannot_be_made(pane, x, tmp_path, place):
    (tmp_path / "file").write_text("here already")
    with pytest.raises(SaveError, match="Cannot write"):
        explain(pane, x, target=1, out=tmp_path / place)


@pytest.mark.parametrize("fails", ["pathlib.Path.open", "os.replace"])
def test_a_folder_that_cannot_be_written(pane, x, tmp_path, monkeypatch, fails):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fails, full)
    with pytest.raises(SaveError, match=r"Cannot write .*: No space left on device"):
        explain(pane, x, target=1, out=tmp_path)
    assert not list(tmp_path.glob("maps_*.npz"))


def test_settings_that_are_not_of_this_function(pane, x, tmp_path):
    (tmp_path / "explained.json").write_text("not JSON")
    with pytest.raises(SaveError, match="holds results of another model, data or settings"):
        explain(pane, x, target=1, out=tmp_path)


def test_an_unnamed_model_that_is_built_again_finds_its_folder(x, computed, tmp_path):
    """Keras numbers the unnamed models of a process: the one of a cell that runs again has another name."""
    first, again = small(), small()
    again.set_weights(first.get_weights())
    assert first.name != again.name
    for model in (first, again):
        explain(pane_keras.wrap(model), x, out=tmp_path / "maps")
    assert len(computed) == 3
