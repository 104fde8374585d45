"""`dense(out=)`: a pair in files, by every plan, within `max_bytes`, completed by a later call, or refused."""

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from agreement import draw, filled
from keras import layers
from test_dense_pairs import MODELS, assert_channels, dense_twin, traced

import pane_keras
from pane_keras import dense as dense_module
from pane_keras import portions
from pane_keras.dense import DensePair
from pane_keras.errors import PaneError, ReleasedError, SaveError
from pane_keras.planner import MIDDLE, SOURCE, TARGET, Plan
from pane_keras.testing import channels

PARTS = ("positive", "negative", "sum", "log2_scale", "sum_log2_scale")
FILES = sorted([*(f"{part}.npy" for part in PARTS), "pair.json"])
OTHER = "holds results of another model, data or settings. Choose another folder, or remove it first"


def stacked(widths=(6, 5, 2, 7, 9), activation="tanh", batch=2, dtype="float32", seed=0):
    """The pair from the input to the logits of a stack of dense layers."""
    x = keras.Input(widths[:1], dtype=dtype)
    y = x
    for width in widths[1:-1]:
        y = layers.Dense(width, activation=activation, dtype=dtype)(y)
    model = filled(x, layers.Dense(widths[-1], dtype=dtype)(y), seed)
    return pane_keras.wrap(model).trace(draw(batch, widths[0]).astype(dtype)).between("input", "logits")


def few_rows(monkeypatch, count):
    """Lets a sweep carry so many rows: `count` is a function composition -> int."""
    for module in (portions, dense_module):
        monkeypatch.setattr(module, "rows_at_a_time", count)


def only(monkeypatch, start, rows_at_a_time):
    """Leaves the cheapest plan of this kind, which takes so many rows at a time, unless it starts from the source."""
    plain = pane_keras.dense.plans
    monkeypatch.setattr(
        "pane_keras.dense.plans", lambda *asked: [plan for plan in plain(*asked) if plan.start == start][:1]
    )
    few_rows(monkeypatch, lambda composition: rows_at_a_time)


def bytes_of(pair, rows):
    """What `max_bytes` counts for a block of so many rows: both channels of every sample."""
    batch, *shape = pair.signal.shape
    return 2 * rows * batch * math.prod(shape) * np.dtype(pair.signal.dtype.name).itemsize


@pytest.fixture
def blocks(monkeypatch):
    """The ranges of rows that were computed rather than read."""
    seen, plain = [], DensePair.row_block
    monkeypatch.setattr(DensePair, "row_block", lambda self, rows: seen.append(rows) or plain(self, rows))
    return seen


def write(pair, out, **how):
    return pair.dense(out=out, progress=False, **how)


def assert_equal(dense, expected):
    for part in PARTS:
        np.testing.assert_array_equal(getattr(dense, part), getattr(expected, part))


def assert_twin(dense, twin):
    """Every row is compared with its own chain: a unit of the target has its own scale."""
    s, d, size = twin
    found = [t.reshape(s.shape) for t in channels(dense)]
    for row in range(s.shape[1]):
        mine, twins = ([t[:, row, None] for t in ts] for ts in (found, (s, d)))
        assert_channels(mine, twins, size[:, row, None], f"of row {row}")


PLANS = [TARGET, SOURCE, MIDDLE]


@pytest.mark.parametrize("start", PLANS)
@pytest.mark.parametrize("name", MODELS)
def test_every_plan_equals_dense_and_the_twin(monkeypatch, blocks, tmp_path, name, start):
    """Two samples, rows of very different scale, a residual graph; blocks of two rows and a rest."""
    trace = traced(MODELS[name])
    pair, twin = trace.between("input", "logits"), dense_twin(trace, "input", "logits")
    whole = pair.dense()
    only(monkeypatch, start, 2)
    blocks.clear()
    dense = write(pair, tmp_path / "pair", max_bytes=bytes_of(pair, 2) if start == SOURCE else 2**20)
    rows = math.prod(pair.target_shape)
    assert blocks == [range(k, min(k + 2, rows)) for k in range(0, rows, 2)]
    assert_twin(dense, twin)
    assert_twin(whole, twin)
    for part in PARTS:
        assert getattr(dense, part).shape == getattr(whole, part).shape
        assert getattr(dense, part).dtype == np.asarray(getattr(whole, part)).dtype
        assert np.isfinite(getattr(dense, part)).all()
    # A row's scale is 0 or its own exponent, whichever way it was computed; its signs may cancel by another rounding.
    np.testing.assert_array_equal(dense.log2_scale == 0, np.asarray(whole.log2_scale) == 0)
    assert (name == "beyond float32") == bool(dense.log2_scale.any())


@pytest.mark.parametrize("start", PLANS)
def test_float64(monkeypatch, tmp_path, start):
    """All digits reach the files: the twin is met far below what float32 can hold."""
    pair = stacked(dtype="float64")
    twin = dense_twin(_Ends(pair), "input", "logits")
    only(monkeypatch, start, 4)
    dense = write(pair, tmp_path / "pair", max_bytes=max(bytes_of(pair, 4), 2**12))
    assert np.load(tmp_path / "pair" / "sum.npy").dtype == "float64"
    for mine, expected in zip(channels(dense), twin):
        assert np.abs(mine - expected).max() <= 1e-14 * twin[2].max()


class _Ends:
    """What the twin reads of a trace."""

    def __init__(self, pair):
        self._record, self._pair = pair._record, pair

    def _source(self, name):
        return self._pair._ends[0]

    def _target(self, name):
        return self._pair._ends[1]


@pytest.mark.parametrize("batch", [1, 3])
def test_ends_with_several_axes(monkeypatch, tmp_path, batch):
    x = keras.Input((4, 3, 2))
    y = layers.Conv2D(3, 2, activation="relu", name="upper")(x)
    trace = pane_keras.wrap(filled(x, layers.Dense(2)(layers.Flatten()(y)))).trace(draw(batch, 4, 3, 2))
    pair = trace.between("input", "upper")
    few_rows(monkeypatch, lambda composition: 5)
    dense = write(pair, tmp_path / "pair")
    assert dense.sum.shape == (batch, 3, 2, 3, 4, 3, 2)
    assert dense.log2_scale.shape == (batch, 3, 2, 3)
    assert_equal(dense, pair.dense())
    assert dense.axes == pair.dense().axes
    assert_equal(dense.samples(slice(0, 1)), pair.dense().samples(slice(0, 1)))


@pytest.mark.parametrize("widths", [(1, 1), (1, 3, 2), (3, 1)], ids=str)
def test_one_unit_at_an_end(tmp_path, widths):
    pair = stacked(widths)
    assert_equal(write(pair, tmp_path / "pair"), pair.dense())


def test_a_sample_that_excites_nothing(tmp_path):
    """Every coefficient is zero, and none is NaN."""
    x = keras.Input((4,))
    trace = pane_keras.wrap(filled(x, layers.Dense(3)(x))).trace(np.zeros((2, 4), "float32"))
    dense = write(trace.between("input", "logits"), tmp_path / "pair")
    assert [np.any(getattr(dense, part)) for part in PARTS] == [False] * 5


# --- what lies in the folder --------------------------------------------------------------------------------------


def test_the_files_and_what_is_returned(tmp_path):
    pair = stacked()
    dense = write(pair, tmp_path / "deep" / "pair")
    assert sorted(os.listdir(tmp_path / "deep" / "pair")) == FILES
    assert os.listdir(tmp_path / "deep") == ["pair"]
    for part in PARTS:
        values = getattr(dense, part)
        assert isinstance(values, np.memmap)
        assert not values.flags.writeable
        np.testing.assert_array_equal(np.load(tmp_path / "deep" / "pair" / f"{part}.npy"), values)
    positive, negative = dense
    assert (positive is dense.positive, negative is dense.negative) == (True, True)
    assert dense.signal is pair.signal
    plain = pair.dense()
    assert (repr(dense), dense.axes, type(dense)) == (repr(plain), plain.axes, type(plain))
    np.testing.assert_array_equal(dense.contribution().sum, plain.contribution().sum)


def test_a_name_as_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair = stacked()
    assert_equal(write(pair, "pair"), pair.dense())
    assert os.listdir() == ["pair"]


def test_a_folder_that_is_whole_is_read_only(tmp_path, blocks):
    pair = stacked()
    first = write(pair, tmp_path / "pair")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "pair").iterdir()}
    blocks.clear()
    assert_equal(write(stacked(), tmp_path / "pair", max_bytes=1), first)
    assert blocks == []
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "pair").iterdir()} == before


def test_progress_goes_to_stderr_or_nowhere(tmp_path, capsys, monkeypatch):
    few_rows(monkeypatch, lambda composition: 3)
    pair = stacked((9, 9))
    write(pair, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    pair.dense(out=tmp_path / "loud")
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "block" in err


# --- within max_bytes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "stripes"), [(0, [1] * 5), (1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_stripes_from_the_source_are_as_large_as_max_bytes_allows(monkeypatch, blocks, tmp_path, rows, stripes):
    pair = stacked((2, 4, 5))
    only(monkeypatch, SOURCE, 256)
    for limit in {bytes_of(pair, rows), max(bytes_of(pair, rows + 1) - 1, 0)}:
        blocks.clear()
        assert_equal(write(pair, tmp_path / f"{limit}", max_bytes=limit), pair.dense())
        assert [len(block) for block in blocks[: len(stripes)]] == stripes


def test_a_stripe_counts_every_sample_and_the_dtype(monkeypatch):
    only(monkeypatch, SOURCE, 256)
    limit = bytes_of(stacked((2, 4, 12), batch=1), 6)
    for batch, dtype, rows in ((1, "float32", 6), (3, "float32", 2), (1, "float64", 3), (3, "float64", 1)):
        found = stacked((2, 4, 12), batch=batch, dtype=dtype).dense_pair().stripes(limit)
        assert [len(part) for part in found] == [rows] * (12 // rows)


def test_the_source_is_left_where_stripes_would_sweep_it_too_often():
    """From the source every stripe sweeps again: columns x stripes against rows."""
    pair = stacked((3, 20, 30))
    dense = pair.dense_pair()
    dense.plans = [Plan(SOURCE, 100), Plan(TARGET, 1000)]
    for rows, start in ((30, SOURCE), (4, SOURCE), (2, TARGET), (0, TARGET)):
        dense.keep_within(bytes_of(pair, rows))
        assert dense.plan.start == start, rows


def test_the_middle_is_left_where_its_rows_over_the_source_do_not_fit():
    dense = stacked((40, 2, 40)).dense_pair()
    assert dense.plan.start == MIDDLE
    for limit, middle in ((2 * 2 * 2 * 80 * 4, True), (2 * 2 * 2 * 80 * 4 - 1, False)):
        dense.keep_within(limit)
        assert (dense.plan.start == MIDDLE) == middle


# --- interrupted, and called again --------------------------------------------------------------------------------


def stop_at(monkeypatch, owner, name, number, error=KeyboardInterrupt):
    """Lets the call of this number, from 0, raise."""
    calls, plain = [], getattr(owner, name)

    def run(*args, **how):
        calls.append(name)
        if len(calls) == number + 1:
            raise error
        return plain(*args, **how)

    monkeypatch.setattr(owner, name, run)


@pytest.mark.parametrize("start", PLANS)
@pytest.mark.parametrize("done", [0, 1, 4])
def test_a_call_that_was_stopped_at_a_block_goes_on(monkeypatch, blocks, tmp_path, start, done):
    """Nine rows in blocks of two: only the blocks that were missing are computed."""
    pair, out = stacked(), tmp_path / "pair"
    only(monkeypatch, start, 2)
    limit = bytes_of(pair, 2) if start == SOURCE else 2**20
    whole = write(pair, tmp_path / "whole", max_bytes=limit)
    blocks.clear()
    with monkeypatch.context() as patch:
        stop_at(patch, DensePair, "row_block", done)
        with pytest.raises(KeyboardInterrupt):
            write(pair, out, max_bytes=limit)
    assert (out.exists(), (tmp_path / "pair.part").exists()) == (False, True)
    assert len(blocks) == done
    assert_equal(write(stacked(), out, max_bytes=limit), whole)
    assert blocks == [range(0, 2), range(2, 4), range(4, 6), range(6, 8), range(8, 9)]
    assert sorted(os.listdir(out)) == FILES
    assert sorted(os.listdir(tmp_path)) == ["pair", "whole"]


@pytest.mark.parametrize("flush", [0, 2, 4, 5, 8, 10, 11])
def test_a_block_that_was_half_written_is_computed_again(monkeypatch, blocks, tmp_path, flush):
    """Five arrays and the note of what is done are flushed for each block: stopped at any of them."""
    pair, out = stacked(), tmp_path / "pair"
    only(monkeypatch, TARGET, 5)
    whole = pair.dense()
    with monkeypatch.context() as patch:
        stop_at(patch, np.memmap, "flush", flush)
        with pytest.raises(KeyboardInterrupt):
            write(pair, out)
    blocks.clear()
    assert_equal(write(pair, out), whole)
    assert blocks == [range(0, 5), range(5, 9)][(flush > 4) + (flush > 10) :]
    assert sorted(os.listdir(out)) == FILES


def test_another_max_bytes_completes_what_is_there(monkeypatch, blocks, tmp_path):
    """Blocks that overlap what is done are computed again; those within it are not."""
    pair, out = stacked(), tmp_path / "pair"
    only(monkeypatch, SOURCE, 1)
    with monkeypatch.context() as patch:
        stop_at(patch, DensePair, "row_block", 1)
        with pytest.raises(KeyboardInterrupt):
            write(pair, out, max_bytes=bytes_of(pair, 3))
    blocks.clear()
    assert_twin(write(pair, out, max_bytes=bytes_of(pair, 2)), dense_twin(_Ends(pair), "input", "logits"))
    assert blocks == [range(2, 4), range(4, 6), range(6, 8), range(8, 9)]


KILLED = """
import os, signal, sys
import pane_keras.dense_files as files
from pane_keras import portions
import test_dense_files

written, plain = [], files._Folder.write

def write(self, rows, maps):
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    written.append(rows)
    plain(self, rows, maps)

files._Folder.write = write
from pane_keras import dense

for module in (portions, dense):
    module.rows_at_a_time = lambda composition: 2
test_dense_files.exact().dense(out=sys.argv[1], progress=False)
"""


def exact():
    """A pair whose sums of small integers are exact, so that another process finds the same signals."""
    x = keras.Input((8,))
    model = keras.Model(x, layers.Dense(7)(layers.Dense(8, activation="relu")(x)))
    rng = np.random.default_rng(0)
    model.set_weights([rng.integers(-3, 4, weight.shape) for weight in model.weights])
    return pane_keras.wrap(model).trace(rng.integers(-3, 4, (2, 8)).astype("float32")).between("input", "logits")


def test_a_killed_process_leaves_a_folder_that_the_next_call_completes(monkeypatch, blocks, tmp_path):
    out = tmp_path / "pair"
    paths = os.pathsep.join([os.path.dirname(__file__), os.path.dirname(os.path.dirname(pane_keras.__file__))])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(out)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert os.listdir(tmp_path) == ["pair.part"]
    few_rows(monkeypatch, lambda composition: 2)
    dense = write(exact(), out)
    assert blocks == [range(4, 6), range(6, 7)]
    assert_equal(dense, exact().dense())
    assert os.listdir(tmp_path) == ["pair"]


# --- refused ------------------------------------------------------------------------------------------------------


OTHERS = {
    "sample": lambda: stacked(batch=1),
    "weights": lambda: stacked(seed=1),
    "dtype": lambda: stacked(dtype="float64"),
    "names": lambda: traced(MODELS["chain"]).between("input", "pool"),
    "shape": lambda: stacked((6, 5, 2, 7, 8)),
}


@pytest.mark.parametrize("state", ["whole", "begun"])
@pytest.mark.parametrize("what", OTHERS)
def test_a_folder_of_another_pair_is_refused(monkeypatch, tmp_path, blocks, what, state):
    out = tmp_path / "pair"
    with monkeypatch.context() as patch:
        if state == "begun":
            stop_at(patch, DensePair, "row_block", 0, SystemExit)
        with pytest.raises(SystemExit) if state == "begun" else contextlib.nullcontext():
            write(stacked(), out)
    folder = out if state == "whole" else tmp_path / "pair.part"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    blocks.clear()
    with pytest.raises(SaveError, match=rf"The folder '.*{folder.name}' {OTHER}"):
        write(OTHERS[what](), out)
    assert blocks == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("content", [None, "{", "[]", '{"source": "input"}', "null"], ids=repr)
def test_a_folder_that_is_not_ours_is_refused(tmp_path, content):
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / "notes.txt").write_text("somebody's own")
    if content is not None:
        (tmp_path / "pair" / "pair.json").write_text(content)
    with pytest.raises(SaveError, match=OTHER):
        write(stacked(), tmp_path / "pair")
    assert (tmp_path / "pair" / "notes.txt").read_text() == "somebody's own"
    assert os.listdir(tmp_path) == ["pair"]


@pytest.mark.parametrize(
    ("file", "out", "message"),
    [
        ("pair", "pair", r"'.*pair' is a file\. Choose a folder for out=, one that there is not yet\."),
        ("pair.part", "pair", r"Cannot write '.*pair\.part': File exists\."),
        ("pair", "pair/below", r"Cannot write '.*': Not a directory\."),
    ],
)
def test_a_file_where_a_folder_should_be(tmp_path, file, out, message):
    (tmp_path / file).write_text("here already")
    with pytest.raises(SaveError, match=message):
        write(stacked(), tmp_path / out)
    assert (tmp_path / file).read_text() == "here already"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write where nobody else may")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SaveError, match=r"Cannot write '.*': Permission denied\."):
        write(stacked(), tmp_path / "pair")


@pytest.mark.parametrize("fails", ["np.lib.format.open_memmap", "np.memmap.flush", "pathlib.Path.replace"])
def test_what_the_file_system_refuses_is_one_error(monkeypatch, tmp_path, fails):
    def full(*args, **how):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fails.replace("np.", "numpy."), full)
        with pytest.raises(SaveError, match=r"Cannot write '.*': No space left on device\."):
            write(stacked(), tmp_path / "pair")
    assert not (tmp_path / "pair").exists()
    assert_equal(write(stacked(), tmp_path / "pair"), stacked().dense())


def test_a_disk_that_is_too_small(monkeypatch, blocks, tmp_path):
    """2 samples x 9 units x (6 coefficients x 3 + 2 scales) x 4 bytes."""
    size, usage = 2 * 9 * (3 * 6 + 2) * 4, shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size - 1))
    with pytest.raises(
        SaveError, match=r"takes .* [KMG]iB, and .* [KMG]?i?B are free where '.*pair\.part' lies\. Choose another"
    ):
        write(stacked(), tmp_path / "pair")
    assert blocks == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size))
    assert write(stacked(), tmp_path / "pair").sum.shape == (2, 9, 6)


# --- what else can happen to a folder --------------------------------------------------------------------------------


def test_a_name_that_ends_with_a_slash(tmp_path):
    assert_equal(write(stacked(), f"{tmp_path}/pair/"), stacked().dense())


def test_other_weights_that_give_the_same_signals_are_refused(tmp_path):
    """Of a constant sample, the outputs say only what the rows of a kernel add up to."""

    def swapped(kernel):
        x = keras.Input((2,))
        model = keras.Model(x, layers.Dense(2, use_bias=False)(x))
        model.set_weights([np.array(kernel)])
        return pane_keras.wrap(model).trace(np.ones((1, 2), "float32")).between("input", "logits")

    write(swapped([[1, 2], [2, 1]]), tmp_path / "pair")
    with pytest.raises(SaveError, match=OTHER):
        write(swapped([[2, 1], [1, 2]]), tmp_path / "pair")


@pytest.mark.parametrize("name", ["sum.npy", "log2_scale.npy"])
def test_a_whole_folder_that_lost_a_file(tmp_path, name):
    write(stacked(), tmp_path / "pair")
    (tmp_path / "pair" / name).unlink()
    with pytest.raises(SaveError):
        write(stacked(), tmp_path / "pair")


def test_a_part_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "pair.part").mkdir()
    (tmp_path / "pair.part" / "sum.npy").write_text("somebody's own")
    with pytest.raises(SaveError):
        write(stacked(), tmp_path / "pair")


def test_a_begun_folder_whose_list_of_rows_is_broken(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, DensePair, "row_block", 0)
        with pytest.raises(KeyboardInterrupt):
            write(stacked(), tmp_path / "pair")
    (tmp_path / "pair.part" / "done.npy").write_bytes(b"")
    assert_equal(write(stacked(), tmp_path / "pair"), stacked().dense())


def test_a_released_trace_leaves_nothing_behind(tmp_path):
    pair = stacked()
    pair._record.release()
    with pytest.raises(ReleasedError):
        write(pair, tmp_path / "pair")
    assert os.listdir(tmp_path) == []


def test_inside_a_graph_is_one_clear_error(tmp_path):
    pane = pane_keras.wrap(filled(x := keras.Input((3,)), layers.Dense(2)(x)))
    with pytest.raises(PaneError):
        tf.function(lambda x: pane.trace(x).between("input", "logits").dense(out=tmp_path / "pair").sum)(draw(1, 3))


def test_rows_from_the_target_are_within_max_bytes(monkeypatch):
    pair = stacked((9, 8))
    dense = pair.dense_pair()
    assert dense.plan.start == TARGET
    assert max(len(rows) for rows in dense.stripes(bytes_of(pair, 2))) <= 2


def test_both_halves_of_a_middle_plan_are_within_max_bytes():
    """From block to block the plan keeps the target's rows over the waist as well, if the waist is narrower."""
    pair = stacked((3, 2, 400), batch=1)
    dense = pair.dense_pair()
    dense.plan = next(plan for plan in dense.plans if plan.start == MIDDLE)
    dense.row_block(range(1))
    kept = [dense._lower, *dense._columns.values()]
    assert dense._kept_bytes(dense.plan) >= sum(2 * 4 * math.prod(block.sum.mantissa.shape) for block in kept)


def test_rows_far_below_their_neighbours_from_the_source(monkeypatch, tmp_path):
    """A column that is pushed has one scale, so a unit 2^160 below another is lost in it; a pull keeps it."""
    x = keras.Input((1,))
    model = keras.Model(x, layers.Dense(2, use_bias=False)(layers.Dense(2, use_bias=False)(x)))
    model.set_weights([np.array([[2.0**-80, 1]]), np.array([[2.0**-80, 0], [0, 1]])])
    pair = pane_keras.wrap(model).trace(np.array([[2.0**100]], "float32")).between("input", "logits")
    only(monkeypatch, SOURCE, 1)
    found, _ = channels(write(pair, tmp_path / "pair", max_bytes=1))
    np.testing.assert_array_equal(np.ravel(found), [2.0**-160, 1])
