"""The checkpoint reader reads tensors, and nothing else: what a hostile or damaged file asks for never happens."""

import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from pane_keras.demo.checkpoint import read_checkpoint
from pane_keras.demo.efficientnet_lite import weights_file
from pane_keras.errors import LoadError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Named:
    """Pickles as the global `module.name`, which need not exist here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Storage:
    def __init__(self, values, kind="FloatStorage", key="0", count=None):
        self.values, self.kind, self.key = np.asarray(values), kind, key
        self.count = len(self.values) if count is None else count


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.arguments = storage, offset, shape, strides, False, OrderedDict()


class Writer(pickle._Pickler):
    """Writes what torch.save wrote in its legacy format."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Tensor):
            self.save(Named("torch._utils", "_rebuild_tensor_v2"))
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return "storage", Named("torch", obj.kind), obj.key, "cpu", obj.count, None
        return None


def pickled(obj):
    buffer = io.BytesIO()
    Writer(buffer, protocol=2).dump(obj)
    return buffer.getvalue()


def checkpoint(state, storages=(), magic=MAGIC, protocol=PROTOCOL, system=SYSTEM):
    parts = [pickled(part) for part in (magic, protocol, system, state, [s.key for s in storages])]
    return b"".join([*parts, *(struct.pack("<q", len(s.values)) + s.values.tobytes() for s in storages)])


@pytest.fixture
def file(tmp_path):
    """Function bytes -> path."""

    def write(content):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def plain():
    """A checkpoint of three tensors, two of which share a storage."""
    first = Storage(np.arange(6, dtype="<f4"), key="a")
    second = Storage(np.array([7], "<i8"), "LongStorage", key="b")
    state = OrderedDict(
        kernel=Tensor(first, 0, (3, 2), (1, 3)), tail=Tensor(first, 4, (2,), (1,)), steps=Tensor(second, 0, (), ())
    )
    return checkpoint(state, [first, second])


def test_tensors_come_with_their_strides_and_offsets(file, plain):
    tensors = read_checkpoint(file(plain))
    assert list(tensors) == ["kernel", "tail", "steps"]
    np.testing.assert_array_equal(tensors["kernel"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(tensors["tail"], [4, 5])
    assert tensors["steps"].shape == ()
    assert tensors["steps"] == 7
    assert tensors["kernel"].dtype == np.float32


def test_the_real_file():
    tensors = read_checkpoint(weights_file())
    numbers = sum(value.size for name, value in tensors.items() if not name.endswith("num_batches_tracked"))
    assert numbers == 4_694_024
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert all(np.isfinite(value).all() for value in tensors.values())


@pytest.mark.parametrize("cut", [1, 20, 60, 150, 0.5, -1])
def test_a_file_cut_short(file, plain, cut):
    end = int(cut * len(plain)) if 0 < cut < 1 else cut
    with pytest.raises(LoadError, match=r"weights.pth' is (damaged or cut short|not a PyTorch checkpoint)"):
        read_checkpoint(file(plain[:end]))


def test_the_real_file_cut_short(file):
    with pytest.raises(LoadError, match=r"cut short: it ends too early. Install or download it again"):
        read_checkpoint(file(weights_file().read_bytes()[:-1000]))


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("position", ["magic", "protocol", "system", "state"])
def test_a_hostile_pickle_is_refused_by_name_and_nothing_runs(file, tmp_path, position):
    attack = Attack(os.system, f"touch {tmp_path / 'ran'}")
    content = checkpoint(**{"state": OrderedDict(), position: attack})
    with pytest.raises(LoadError, match=r"asks for (posix|nt)\.system: only tensors are read"):
        read_checkpoint(file(content))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch", "BFloat16Storage"),
        ("torch._utils", "_rebuild_parameter"),
        ("numpy", "frombuffer"),
        ("collections", "Counter"),
    ],
)
def test_no_other_name_is_looked_up(file, module, name):
    with pytest.raises(LoadError, match=rf"asks for {module}\.{name}: only tensors"):
        read_checkpoint(file(checkpoint({"x": Named(module, name)})))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (OrderedDict(epoch=3), "holds int under 'epoch': only tensors are read"),
        (OrderedDict(model=OrderedDict()), "holds OrderedDict under 'model'"),
        ([1, 2], "expects a state dict. Received: list"),
        (OrderedDict(x=Storage([1.0])), "holds _Storage under 'x'"),
        (OrderedDict(x=Named("torch", "FloatStorage")), "holds _Marker under 'x'"),
    ],
)
def test_anything_but_tensors_is_refused(file, state, message):
    with pytest.raises(LoadError, match=message):
        read_checkpoint(file(checkpoint(state)))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (7,), (1,)),
        (2, (5,), (1,)),
        (0, (2, 2), (1, 9)),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (10**9,), (0,)),
        (0, (2**40, 2**40), (0, 0)),
        (0, (2,), (1, 1)),
        ("0", (2,), (1,)),
    ],
)
def test_a_tensor_cannot_reach_outside_its_storage(file, offset, shape, strides):
    storage = Storage(np.zeros(6, "<f4"))
    with pytest.raises(LoadError, match=r"tensor 'x' (reaches outside its storage|has an impossible shape)"):
        read_checkpoint(file(checkpoint({"x": Tensor(storage, offset, shape, strides)}, [storage])))


def test_a_storage_that_announces_more_than_the_file_holds(file):
    storage = Storage(np.zeros(6, "<f4"), count=10**12)
    with pytest.raises(LoadError, match=r"it ends too early"):
        read_checkpoint(file(checkpoint({"x": Tensor(storage, 0, (6,), (1,))}, [storage])))


def test_left_over_bytes(file, plain):
    with pytest.raises(LoadError, match=r"bytes are left over after its last tensor"):
        read_checkpoint(file(plain + b"\0"))


def test_zip_format(file):
    with pytest.raises(LoadError, match=r"PyTorch's zip format; only the legacy format is read"):
        read_checkpoint(file(b"PK\x03\x04rest"))


@pytest.mark.parametrize("content", [b"", b"GIF89a", pickled({"a": 1}), pickled(3)])
def test_not_a_checkpoint(file, content):
    with pytest.raises(LoadError, match=r"is not a PyTorch checkpoint"):
        read_checkpoint(file(content))


def test_another_protocol_or_byte_order(file):
    with pytest.raises(LoadError, match=r"expects protocol 1001 and little-endian numbers. Received: protocol 1002"):
        read_checkpoint(file(checkpoint({}, protocol=1002)))
    with pytest.raises(LoadError, match=r"little-endian"):
        read_checkpoint(file(checkpoint({}, system={"little_endian": False})))


def test_no_such_file(tmp_path):
    with pytest.raises(LoadError, match=r"Cannot read the checkpoint .*: No such file or directory"):
        read_checkpoint(tmp_path / "weights.pth")
