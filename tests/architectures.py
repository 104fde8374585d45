"""Hypothesis generators of small architectures: chains and graphs, with random weights and inputs.

An `Architecture` is plain data, so that a failing example prints as the list of its steps. A step fits itself to the
shape that it meets: windows are cut to the size of the picture, and a step that needs a picture skips a vector.
Signs: the tests take those of o' and of every selection from the trace, so nothing here keeps away from zero.
"""

from dataclasses import dataclass

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

ACTIVATIONS = ("relu", "tanh", "sigmoid", "silu", "gelu", "elu", "softplus", "leaky_relu", "relu6", "hard_sigmoid",
               "exponential", "softmax", "linear")  # fmt: skip
MERGES = ("Add", "Subtract", "Average", "Maximum", "Minimum", "Multiply", "Concatenate")


@dataclass(frozen=True)
class Architecture:
    """What a model is made of.

    Attributes:
        steps: Each a tuple (name, *settings), see `_STEPS`.
        classes: Units of the last layer.
        head: Activation of the logits, "softmax" or "sigmoid", or None.
        sequential: Built as a Sequential, if no step branches.
        side: Height and width of the input picture.
        batch: Samples.
        seed: Of weights and inputs.
        dyadic: Weights and inputs are multiples of 1/2: inside the network signals are often exactly zero although
            their terms are not, and windows have ties.
    """

    steps: tuple
    classes: int
    head: str | None
    sequential: bool
    side: int
    batch: int
    seed: int
    dyadic: bool = False

    def __repr__(self):
        chain = " > ".join(" ".join(map(str, step)) for step in self.steps)
        kind = "Sequential" if self.sequential else "Functional"
        end = f"dense {self.classes} {self.head}"
        drawn = f"batch {self.batch}, seed {self.seed}, dyadic {self.dyadic}"
        return f"<{kind} {self.side}x{self.side}x2 > {chain} > {end}; {drawn}>"

    def model(self):
        """Returns the model with random weights; biases are not zero and deviations are positive."""
        keras.backend.clear_session()
        x = keras.Input((self.side, self.side, 2))
        put = _Recorder()
        model = keras.Model(x, _body(self, x, put))
        if self.sequential:
            model = keras.Sequential([keras.Input((self.side, self.side, 2)), *put.layers])
        randomize(model, np.random.default_rng(self.seed), self.dyadic)
        return model

    def inputs(self):
        """Returns the samples: a quarter of the entries is exactly zero."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (self.batch, self.side, self.side, 2)
        values = rng.integers(-4, 5, shape) / 2 if self.dyadic else rng.normal(size=shape)
        return np.where(rng.random(values.shape) < 0.25, 0, values).astype("float32")


class _Recorder:
    """Applies a layer, and remembers it for a Sequential."""

    def __init__(self):
        self.layers = []

    def __call__(self, layer, x):
        self.layers.append(layer)
        return layer(x)


def _body(architecture, x, put):
    for step in architecture.steps:
        x = apply(step, x, put)
    if len(x.shape) > 2:
        x = put(layers.Flatten(), x)
    fused = architecture.seed % 2
    x = put(layers.Dense(architecture.classes, activation=architecture.head if fused else None), x)
    return put(layers.Activation(architecture.head), x) if architecture.head and not fused else x


def apply(step, x, put):
    """Puts the layers of a step on a symbolic tensor; `put(layer, x)` applies one layer."""
    name, *settings = step
    kind, function = _STEPS[name]
    if kind == "picture" and len(x.shape) != 4:
        return x
    return function(put, x, *settings)


def _conv(put, x, filters, window, stride, padding, activation):
    window, stride = min(window, *x.shape[1:3]), min(stride, *x.shape[1:3])
    return put(layers.Conv2D(filters, window, strides=stride, padding=padding, activation=activation), x)


def _dilated(put, x, filters):
    return put(layers.Conv2D(filters, 2, dilation_rate=2, padding="same", use_bias=False), x)


def _grouped(put, x, window):
    channels = x.shape[-1]
    return put(layers.Conv2D(2 * channels, min(window, *x.shape[1:3]), groups=channels, activation="relu"), x)


def _depthwise(put, x, window, multiplier, dilation):
    return put(layers.DepthwiseConv2D(window, depth_multiplier=multiplier, dilation_rate=dilation, padding="same"), x)


def _separable(put, x, filters, activation):
    return put(layers.SeparableConv2D(filters, 2, padding="same", activation=activation), x)


def _transposed(put, x, filters):
    return x if x.shape[1] > 4 else put(layers.Conv2DTranspose(filters, 2, strides=2), x)


def _pool(put, x, kind, padding):
    return x if min(x.shape[1:3]) < 2 else put(getattr(layers, f"{kind}Pooling2D")(2, padding=padding), x)


def _global(put, x, kind):
    return put(getattr(layers, f"Global{kind}Pooling2D")(), x)


def _crop(put, x):
    return x if min(x.shape[1:3]) < 3 else put(layers.Cropping2D(((1, 0), (0, 1))), x)


def _upsample(put, x, interpolation):
    return x if x.shape[1] > 4 else put(layers.UpSampling2D(2, interpolation=interpolation), x)


def _dense(put, x, units, activation):
    return put(layers.Dense(units, activation=activation), x)


def _branch(put, x, merge, left, right):
    """Two branches from one tensor, brought to its width so that they can be merged, then merged."""
    ends = []
    for steps in (left, right):
        end = x
        for step in steps:
            end = apply(step, end, put)
        ends.append(end)
    if merge != "Concatenate" and ends[0].shape != ends[1].shape:
        ends = [layers.Dense(x.shape[-1])(end) for end in ends]
    return getattr(layers, merge)()(ends)


def _residual(put, x, merge, activation):
    """A branch of the same shape, with BatchNormalization, merged with its own input."""
    branch = layers.Conv2D(x.shape[-1], 3, padding="same")(x) if len(x.shape) == 4 else layers.Dense(x.shape[-1])(x)
    branch = layers.BatchNormalization()(branch)
    if merge == "Concatenate":
        return layers.Concatenate()([x, branch])
    return layers.Activation(activation)(getattr(layers, merge)()([branch, x]))


def _squeeze(put, x):
    """Squeeze-and-excite: a gate of one value a channel."""
    gate = layers.Dense(x.shape[-1], activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, gate])


def _shared(put, x, activation):
    """One layer that is called twice."""
    layer = layers.Dense(x.shape[-1], activation=activation)
    return layer(layer(x))


def _nested(put, x, units, activation):
    """A model inside the model."""
    inner = keras.Input(x.shape[1:])
    y = layers.Dense(units, activation=activation)(inner)
    return keras.Model(inner, layers.LayerNormalization()(y))(x)


_STEPS = {
    "conv": ("picture", _conv),
    "dilated": ("picture", _dilated),
    "grouped": ("picture", _grouped),
    "depthwise": ("picture", _depthwise),
    "separable": ("picture", _separable),
    "transposed": ("picture", _transposed),
    "pool": ("picture", _pool),
    "crop": ("picture", _crop),
    "pad": ("picture", lambda put, x: put(layers.ZeroPadding2D(((0, 1), (1, 0))), x)),
    "upsample": ("picture", _upsample),
    "global": ("picture", _global),
    "squeeze": ("picture", _squeeze),
    "flatten": ("any", lambda put, x: put(layers.Flatten(), x)),
    "dense": ("any", _dense),
    "activation": ("any", lambda put, x, name: put(layers.Activation(name), x)),
    "batchnorm": ("any", lambda put, x: put(layers.BatchNormalization(), x)),
    "layernorm": ("any", lambda put, x: put(layers.LayerNormalization(), x)),
    "groupnorm": ("any", lambda put, x: put(layers.GroupNormalization(1), x)),
    "relu": ("any", lambda put, x: put(layers.ReLU(), x)),
    "prelu": ("any", lambda put, x: put(layers.PReLU(), x)),
    "dropout": ("any", lambda put, x: put(layers.Dropout(0.5), x)),
    "noise": ("any", lambda put, x: put(layers.GaussianNoise(0.5), x)),
    "rescale": ("any", lambda put, x: put(layers.Rescaling(0.5, offset=-0.25), x)),
    "branch": ("any", _branch),
    "residual": ("any", _residual),
    "shared": ("any", _shared),
    "nested": ("any", _nested),
}

_few = st.integers(1, 3)
_activations = st.sampled_from(ACTIVATIONS)
CHAIN_STEPS = st.one_of(
    st.tuples(st.just("conv"), _few, _few, st.integers(1, 2), st.sampled_from(["same", "valid"]), _activations),
    st.tuples(st.just("dilated"), _few),
    st.tuples(st.just("grouped"), _few),
    st.tuples(st.just("depthwise"), _few, st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.just("separable"), _few, _activations),
    st.tuples(st.just("transposed"), st.integers(1, 2)),
    st.tuples(st.just("pool"), st.sampled_from(["Max", "Average"]), st.sampled_from(["same", "valid"])),
    st.tuples(st.just("upsample"), st.sampled_from(["nearest", "bilinear"])),
    st.tuples(st.just("global"), st.sampled_from(["Max", "Average"])),
    st.tuples(st.just("dense"), st.integers(2, 4), _activations),
    st.tuples(st.just("activation"), _activations),
    st.sampled_from([("crop",), ("pad",), ("flatten",), ("batchnorm",), ("layernorm",), ("groupnorm",), ("relu",),
                     ("prelu",), ("dropout",), ("noise",), ("rescale",)]),
)  # fmt: skip
# Steps that keep the height and width, so that two branches of them can meet.
LEVEL_STEPS = st.one_of(
    st.tuples(st.just("conv"), _few, _few, st.just(1), st.just("same"), _activations),
    st.tuples(st.just("depthwise"), _few, st.just(1), st.integers(1, 2)),
    st.tuples(st.just("activation"), _activations),
    st.sampled_from([("batchnorm",), ("layernorm",), ("relu",), ("dropout",)]),
)
GRAPH_STEPS = st.one_of(
    CHAIN_STEPS,
    st.tuples(st.just("branch"), st.sampled_from(MERGES), st.lists(LEVEL_STEPS, max_size=2).map(tuple),
              st.lists(LEVEL_STEPS, min_size=1, max_size=2).map(tuple)),
    st.tuples(st.just("residual"), st.sampled_from(MERGES), _activations),
    st.tuples(st.just("shared"), _activations),
    st.tuples(st.just("nested"), st.integers(2, 3), _activations),
    st.just(("squeeze",)),
)  # fmt: skip


def _built(steps, sequential):
    return st.builds(
        Architecture,
        steps=st.lists(steps, min_size=1, max_size=5).map(tuple),
        classes=st.integers(1, 4),
        head=st.sampled_from([None, None, "softmax", "sigmoid"]),
        sequential=sequential,
        side=st.integers(3, 5),
        batch=st.integers(1, 3),
        seed=st.integers(0, 2**16),
        dyadic=st.booleans(),
    )


chains = _built(CHAIN_STEPS, st.booleans())
"""Strategy: architectures whose every layer lies on the one path from the input to the logits."""

graphs = _built(GRAPH_STEPS, st.just(False))
"""Strategy: architectures with branches, residuals, gates, shared layers and nested models."""


def randomize(model, rng, dyadic=False):
    """Gives every float weight a random value, a multiple of 1/2 if `dyadic`."""
    for variable in model.weights:
        if not keras.backend.is_float_dtype(variable.dtype):
            continue
        shape = tuple(variable.shape)
        spread = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.4
        value = rng.integers(-2, 3, shape) / 2 if dyadic else rng.normal(0, spread, shape)
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
