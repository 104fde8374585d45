"""What no rule of an operation can explain is refused by name, with what to do; nothing is silently wrong."""

from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

import pane_keras
from pane_keras.errors import UnsupportedLayerError

# As many samples as the first axis of a sample has entries: shapes alone do not show that samples were mixed.
BATCH = 3
SHAPE = (3, 4)
SQUARE = (3, 3)
TABLE = np.arange(12, dtype="float32").reshape(3, 4)
CUBE = np.ones((3, 4, 2), "float32")


class Refused(NamedTuple):
    """A call that has to be refused.

    Attributes:
        name: Name of the operation's class.
        note: What is special about it.
        build: Function of symbolic tensors -> the model's output.
        shapes: Shape of a sample of each input.
        advice: Part of the message that says what to do.
        batch: Number of samples.
    """

    name: str
    note: str
    build: object
    shapes: tuple = (SHAPE,)
    advice: str = "batch axis"
    batch: int = BATCH


BATCH_AXIS = [
    *(
        Refused(name, f"axis {axis}", lambda x, op=op, a=axis: op(x, axis=a))
        for name, op in {
            "Mean": ops.mean, "Sum": ops.sum, "Max": ops.max, "Min": ops.min, "Amax": ops.amax, "Amin": ops.amin,
            "Var": ops.var, "Std": ops.std, "Cumsum": ops.cumsum, "Flip": ops.flip,
        }.items()
        for axis in (0, None)
    ),
    Refused("Mean", "axes 0 and 1", lambda x: ops.mean(x, axis=(0, 1))),
    Refused("Sum", "axis -3", lambda x: ops.sum(x, axis=-3, keepdims=True)),
    Refused("Trace", "", lambda x: ops.trace(x)),
    Refused("Reshape", "mixes", lambda x: ops.reshape(x, (-1, 4))),
    Refused("Reshape", "flat", lambda x: ops.reshape(x, (-1,))),
    Refused("Ravel", "", ops.ravel),
    Refused("ExpandDims", "", lambda x: ops.expand_dims(x, 0)),
    Refused("Transpose", "default", ops.transpose),
    Refused("Transpose", "axes", lambda x: ops.transpose(x, (1, 0, 2))),
    Refused("Moveaxis", "", lambda x: ops.moveaxis(x, 0, 1)),
    Refused("Swapaxes", "", lambda x: ops.swapaxes(x, -3, 1)),
    Refused("Roll", "axis 0", lambda x: ops.roll(x, 1, axis=0)),
    Refused("Roll", "flat", lambda x: ops.roll(x, 1)),
    Refused("Repeat", "", lambda x: ops.repeat(x, 2, axis=0)),
    Refused("Rot90", "", ops.rot90),
    Refused("Tril", "rank two", ops.tril, ((4,),)),
    Refused("Triu", "rank two", ops.triu, ((4,),)),
    Refused("Tile", "", lambda x: ops.tile(x, (2, 1, 1))),
    Refused("Tile", "new axis", lambda x: ops.tile(x, (3, 1, 1, 1))),
    Refused("BroadcastTo", "new axis", lambda x: ops.broadcast_to(x, (3, 3, 3, 4))),
    Refused("Pad", "", lambda x: ops.pad(x, 1)),
    Refused("Concatenate", "", lambda x: ops.concatenate([x, x], axis=0)),
    Refused("Stack", "", lambda x: ops.stack([x, x, x], axis=0)),
    Refused("Split", "", lambda x: ops.split(x, [1], axis=0)[0]),
    Refused("Unstack", "", lambda x: ops.unstack(x, num=3, axis=0)[0]),
    Refused("Take", "", lambda x: ops.take(x, [2, 1, 0], axis=0)),
    Refused("Take", "flat", lambda x: ops.take(x, [2, 1, 0])),
    Refused("GetItem", "one sample", lambda x: x[0]),
    Refused("GetItem", "other order", lambda x: x[::-1, :]),
    Refused("GetItem", "ellipsis that is empty", lambda x: x[..., ::-1, :, :]),
    Refused("GetItem", "entry behind an empty ellipsis", lambda x: x[..., 0, :, :]),
    Refused("GetItem", "new first axis", lambda x: x[None, :]),
    Refused("Slice", "", lambda x: ops.slice(x, (1, 0, 0), (2, 3, 4))),
    Refused("Softmax", "", lambda x: ops.softmax(x, axis=0)),
    Refused("LogSoftmax", "", lambda x: ops.log_softmax(x, axis=0)),
    Refused("Sparsemax", "", lambda x: ops.sparsemax(x, axis=0)),
    Refused("Normalize", "", lambda x: ops.normalize(x, axis=0)),
    Refused("Glu", "", lambda x: ops.glu(x, axis=0), (SHAPE,), "batch axis", 2),
    Refused("TopK", "rank one", lambda x: ops.top_k(x[:, 0], 3)[0], ((4,),)),
    Refused("Einsum", "summed", lambda x: ops.einsum("bij->ij", x)),
    Refused("Einsum", "moved", lambda x: ops.einsum("bij->ibj", x)),
    Refused("Einsum", "contracted", lambda x, y: ops.einsum("bij,bik->ijk", x, y), (SHAPE, SHAPE)),
    Refused("Einsum", "outer", lambda x, y: ops.einsum("bi,ci->bc", x, y), ((4,), (4,))),
    Refused("Einsum", "constant contracted", lambda x: ops.einsum("bij,bk->kij", x, TABLE)),
    Refused("Matmul", "rank two", ops.matmul, (SQUARE[:1], SQUARE[:1])),
    Refused("Matmul", "constant before rank two", lambda x: ops.matmul(TABLE.T, x), ((4,),)),
    Refused("Matmul", "matrix for each sample", lambda x: ops.matmul(x, CUBE)),
    Refused("Matmul", "more axes", lambda x: ops.matmul(x, CUBE), ((4,),)),
    Refused("Matmul", "other rank", ops.matmul, (SHAPE, (3, 4, 2))),
    Refused("Dot", "two", ops.dot, (SHAPE, (4, 2))),
    Refused("Dot", "constant before", lambda x: ops.dot(TABLE[:, :3], x), (SHAPE,)),
    Refused("Tensordot", "two", lambda x, y: ops.tensordot(x, y, axes=[[2], [2]]), (SHAPE, SHAPE)),
    Refused("Tensordot", "batch", lambda x: ops.tensordot(x, TABLE, axes=[[0], [0]])),
    Refused("Tensordot", "constant before", lambda x: ops.tensordot(TABLE, x, axes=[[1], [2]])),
]  # fmt: skip

BROADCAST = [
    *(
        Refused(name, "other rank", op, (SHAPE, (4,)))
        for name, op in {
            "Add": ops.add, "Subtract": ops.subtract, "Multiply": ops.multiply, "Divide": ops.divide,
            "Maximum": ops.maximum, "Minimum": ops.minimum,
        }.items()
    ),
    Refused("Where", "other rank", lambda x, y: ops.where(TABLE > 3, x, y), (SHAPE, (4,))),
    Refused("Multiply", "mask of other rank", lambda x, y: x * ops.cast(y > 0, "float32"), (SHAPE, (4,))),
    Refused("Add", "constant of more axes", lambda x: x + TABLE[None], ((4,),)),
    Refused("Add", "constant for each sample", lambda x: x + TABLE, ((4,),), batch=1),
    Refused("Multiply", "constant for each sample", lambda x: x * TABLE, ((4,),), batch=1),
]  # fmt: skip

OTHERS = [
    Refused("Power", "two", ops.power, (SHAPE, SHAPE), "constant exponent"),
    Refused("Einsum", "three", lambda x, y, z: ops.einsum("bij,bjk,bkl->bil", x, y, z), (SHAPE, (4, 2), (2, 3)),
            "of two"),
    Refused("Cumprod", "", lambda x: ops.cumprod(x, axis=1), advice="layer of your own"),
    Refused("Sort", "", ops.sort, advice="layer of your own"),
    Refused("Take", "live indices", lambda x: ops.take(x, ops.argmax(x, axis=-1), axis=1), advice="one_hot"),
]  # fmt: skip

CASES = [*BATCH_AXIS, *BROADCAST, *OTHERS]


@pytest.mark.parametrize("one", CASES, ids=[f"{one.name} {one.note}".strip().replace(" ", "_") for one in CASES])
def test_refused_by_name(one):
    inputs = [keras.Input(shape) for shape in one.shapes]
    model = keras.Model(inputs, one.build(*inputs))
    node = next(operation.name for operation in model.operations if type(operation).__name__ == one.name)
    xs = [np.random.default_rng(k).normal(size=(one.batch, *shape)) for k, shape in enumerate(one.shapes)]
    with pytest.raises(UnsupportedLayerError, match=f"'{node}'.*{one.advice}"):
        pane_keras.wrap(model).trace(xs)


def test_a_kernel_that_the_model_computes():
    """Keras wants to know its size, so the batch stands for the window."""
    x, kernel = keras.Input(SHAPE, 3), keras.Input((4, 2), 3)
    model = keras.Model([x, kernel], ops.conv(x, kernel))
    with pytest.raises(UnsupportedLayerError, match=r"'conv.*kernel that the model computes"):
        pane_keras.wrap(model).trace([np.ones((3, *SHAPE)), np.ones((3, 4, 2))])
