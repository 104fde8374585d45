"""A table of small functional models made of `keras.ops` calls, each with its slow twin (tests/twins_operations.py).

Twins have no batch axis, so their axes are one less than those of the calls. Constants are small multiples of 1/8, as
the data is: float32 sums are exact then, and exact zeros and ties occur.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
import twins
import twins_operations as t
from keras import activations, ops
from twins import LD

ROW = np.array([0.5, -1.5, 0, 2], "float32")
COLUMN = np.array([[1.0], [-0.25], [0]], "float32")
TABLE = (np.arange(12).reshape(3, 4) % 5 / 2 - 1).astype("float32")
POSITIVE = np.array([0.5, 1.5, 1, 2], "float32")
MATRIX = (np.arange(20).reshape(4, 5) * 7 % 11 / 4 - 1).astype("float32")
KERNEL = (np.arange(12).reshape(2, 2, 3) * 5 % 7 / 4 - 0.5).astype("float32")
VARIABLE = keras.Variable(ROW, name="row")

MATRICES = (3, 4)
PICTURE = (4, 4, 2)


class Case(NamedTuple):
    """An operation in a model, and the samples to try it on.

    Attributes:
        name: Name of the operation's class, or of several that are stacked in one model.
        note: What is special about the case.
        build: Function of symbolic tensors -> the model's output, or a list of them.
        twin: Function of signals -> the same.
        shapes: Shape of a sample of each input.
        kind: What the inputs are drawn from, a key of `DRAWN`.
        vectors: Function sample -> what the operation emits, for one that excitations start from.
        static: The model is built for a batch of two: Keras cannot tell the operation's shapes without it.
    """

    name: str
    note: str
    build: object
    twin: object
    shapes: tuple = (MATRICES,)
    kind: str = "dyadic"
    vectors: object = None
    static: bool = False

    @property
    def names(self):
        """Names of the classes."""
        return self.name.split("+")


DRAWN = {
    "dyadic": lambda rng, shape: np.where(rng.random(shape) < 0.2, 0, rng.integers(-8, 9, shape) / 4),
    "few": lambda rng, shape: rng.integers(-1, 2, shape),
    "positive": lambda rng, shape: rng.integers(1, 13, shape) / 4,
    "nonnegative": lambda rng, shape: rng.integers(0, 9, shape) / 4,
    "not zero": lambda rng, shape: rng.integers(1, 9, shape) / 4 * rng.choice([-1, 1], shape),
    "inside": lambda rng, shape: rng.integers(-7, 8, shape) / 8,
    "above one": lambda rng, shape: 1 + rng.integers(1, 9, shape) / 4,
    "normal": lambda rng, shape: np.where(rng.random(shape) < 0.1, 0, rng.normal(size=shape)),
    "uint8": lambda rng, shape: rng.integers(0, 256, shape),
    "int32": lambda rng, shape: rng.integers(-3, 4, shape),
    "index": lambda rng, shape: rng.integers(0, 4, shape),
}
DTYPES = {"uint8": "uint8", "int32": "int32", "index": "int32"}


def stacked(cases, size=8):
    """Joins cases with one output and one term a unit, of the same inputs, into models of up to `size` of them.

    Flat and side by side their excitations are the same: an output of one term is 0 where nothing excites it, unless a
    bias cancels the term, and the twins are joined as well.
    """
    alike = {}
    for case in cases:
        alike.setdefault((case.shapes, case.kind, case.vectors, case.static), []).append(case)
    for group in alike.values():
        yield from (_stack(group[k : k + size]) for k in range(0, len(group), size))


def _stack(group):
    if len(group) == 1:
        return group[0]
    return group[0]._replace(
        name="+".join(case.name for case in group),
        note=", ".join(case.note for case in group if case.note),
        build=lambda *xs: ops.concatenate([_flat(case.build(*xs)) for case in group], axis=1),
        twin=lambda *xs: t.linear(lambda *ys: np.concatenate([y.ravel() for y in ys]))(
            *(case.twin(*xs) for case in group)
        ),
    )


def _flat(x):
    return ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))


def constants():
    """A tensor and a constant, on either side."""
    yield from _with_constants("Add", ops.add, lambda a, b: a + b)
    yield from _with_constants("Subtract", ops.subtract, lambda a, b: a - b)
    yield from _with_constants("Multiply", ops.multiply, lambda a, b: a * b)
    for name, op in (("Divide", ops.divide), ("TrueDivide", ops.true_divide)):
        yield Case(name, "by a number", lambda x, op=op: op(x, 4), t.linear(lambda x: x / 4))
        yield Case(name, "by a row", lambda x, op=op: op(x, POSITIVE), t.linear(lambda x: x / POSITIVE.astype(float)))
        yield Case(name, "number by", lambda x, op=op: op(2.0, x), t.pole(lambda x: 2 / x), kind="not zero")
        yield Case(name, "row by", lambda x, op=op: op(ROW, x), t.pole(lambda x: ROW / x), kind="not zero")
    yield Case("Divide", "larger", lambda x: ops.divide(x, POSITIVE), t.linear(lambda x: x / POSITIVE.astype(float)),
               ((3, 1),))  # fmt: skip
    yield Case("Divide", "row by larger", lambda x: ops.divide(ROW, x), _larger_pole, ((3, 1),), "not zero")
    yield Case("Negative", "", lambda x: -x, t.linear(lambda x: -x))
    yield from _powers()


def arithmetic():
    """Operations on two tensors."""
    pairs = {
        "Add": (ops.add, lambda a, b: a + b),
        "Subtract": (ops.subtract, lambda a, b: a - b),
    }
    for name, (op, f) in pairs.items():
        yield Case(name, "two", op, t.linear(f), (MATRICES, MATRICES))
        yield Case(name, "two broadcast", op, t.linear(f), ((3, 1), (1, 4)))
        yield Case(name, "itself", lambda x, op=op: op(x, x), lambda x, f=f: t.linear(f)(x, x))
    mask = lambda x: ops.cast(x > 0, "float32")  # noqa: E731
    yield Case("Add", "mask", lambda x: ops.add(x, mask(x)), lambda x: t.scaled(lambda v: (1.0, v > 0))(x))
    yield Case("Subtract", "from mask", lambda x: mask(x) - x, lambda x: t.scaled(lambda v: (-1.0, v > 0))(x))
    yield Case("Multiply", "two", ops.multiply, t.gate, (MATRICES, MATRICES))
    yield Case("Multiply", "two broadcast", ops.multiply, t.gate, ((3, 1), (1, 4)))
    yield Case("Multiply", "itself", lambda x: x * x, lambda x: t.gate(x, x))
    yield Case("Multiply", "mask", lambda x: x * mask(x), t.kept(lambda v: v > 0))
    yield Case("Multiply", "mask of another", lambda x, y: mask(y) * x,
               lambda x, y: t.kept(lambda v: y.value > 0)(x), (MATRICES, MATRICES))  # fmt: skip
    yield Case("Multiply", "broadcast mask", lambda x, y: mask(y) * x,
               lambda x, y: t.kept(lambda v: y.value > 0)(x), ((3, 1), MATRICES))  # fmt: skip
    over = lambda a, b: t.gate(a, t.pole(lambda v: 1 / v)(b))  # noqa: E731
    yield Case("Divide", "two", ops.divide, over, (MATRICES, MATRICES), "not zero")
    yield Case("TrueDivide", "two", ops.true_divide, over, (MATRICES, MATRICES), "not zero")
    yield Case("Divide", "two broadcast", ops.divide, over, ((3, 1), (1, 4)), "not zero")
    yield Case("Divide", "itself", lambda x: ops.divide(x, x), lambda x: over(x, x), kind="not zero")


def _larger_pole(x):
    return t.emit([x], [lambda v: v / x.value**2 * ROW])


def _with_constants(name, op, f):
    constants = {
        "number": 1.5, "whole number": 2, "row": ROW, "column": COLUMN, "table": TABLE,
        "with a batch axis": TABLE[None], "variable": VARIABLE,
    }  # fmt: skip
    for note, c in constants.items():
        value = np.asarray(c, "float64").reshape(np.shape(c)[1:] if np.ndim(c) == 3 else np.shape(c))
        yield Case(name, f"{note} after", lambda x, c=c: op(x, c), t.linear(lambda x, v=value: f(x, v)))
        yield Case(name, f"{note} before", lambda x, c=c: op(c, x), t.linear(lambda x, v=value: f(v, x)))
    yield Case(name, "larger after", lambda x: op(x, ROW), t.linear(lambda x: f(x, ROW)), ((3, 1),))
    yield Case(name, "larger before", lambda x: op(ROW, x), t.linear(lambda x: f(ROW, x)), ((3, 1),))


def _powers():
    for exponent, kind in ((2, "dyadic"), (3, "dyadic"), (1, "dyadic"), (0.5, "nonnegative"), (-1, "not zero")):
        twin = t.pole(lambda x, e=exponent: x**e)
        yield Case("Power", f"to {exponent}", lambda x, e=exponent: x**e, twin, kind=kind)
    yield Case("Power", "to a row", lambda x: ops.power(x, POSITIVE), t.pole(lambda x: x**POSITIVE), kind="nonnegative")
    yield Case("Power", "of 2", lambda x: 2.0**x, t.pointwise(lambda x: LD(2) ** x))
    yield Case("Power", "of a row", lambda x: ops.power(POSITIVE, x), t.pointwise_row(POSITIVE))


def choices():
    """One of two tensors, or of a tensor and a constant, element by element."""
    for name, op, best in (("Fmax", ops.fmax, np.argmax), ("Fmin", ops.fmin, np.argmin)):
        yield Case(name, "two", op, t.chosen(best), (MATRICES, MATRICES), "few")
    for name, op, best in (("Maximum", ops.maximum, np.argmax), ("Minimum", ops.minimum, np.argmin)):
        two = t.chosen(best)
        yield Case(name, "two", op, two, (MATRICES, MATRICES), "few")
        yield Case(name, "two broadcast", op, two, ((3, 1), (1, 4)), "few")
        yield Case(name, "itself", lambda x, op=op: op(x, x), lambda x, two=two: two(x, x))
        yield Case(name, "number after", lambda x, op=op: op(x, 0.5), t.chosen(best, 0.5))
        yield Case(name, "row before", lambda x, op=op: op(ROW, x), t.constant_first(best, ROW), kind="few")
        yield Case(name, "larger", lambda x, op=op: op(x, ROW), t.chosen(best, ROW), ((3, 1),), "few")
    held, some = TABLE > 0, np.array([True, False, True, True])
    yield Case("Where", "two", lambda x, y: ops.where(held, x, y), t.either(lambda *_: held), (MATRICES, MATRICES))
    yield Case("Where", "own sign", lambda x: ops.where(x > 0, x, 0.5 * x),
               lambda x: t.either(lambda a, b: a > 0)(x, t.linear(lambda v: v / 2)(x)))  # fmt: skip
    yield Case("Where", "number", lambda x: ops.where(x > 0, x, 0.25), t.scaled(lambda v: (v > 0, (v <= 0) / 4)))
    yield Case("Where", "row", lambda x: ops.where(x > 0, ROW, x), t.scaled(lambda v: (v <= 0, (v > 0) * ROW)))
    yield Case(
        "Where", "larger", lambda x: ops.where(some, x, 1.0), t.linear(lambda x: np.where(some, x, 1)), ((3, 1),)
    )
    yield Case("Where", "float condition", lambda x, y: ops.where(x, x, y), t.either(lambda a, b: a != 0),
               (MATRICES, MATRICES))  # fmt: skip
    yield Case(
        "Where", "two broadcast", lambda x, y: ops.where(held, x, y), t.either(lambda *_: held), ((3, 1), (1, 4))
    )


def arrays():
    """Operations that move, copy or drop elements."""
    linear = t.linear
    yield Case("Reshape", "", lambda x: ops.reshape(x, (-1, 2, 6)), linear(lambda x: x.reshape(2, 6)))
    yield Case("Squeeze", "", lambda x: ops.squeeze(x, 1), linear(lambda x: x[0]), ((1, 4),))
    yield Case("Squeeze", "all", ops.squeeze, linear(np.squeeze), ((1, 4, 1),))
    yield Case("ExpandDims", "", lambda x: ops.expand_dims(x, -1), linear(lambda x: x[..., None]))
    yield Case("ExpandDims", "behind batch", lambda x: ops.expand_dims(x, 1), linear(lambda x: x[None]))
    yield Case("Transpose", "", lambda x: ops.transpose(x, (0, 2, 1)), linear(np.transpose))
    yield Case("Transpose", "negative axes", lambda x: ops.transpose(x, (0, -1, -2)), linear(np.transpose))
    yield Case("Moveaxis", "", lambda x: ops.moveaxis(x, 1, -1), linear(lambda x: np.moveaxis(x, 0, -1)), (PICTURE,))
    yield Case("Swapaxes", "", lambda x: ops.swapaxes(x, 1, -1), linear(lambda x: np.swapaxes(x, 0, -1)), (PICTURE,))
    yield Case("Flip", "", lambda x: ops.flip(x, -1), linear(lambda x: x[:, ::-1]))
    yield Case("Flip", "two axes", lambda x: ops.flip(x, (1, 2)), linear(np.flip))
    yield Case("Roll", "", lambda x: ops.roll(x, 2, axis=1), linear(lambda x: np.roll(x, 2, 0)))
    yield Case(
        "Roll", "two axes", lambda x: ops.roll(x, (1, -1), axis=(1, 2)), linear(lambda x: np.roll(x, (1, -1), (0, 1)))
    )
    yield Case("Repeat", "", lambda x: ops.repeat(x, 2, axis=-1), linear(lambda x: np.repeat(x, 2, -1)))
    yield Case("Tril", "", lambda x: ops.tril(x, 1), linear(lambda x: np.tril(x, 1)))
    yield Case("Triu", "", lambda x: ops.triu(x, -1), linear(lambda x: np.triu(x, -1)))
    yield Case("Rot90", "", lambda x: ops.rot90(x, axes=(1, 2)), linear(np.rot90))
    yield Case("SpaceToDepth", "", lambda x: ops.space_to_depth(x, 2), linear(lambda x: t.blocks(x, 2)), (PICTURE,))
    yield Case(
        "DepthToSpace", "", lambda x: ops.depth_to_space(x, 2), linear(lambda x: t.unblocked(x, 2)), ((2, 2, 8),)
    )
    yield Case("Rearrange", "", lambda x: ops.rearrange(x, "b h (w k) -> b k (h w)", k=2),
               linear(lambda x: x.reshape(3, 2, 2).transpose(2, 0, 1).reshape(2, 6)), static=True)  # fmt: skip
    yield Case("CropImages", "", lambda x: ops.image.crop_images(x, 1, 0, target_height=2, target_width=3),
               linear(lambda x: x[1:3, :3]), (PICTURE,))  # fmt: skip
    yield Case(
        "ExtractPatches", "", lambda x: ops.image.extract_patches(x, 2), linear(lambda x: t.patches(x, 2)), (PICTURE,)
    )
    yield Case("Tile", "", lambda x: ops.tile(x, (1, 2, 3)), linear(lambda x: np.tile(x, (2, 3))))
    yield Case("Tile", "last axis", lambda x: ops.tile(x, 2), linear(lambda x: np.tile(x, 2)))
    yield Case(
        "BroadcastTo",
        "",
        lambda x: ops.broadcast_to(x, (2, 3, 4)),
        linear(lambda x: np.broadcast_to(x, (3, 4))),
        ((1, 4),),
    )
    frame = ((0, 0), (1, 0), (0, 2))
    yield Case("Pad", "zeros", lambda x: ops.pad(x, frame), linear(lambda x: np.pad(x, frame[1:])))
    yield Case("Pad", "constant", lambda x: ops.pad(x, frame, constant_values=1.5),
               linear(lambda x: np.pad(x, frame[1:], constant_values=1.5)))  # fmt: skip
    for mode in ("reflect", "symmetric"):
        yield Case(
            "Pad", mode, lambda x, m=mode: ops.pad(x, frame, m), linear(lambda x, m=mode: np.pad(x, frame[1:], m))
        )
    yield from _picked()
    yield from _joined()


def _picked():
    keys = {
        "slices": (slice(None), slice(1, None), slice(None, None, 2)), "reversed": (..., slice(None, None, -1)),
        "entry": (slice(None), -1), "new axis": (slice(None), None, 1), "ellipsis": (slice(None), ..., 0),
    }  # fmt: skip
    for note, key in keys.items():
        inner = key[1:] if key[0] == slice(None) else key
        yield Case("GetItem", note, lambda x, k=key: x[k], t.linear(lambda x, k=inner: x[k]))
    yield Case("Slice", "", lambda x: ops.slice(x, (0, 1, 2), (2, 2, 2)), t.linear(lambda x: x[1:3, 2:4]))
    yield Case("Take", "", lambda x: ops.take(x, [2, 0, 2], axis=1), t.linear(lambda x: x[[2, 0, 2]]))
    yield Case("Take", "from the end", lambda x: ops.take(x, [[-1, 0]], axis=-1), t.linear(lambda x: x[:, [[-1, 0]]]))
    yield Case("Take", "one", lambda x: ops.take(x, 1, axis=2), t.linear(lambda x: x[:, 1]))
    rows = t.linear(lambda v: v @ MATRIX)
    yield Case("Take", "rows of a table", lambda i: ops.matmul(ops.take(TABLE.T, i, axis=0), MATRIX[:3]),
               t.linear(lambda v: v @ MATRIX[:3]), ((5,),), "index", vectors=lambda i: TABLE.T[i])  # fmt: skip
    yield Case("OneHot", "", lambda i: ops.matmul(ops.one_hot(i, 4), MATRIX), rows, ((3,),), "index",
               vectors=lambda i: np.eye(4)[i])  # fmt: skip
    yield Case("MultiHot", "", lambda i: ops.matmul(ops.multi_hot(i, 4), MATRIX), rows, ((2,),), "index",
               vectors=lambda i: np.eye(4)[i].max(axis=0))  # fmt: skip


def _joined():
    both = (MATRICES, MATRICES)
    join = lambda axis: t.linear(lambda *xs: np.concatenate(xs, axis))  # noqa: E731
    yield Case("Concatenate", "two", lambda x, y: ops.concatenate([x, y], axis=-1), join(-1), (MATRICES, (3, 2)))
    yield Case("Concatenate", "itself", lambda x: ops.concatenate([x, x], axis=1), lambda x: join(0)(x, x))
    yield Case("Concatenate", "constant", lambda x: ops.concatenate([ops.ones_like(x), x], axis=1),
               t.linear(lambda x: np.concatenate([np.ones_like(x), x])))  # fmt: skip
    yield Case("Stack", "two", lambda x, y: ops.stack([x, y], axis=1), t.linear(lambda x, y: np.stack([x, y])), both)
    yield Case(
        "Stack", "last axis", lambda x, y: ops.stack([x, y], axis=-1), t.linear(lambda x, y: np.stack([x, y], -1)), both
    )
    yield Case("Stack", "constant", lambda x: ops.stack([x, ops.ones_like(x)], axis=2),
               t.linear(lambda x: np.stack([x, np.ones_like(x)], 1)))  # fmt: skip


def reductions():
    """Sums, averages and what is made of them."""
    for name, op, f in (("Mean", ops.mean, np.mean), ("Sum", ops.sum, np.sum)):
        for axis, keepdims in ((-1, False), (1, True), ((1, 2), False), ((1, -1), True)):
            inner = tuple(a if a < 0 else a - 1 for a in np.ravel(axis))
            yield Case(name, f"{axis} {keepdims}", lambda x, op=op, a=axis, k=keepdims: op(x, axis=a, keepdims=k),
                       t.linear(lambda x, f=f, a=inner, k=keepdims: f(x, axis=a, keepdims=k)), (PICTURE,))  # fmt: skip
    yield Case("Cumsum", "", lambda x: ops.cumsum(x, axis=-1), t.linear(lambda x: np.cumsum(x, -1)))
    yield Case("Trace", "", lambda x: ops.trace(x, 1, axis1=1, axis2=2), t.linear(lambda x: np.trace(x, 1)))
    root = t.pole(np.sqrt)
    yield Case("Var", "", lambda x: ops.var(x, axis=-1), t.variance((-1,)))
    yield Case(
        "Var", "keepdims", lambda x: ops.var(x, axis=(1, 2), keepdims=True), t.variance((0, 1), True), (PICTURE,)
    )
    yield Case("Var", "of one", lambda x: ops.var(x, axis=1), t.variance((0,)), ((1, 4),))
    yield Case("Std", "", lambda x: ops.std(x, axis=-1), t.chain(t.variance((-1,)), root))
    yield Case("Std", "two axes", lambda x: ops.std(x, axis=(1, 2), keepdims=True),
               t.chain(t.variance((0, 1), True), root), (PICTURE,))  # fmt: skip


def selections():
    """The largest and smallest elements."""
    yield Case("Amax", "", lambda x: ops.amax(x, axis=1), t.selected(np.argmax, (0,)), kind="few")
    yield Case("Amin", "", lambda x: ops.amin(x, axis=(1, 2)), t.selected(np.argmin, (0, 1)), (PICTURE,), "few")
    for name, op, best in (("Max", ops.max, np.argmax), ("Min", ops.min, np.argmin)):
        for axis, keepdims in ((-1, False), (1, True), ((3, 1), False), ((1, 2, 3), True)):
            inner = tuple(a if a < 0 else a - 1 for a in np.ravel(axis))
            yield Case(name, f"{axis} {keepdims}", lambda x, op=op, a=axis, k=keepdims: op(x, axis=a, keepdims=k),
                       t.selected(best, inner, keepdims), (PICTURE,), "few")  # fmt: skip
    yield Case("TopK", "", lambda x: ops.top_k(x, 2)[0], t.largest(2), kind="few")
    yield Case("TopK", "picture", lambda x: ops.top_k(x, 2)[0], t.largest(2), (PICTURE,), "few")
    yield Case("TopK", "mask from indices", lambda x: x * ops.cast(ops.top_k(x, 4)[1], "float32"),
               t.kept(lambda v: np.argsort(-v, axis=-1, kind="stable")))  # fmt: skip


def products():
    """Products with a constant, and of two tensors."""
    for name, op in (("Matmul", ops.matmul), ("Dot", ops.dot)):
        yield Case(name, "constant after", lambda x, op=op: op(x, MATRIX), t.linear(lambda x: x @ MATRIX))
        yield Case(name, "vector after", lambda x, op=op: op(x, ROW), t.linear(lambda x: x @ ROW))
        yield Case(name, "rank two", lambda x, op=op: op(x, MATRIX), t.linear(lambda x: x @ MATRIX), ((4,),))
    swap = lambda x: np.swapaxes(x, -1, -2)  # noqa: E731
    yield Case(
        "Matmul", "constant before", lambda x: ops.matmul(MATRIX.T, x), t.linear(lambda x: MATRIX.T @ x), ((4, 3),)
    )
    yield Case(
        "Matmul",
        "heads",
        lambda x: ops.matmul(x, MATRIX[None, :2, :3]),
        t.linear(lambda x: x @ MATRIX[:2, :3]),
        ((2, 3, 2),),
    )
    yield Case("Matmul", "two", ops.matmul, t.product(np.matmul), (MATRICES, (4, 2)))
    yield Case("Matmul", "itself", lambda x: ops.matmul(x, x), lambda x: t.product(np.matmul)(x, x), ((3, 3),))
    yield Case(
        "Matmul",
        "gram",
        lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2)),
        lambda x: t.product(lambda a, b: a @ swap(b))(x, x),
    )
    yield Case("Matmul", "mask", lambda x, y: ops.matmul(ops.cast(x > 0, "float32"), y),
               lambda x, y: t.linear(lambda v: (x.value > 0) @ v)(y), (MATRICES, (4, 2)))  # fmt: skip
    yield Case("Tensordot", "", lambda x: ops.tensordot(x, MATRIX, axes=1), t.linear(lambda x: x @ MATRIX))
    yield Case(
        "Tensordot",
        "two axes",
        lambda x: ops.tensordot(x, TABLE, axes=[[1, 2], [0, 1]]),
        t.linear(lambda x: np.sum(x * TABLE)),
    )
    equations = {
        "bij->bji": "ij->ji", "bij->bi": "ij->i", "bii->bi": "ii->i", "...ij->...j": "ij->j",
    }  # fmt: skip
    for outer, inner in equations.items():
        shape = ((3, 3),) if "ii" in outer else (MATRICES,)
        yield Case(
            "Einsum", outer, lambda x, e=outer: ops.einsum(e, x), t.linear(lambda x, e=inner: np.einsum(e, x)), shape
        )
    yield Case(
        "Einsum", "constant after", lambda x: ops.einsum("bij,jk->bki", x, MATRIX), t.linear(lambda x: (x @ MATRIX).T)
    )
    yield Case(
        "Einsum", "constant before", lambda x: ops.einsum("jk,...ij->...ik", MATRIX, x), t.linear(lambda x: x @ MATRIX)
    )
    yield Case(
        "Einsum",
        "two",
        lambda x, y: ops.einsum("bij,bkj->bik", x, y),
        t.product(lambda a, b: a @ b.T),
        (MATRICES, (2, 4)),
    )
    yield Case("Einsum", "two summed", lambda x, y: ops.einsum("bij,bij->bi", x, y),
               t.product(lambda a, b: np.sum(a * b, -1)), (MATRICES, MATRICES))  # fmt: skip
    yield Case("Einsum", "vector mask", lambda x, y: ops.einsum("bij,bj->bi", x, ops.cast(y > 0, "float32")),
               lambda x, y: t.linear(lambda v: v @ (y.value > 0))(x), (MATRICES, (4,)))  # fmt: skip
    yield from _convolutions()


def _convolutions():
    line, depth = ((5, 2),), KERNEL[..., :2]
    yield Case("Conv", "", lambda x: ops.conv(x, KERNEL), t.linear(lambda x: t.convolution(x, KERNEL)), line)
    yield Case(
        "Conv", "stride", lambda x: ops.conv(x, KERNEL, 2), t.linear(lambda x: t.convolution(x, KERNEL, 2)), line
    )
    yield Case("Conv", "same", lambda x: ops.conv(x, KERNEL, padding="same"),
               t.linear(lambda x: t.convolution(np.pad(x, ((0, 1), (0, 0))), KERNEL)), line)  # fmt: skip
    spread = np.zeros((2, 2, 4))
    for c in range(2):
        spread[:, c, 2 * c : 2 * c + 2] = depth[:, c]
    yield Case(
        "DepthwiseConv", "", lambda x: ops.depthwise_conv(x, depth), t.linear(lambda x: t.convolution(x, spread)), line
    )


def attention():
    """Values mixed with weights that are held."""
    heads = ((3, 2, 4), (5, 2, 4), (5, 2, 4))
    mask = np.array([True, False, True, True, False])
    bias = (np.arange(15).reshape(3, 5) % 4 / 4).astype("float32")
    settings = {
        "plain": ({}, {}), "scale": ({"scale": 0.25}, {"scale": 0.25}), "mask": ({"mask": mask}, {"keep": mask}),
        "bias": ({"bias": bias}, {"bias": bias}),
        "causal": ({"is_causal": True}, {"keep": np.tri(3, 5, dtype=bool)}),
    }  # fmt: skip
    for note, (own, twin) in settings.items():
        yield Case("DotProductAttention", note, lambda *qkv, own=own: ops.dot_product_attention(*qkv, **own),
                   t.attention(t.attention_weights(**twin)), heads, "normal")  # fmt: skip
    one = t.attention(t.attention_weights())
    yield Case("DotProductAttention", "self", lambda x: ops.dot_product_attention(x, x, x), lambda x: one(x, x, x),
               ((3, 2, 4),), "normal")  # fmt: skip
    constant = np.linspace(-1, 1, 24).reshape(1, 3, 2, 4).astype("float32")
    held = lambda v: np.einsum("nts,snh->tnh", t.attention_weights()(v, v), constant[0])  # noqa: E731
    array = np.repeat(constant, 2, axis=0)
    yield Case("DotProductAttention", "array value", lambda x: x + ops.dot_product_attention(x, x, array),
               t.scaled(lambda v: (1.0, held(v))), ((3, 2, 4),), "normal")  # fmt: skip
    yield Case("DotProductAttention", "constant value",
               lambda x: x + ops.dot_product_attention(x, x, ops.ones_like(x) * constant),
               t.scaled(lambda v: (1.0, held(v))), ((3, 2, 4),), "normal")  # fmt: skip


def masks():
    """x times a comparison, an index or another whole number, which is held."""
    whole, one, bins = (lambda x: ops.cast(x, "int32")), np.array(1, "int32"), np.array([-1, 0, 1], "float32")
    table = {
        "All": (lambda x: ops.all(x > 0, axis=-1, keepdims=True), lambda x: np.all(x > 0, -1, keepdims=True)),
        "Any": (lambda x: ops.any(x > 1, axis=-1, keepdims=True), lambda x: np.any(x > 1, -1, keepdims=True)),
        "Argmax": (lambda x: ops.argmax(x, axis=1, keepdims=True), lambda x: np.argmax(x, 0, keepdims=True)),
        "Argmin": (lambda x: ops.argmin(x, axis=1, keepdims=True), lambda x: np.argmin(x, 0, keepdims=True)),
        "Argsort": (lambda x: ops.argsort(x, axis=-1), lambda x: np.argsort(x, -1, kind="stable")),
        "BitwiseAnd": (lambda x: ops.bitwise_and(whole(x), one), lambda x: np.trunc(x).astype(int) & 1),
        "BitwiseNot": (lambda x: ops.bitwise_not(whole(x)), lambda x: ~np.trunc(x).astype(int)),
        "BitwiseOr": (lambda x: ops.bitwise_or(whole(x), one), lambda x: np.trunc(x).astype(int) | 1),
        "BitwiseXor": (lambda x: ops.bitwise_xor(whole(x), one), lambda x: np.trunc(x).astype(int) ^ 1),
        "CountNonzero": (lambda x: ops.count_nonzero(x, axis=1)[:, None], lambda x: np.count_nonzero(x, 0)),
        "Digitize": (lambda x: ops.digitize(x, bins), lambda x: np.digitize(x, bins)),
        "Equal": (lambda x: ops.equal(x, 0.5), lambda x: x == 0.5),
        "FloorDivide": (lambda x: ops.floor_divide(x, 0.5), lambda x: x // 0.5),
        "FullLike": (lambda x: ops.full_like(x, 2.0), lambda x: np.full_like(x, 2)),
        "Greater": (lambda x: x > 0.5, lambda x: x > 0.5),
        "GreaterEqual": (lambda x: x >= 0.5, lambda x: x >= 0.5),
        "InTopK": (lambda x: ops.in_top_k(ops.argmax(x[:, 0], axis=-1), x[:, 1], 2)[:, None, None], _in_top_two),
        "Isclose": (lambda x: ops.isclose(x, 0.5), lambda x: np.isclose(x, 0.5)),
        "Isfinite": (ops.isfinite, np.isfinite),
        "IsIn": (lambda x: ops.isin(x, [0.5, 1.0]), lambda x: np.isin(x, [0.5, 1.0])),
        "Isinf": (lambda x: ops.logical_not(ops.isinf(x)), lambda x: ~np.isinf(x)),
        "Isnan": (lambda x: ops.logical_not(ops.isnan(x)), lambda x: ~np.isnan(x)),
        "Less": (lambda x: x < 0.5, lambda x: x < 0.5),
        "LessEqual": (lambda x: x <= 0.5, lambda x: x <= 0.5),
        "LogicalAnd": (lambda x: ops.logical_and(x > 0, x < 1), lambda x: (x > 0) & (x < 1)),
        "LogicalNot": (lambda x: ops.logical_not(x > 0), lambda x: x <= 0),
        "LogicalOr": (lambda x: ops.logical_or(x > 1, x), lambda x: (x > 1) | (x != 0)),
        "LogicalXor": (lambda x: ops.logical_xor(x > 0, x < 1), lambda x: (x > 0) ^ (x < 1)),
        "NotEqual": (lambda x: ops.not_equal(x, 0.5), lambda x: x != 0.5),
        "OnesLike": (ops.ones_like, np.ones_like),
        "Signbit": (ops.signbit, np.signbit),
        "ZerosLike": (lambda x: 1 - ops.zeros_like(x), np.ones_like),
    }  # fmt: skip
    for name, (op, f) in table.items():
        yield Case(name, "", lambda x, op=op: x * ops.cast(op(x), "float32"), t.kept(f))


def _in_top_two(x):
    return x[1, x[0].argmax()] >= np.sort(x[1])[-2]


def casts():
    """Whole numbers in, or in between."""
    yield Case("Cast", "uint8", lambda x: ops.cast(x, "float32") / 255, t.linear(lambda x: x / 255), kind="uint8")
    yield Case(
        "Cast", "int32", lambda x: ops.mean(ops.cast(x, "float32"), axis=1), t.linear(lambda x: x.mean(0)), kind="int32"
    )
    yield Case(
        "Cast", "uint8 to int32", lambda x: ops.cast(x, "int32") - 128, t.linear(lambda x: x - 128), kind="uint8"
    )
    yield Case("Cast", "bool", lambda x: x * ops.cast(ops.cast(x, "bool"), "float32"), t.kept(lambda x: x != 0))
    yield Case(
        "Cast",
        "rounded",
        lambda x: x + ops.cast(ops.cast(x, "int32"), "float32"),
        t.scaled(lambda x: (1.0, np.trunc(x))),
    )
    yield Case("Cast", "half", lambda x: ops.cast(ops.cast(x, "float16"), "float32") * 2, t.linear(lambda x: 2 * x))
    yield Case("SaturateCast", "", lambda x: x * ops.cast(ops.saturate_cast(x, "uint8"), "float32"),
               t.kept(lambda x: np.trunc(np.maximum(x, 0))))  # fmt: skip
    yield Case("ConvertToTensor", "", lambda x: ops.convert_to_tensor(x) * 2, t.linear(lambda x: 2 * x))
    yield Case("ConvertToTensor", "uint8", lambda x: ops.convert_to_tensor(x, dtype="float32") * 2,
               t.linear(lambda x: 2 * x), kind="uint8")  # fmt: skip
    yield Case("Mean", "int32", lambda x: ops.mean(x, axis=-1), t.linear(lambda x: x.mean(-1)), kind="int32")
    yield Case("Add", "int32", lambda x: ops.add(x, 2), t.linear(lambda x: x + 2), kind="int32")
    yield Case("Divide", "int32", lambda x: ops.divide(x, 4), t.linear(lambda x: x / 4), kind="int32")


_THROUGH_ZERO = {
    "Absolute": (ops.absolute, np.abs), "Fabs": (ops.fabs, np.abs), "Arcsinh": (ops.arcsinh, np.arcsinh),
    "Arctan": (ops.arctan, np.arctan), "Sin": (ops.sin, np.sin), "Sinh": (ops.sinh, np.sinh), "Tan": (ops.tan, np.tan),
    "Erf": (ops.erf, np.vectorize(math.erf, otypes=[float])), "Expm1": (ops.expm1, np.expm1),
    "Square": (ops.square, np.square), "Sign": (ops.sign, np.sign), "Ceil": (ops.ceil, np.ceil),
    "Floor": (ops.floor, np.floor), "Trunc": (ops.trunc, np.trunc), "Round": (ops.round, np.round),
    "Deg2rad": (ops.deg2rad, np.deg2rad), "Rad2deg": (ops.rad2deg, np.rad2deg), "Cbrt": (ops.cbrt, np.cbrt),
    "Exp": (ops.exp, np.exp), "Exp2": (ops.exp2, np.exp2), "Cos": (ops.cos, np.cos), "Cosh": (ops.cosh, np.cosh),
    "Erfc": (ops.erfc, np.vectorize(math.erfc, otypes=[float])),
    "Tanh": (ops.tanh, np.tanh), "Relu": (ops.relu, twins.FUNCTIONS["relu"]),
    **{name: (getattr(ops, snake), twins.FUNCTIONS[snake]) for name, snake in {
        "Relu6": "relu6", "Selu": "selu", "Sigmoid": "sigmoid", "Softplus": "softplus", "LogSigmoid": "log_sigmoid",
        "HardSigmoid": "hard_sigmoid", "SparseSigmoid": "sparse_sigmoid", "SparsePlus": "sparse_plus", "Silu": "silu",
        "Softsign": "softsign", "TanhShrink": "tanh_shrink", "HardTanh": "hard_tanh", "HardSilu": "hard_silu",
        "LeakyRelu": "leaky_relu", "HardShrink": "hard_shrink", "SoftShrink": "soft_shrink", "Elu": "elu",
        "Celu": "celu", "Squareplus": "squareplus"}.items()},
}  # fmt: skip

_LIMITED = {
    "Arcsin": (ops.arcsin, np.arcsin, "inside"), "Arccos": (ops.arccos, np.arccos, "inside"),
    "Arctanh": (ops.arctanh, np.arctanh, "inside"), "Log1p": (ops.log1p, np.log1p, "inside"),
    "Erfinv": (ops.erfinv, np.vectorize(lambda y: _bisected(math.erf, float(y)), otypes=[float]), "inside"),
    "Sqrt": (ops.sqrt, np.sqrt, "nonnegative"),
}  # fmt: skip

_POLES = {
    "Arccosh": (ops.arccosh, np.arccosh, "above one"), "Log": (ops.log, np.log, "positive"),
    "Log10": (ops.log10, np.log10, "positive"), "Log2": (ops.log2, np.log2, "positive"),
    "Reciprocal": (ops.reciprocal, lambda x: 1 / x, "not zero"), "Rsqrt": (ops.rsqrt, lambda x: x**-0.5, "positive"),
}  # fmt: skip


def _bisected(f, y):
    low, high = -6.0, 6.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < y else (low, middle)
    return (low + high) / 2


def functions():
    """Functions of one tensor, element by element."""
    for name, (op, f) in _THROUGH_ZERO.items():
        yield Case(name, "", op, t.pointwise(f))
    for name, (op, f, kind) in _LIMITED.items():
        # c = f(x) / x, f(0) = 0, but for arccos.
        yield Case(name, "", op, t.pointwise(f) if name == "Arccos" else t.pole(f), kind=kind)
    for name, (op, f, kind) in _POLES.items():
        yield Case(name, "", op, t.pole(f), kind=kind)
    yield from _settings()
    yield Case("Softmax", "", ops.softmax, t.softmax(-1), kind="normal")
    yield Case("Softmax", "axis 1", lambda x: ops.softmax(x, axis=1), t.softmax(0), kind="normal")
    yield Case("LogSoftmax", "", ops.log_softmax, t.activation(activations.log_softmax), kind="normal")
    yield Case("Sparsemax", "", ops.sparsemax, t.activation(activations.sparsemax), kind="normal")
    for order in (1, 2, 3):
        yield Case(
            "Normalize", f"order {order}", lambda x, p=order: ops.normalize(x, axis=1, order=p), _normalized(order)
        )
    for name, op in (("Copy", ops.copy), ("StopGradient", ops.stop_gradient), ("NanToNum", ops.nan_to_num)):
        yield Case(name, "", lambda x, op=op: op(x) * 2, t.linear(lambda x: x * 2))


def _normalized(order):
    def make(x):
        length = np.linalg.norm(x, ord=order, axis=0, keepdims=True)
        return np.broadcast_to(1 / np.where(length == 0, 1, length), x.shape), 0.0

    return t.scaled(make)


def _settings():
    """Functions with settings other than the default ones."""
    erf = np.vectorize(math.erf, otypes=[float])
    table = [
        ("Gelu", "exact", lambda x: ops.gelu(x, approximate=False), lambda x: x / 2 * (1 + erf(x / math.sqrt(2)))),
        (
            "Gelu",
            "approximate",
            ops.gelu,
            lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        ("LeakyRelu", "slope", lambda x: ops.leaky_relu(x, 0.5), lambda x: np.where(x > 0, x, x / 2)),
        ("Elu", "alpha", lambda x: ops.elu(x, 0.5), lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)) / 2)),
        ("Celu", "alpha", lambda x: ops.celu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2))),
        ("HardShrink", "wide", lambda x: ops.hard_shrink(x, 1.0), lambda x: np.where(np.abs(x) > 1, x, 0)),
        ("SoftShrink", "wide", lambda x: ops.soft_shrink(x, 1.0), lambda x: np.sign(x) * np.maximum(np.abs(x) - 1, 0)),
        ("Squareplus", "b", lambda x: ops.squareplus(x, 1), lambda x: (x + np.sqrt(x * x + 1)) / 2),
        ("Threshold", "zero", lambda x: ops.threshold(x, 0.5, 0.0), lambda x: np.where(x > 0.5, x, 0)),
        ("Threshold", "below zero", lambda x: ops.threshold(x, -0.5, -2.0), lambda x: np.where(x > -0.5, x, -2)),
        ("Round", "decimals", lambda x: ops.round(x, 1), lambda x: np.round(x.astype(float), 1)),
        ("Clip", "", lambda x: ops.clip(x, -1, 0.5), lambda x: np.clip(x, -1, 0.5)),
        ("Clip", "above zero", lambda x: ops.clip(x, 0.5, 1), lambda x: np.clip(x, 0.5, 1)),
        ("Clip", "below zero", lambda x: ops.clip(x, -1, -0.5), lambda x: np.clip(x, -1, -0.5)),
        ("ReLU", "capped", lambda x: activations.relu(x, max_value=1.0), lambda x: np.clip(x, 0, 1)),
        ("ReLU", "leaky", lambda x: activations.relu(x, negative_slope=0.5), lambda x: np.where(x > 0, x, x / 2)),
        (
            "ReLU",
            "threshold",
            lambda x: activations.relu(x, 0.5, 1.5, 1.0),
            lambda x: np.where(x > 1, np.minimum(x, 1.5), (x - 1) / 2),
        ),
    ]
    for name, note, op, f in table:
        yield Case(name, note, op, t.pointwise(f))


def others():
    """Operations that change shapes in their own way, and settings that change what a function is at 0."""
    yield Case("Glu", "", ops.glu, t.glu, kind="normal")
    yield Case("Reshape", "inferred", lambda x: ops.reshape(x, (2, -1)), t.linear(lambda x: x.reshape(-1)))
    yield Case("Split", "sections", lambda x: ops.split(x, 2, axis=-1), t.outputs(lambda x: np.split(x, 2, -1)))
    yield Case("Split", "places", lambda x: ops.split(x, [1, 3], axis=2), t.outputs(lambda x: np.split(x, [1, 3], 1)))
    yield Case("Unstack", "", lambda x: ops.unstack(x, axis=1), t.outputs(list))
    yield Case("Unstack", "last axis", lambda x: ops.unstack(x, num=4, axis=-1), t.outputs(lambda x: list(x.T)))
    yield Case("Append", "", lambda x, y: ops.append(x, y, axis=-1), t.linear(lambda x, y: np.concatenate([x, y], -1)),
               (MATRICES, MATRICES))  # fmt: skip
    above = t.chain(t.selected(np.argmax, (-1,)), t.constant_first(np.argmax, 0.5))
    yield Case("Max", "initial", lambda x: ops.max(x, axis=-1, initial=0.5), above)
    below = t.chain(t.selected(np.argmin, (-1,)), t.constant_first(np.argmin, -0.5))
    yield Case("Min", "initial", lambda x: ops.min(x, axis=-1, initial=-0.5), below)
    yield Case("Power", "to 0", lambda x: x**0, t.pointwise(lambda x: x**0))
    bins = np.array([-1, 0, 1], "float32")
    yield Case("SearchSorted", "", lambda x: x * ops.cast(ops.searchsorted(bins, x[:, 0]), "float32")[:, None],
               t.kept(lambda x: np.searchsorted(bins, x)), ((1,),))  # fmt: skip
    frames = lambda x: np.fft.rfft(np.stack([x[k : k + 4] for k in (0, 2, 4)]))  # noqa: E731
    yield Case("STFT", "", lambda x: ops.stft(x, 4, 2, 4, window=None, center=False),
               t.outputs(lambda x: [frames(x).real, frames(x).imag]), ((8,),))  # fmt: skip
    yield Case(
        "Threshold", "value", lambda x: ops.threshold(x, 0.5, 2.0), t.pointwise(lambda x: np.where(x > 0.5, x, 2))
    )
    bounds = np.array([0.5, 1, 0, 2], "float32")
    yield Case(
        "Clip", "by a row", lambda x: ops.clip(x, -bounds, bounds), t.pole(lambda x: np.clip(x, -bounds, bounds))
    )


GROUPS = [
    stacked(constants()),
    arithmetic(),
    stacked(choices()),
    stacked(arrays()),
    stacked(selections()),
    reductions(),
    products(),
    attention(),
    stacked(masks()),
    stacked(functions()),
    casts(),
    others(),
]
CASES = [case for group in GROUPS for case in group]
