"""Hypothesis generator of small graphs over sequences: attention, recurrence, gates, shared layers, several ends.

A `SequenceArchitecture` is plain data, as `architectures.Architecture` is, and a failing example prints as its steps.
Signs are the trace's, so nothing here keeps away from zero; a fifth of the inputs is exactly zero.
"""

from dataclasses import dataclass

import keras
from agreement import draw, filled
from hypothesis import strategies as st
from keras import layers, ops

ACTIVATIONS = ("relu", "tanh", "sigmoid", "silu", "gelu", "softplus", "linear")


@dataclass(frozen=True)
class SequenceArchitecture:
    """What a model of sequences (time, width) is made of.

    Attributes:
        steps: Each a tuple (name, *settings), see `_STEPS`.
        join: How a second input comes in after the first step, or None: see `_JOINS`.
        named: Several inputs and outputs are dicts; otherwise lists.
        ends: Outputs: "classes", "sequence" and "states", one or more.
        length, width: Of the sequences.
        batch: Samples.
        seed: Of weights and inputs.
    """

    steps: tuple
    join: str | None
    named: bool
    ends: tuple
    length: int
    width: int
    batch: int
    seed: int

    def __repr__(self):
        chain = " > ".join(" ".join(map(str, step)) for step in self.steps)
        kind = f"{'dicts' if self.named else 'lists'} of {self.length}x{self.width}, joined by {self.join}"
        return f"<{kind} > {chain} > {', '.join(self.ends)}; batch {self.batch}, seed {self.seed}>"

    @property
    def names(self):
        """Of the inputs."""
        return ["first", "second"] if self.join else ["first"]

    def model(self):
        """Returns the model with random weights."""
        inputs = {name: keras.Input((self.length, self.width), name=name) for name in self.names}
        x = inputs["first"]
        for position, (name, *settings) in enumerate(self.steps):
            x = _STEPS[name](x, *settings)
            if self.join and not position:
                x = _JOINS[self.join](x, layers.Dense(x.shape[-1])(inputs["second"]))
        outputs = {end: _ENDS[end](x) for end in self.ends}
        return filled(self._structure(inputs), self._structure(outputs), self.seed)

    def inputs(self):
        """Returns the samples, structured as the model takes them."""
        shape = (self.batch, self.length, self.width)
        return self._structure({name: draw(*shape, seed=self.seed + k) for k, name in enumerate(self.names)})

    def _structure(self, named):
        if len(named) == 1:
            return next(iter(named.values()))
        return named if self.named else list(named.values())


def _attention(x, kind, causal):
    if kind == "heads":
        return layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=causal)
    if kind == "groups":
        return layers.GroupQueryAttention(2, 2, 1, use_gate=causal)(x, x)
    return getattr(layers, kind)()([x, x], use_causal_mask=causal)


def _recurrent(x, kind, backwards):
    return getattr(layers, kind)(2, return_sequences=True, go_backwards=backwards)(x)


def _both_ways(x, kind, merge):
    return layers.Bidirectional(getattr(layers, kind)(2, return_sequences=True), merge_mode=merge)(x)


def _residual(x, activation):
    return layers.Add()([x, layers.Dense(x.shape[-1], activation=activation)(layers.LayerNormalization()(x))])


def _gate(x, operations):
    gate = layers.Dense(x.shape[-1], activation="sigmoid")(x)
    return x * gate if operations else layers.Multiply()([x, gate])


def _shared(x, activation):
    """One layer, called twice."""
    layer = layers.Dense(x.shape[-1], activation=activation)
    return layers.Subtract()([layer(layer(x)), x])


def _nested(x, activation):
    """A model inside the model, called twice."""
    inner = keras.Input(x.shape[1:])
    y = layers.Conv1D(x.shape[-1], 2, padding="causal", activation=activation)(inner)
    model = keras.Model(inner, layers.Add()([inner, y]))
    return model(model(x))


_OPERATIONS = {
    "shift": lambda x: ops.concatenate([x[:, 1:], x[:, :1]], axis=1) - 0.5 * x,
    "center": lambda x: x - ops.mean(x, axis=1, keepdims=True),
    "scores": lambda x: ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1)))), x),
    "largest": lambda x: ops.maximum(x, ops.flip(x, axis=1)) + ops.max(x, axis=1, keepdims=True),
    "where": lambda x: ops.where(x > 0, ops.tanh(x), 0.1 * x),
    "squares": lambda x: ops.square(x) / (1.0 + ops.abs(x)),
    "einsum": lambda x: ops.einsum("bti,bsi->bts", x, x),
}

_STEPS = {
    "attention": _attention,
    "recurrent": _recurrent,
    "both ways": _both_ways,
    "every step": lambda x, units, activation: layers.TimeDistributed(layers.Dense(units, activation=activation))(x),
    "conv": lambda x, units, activation: layers.Conv1D(units, 2, padding="same", activation=activation)(x),
    "norm": lambda x: layers.LayerNormalization()(x),
    "residual": _residual,
    "gate": _gate,
    "shared": _shared,
    "nested": _nested,
    "operations": lambda x, name: _OPERATIONS[name](x),
}

_JOINS = {
    "add": lambda x, y: layers.Add()([x, y]),
    "multiply": lambda x, y: x * y,
    "attention": lambda x, y: x + layers.MultiHeadAttention(1, 2)(x, y),
    "concatenate": lambda x, y: layers.Concatenate()([x, y]),
    "states": lambda x, y: layers.SimpleRNN(x.shape[-1], return_sequences=True)(x, initial_state=y[:, 0]),
}

_ENDS = {
    "classes": lambda x: layers.Dense(2)(layers.GlobalAveragePooling1D()(x)),
    "sequence": lambda x: layers.Dense(1)(x),
    "states": lambda x: layers.SimpleRNN(1)(x),
}

_activations = st.sampled_from(ACTIVATIONS)
_kinds = st.sampled_from([*["SimpleRNN"] * 4, "GRU", "LSTM"])
_steps = st.one_of(
    st.tuples(
        st.just("attention"), st.sampled_from(["heads", "groups", "Attention", "AdditiveAttention"]), st.booleans()
    ),
    st.tuples(st.just("recurrent"), _kinds, st.booleans()),
    st.tuples(st.just("both ways"), st.just("SimpleRNN"), st.sampled_from(["concat", "sum", "mul", "ave"])),
    st.tuples(st.sampled_from(["every step", "conv"]), st.integers(1, 3), _activations),
    st.tuples(st.sampled_from(["residual", "shared", "nested"]), _activations),
    st.tuples(st.just("gate"), st.booleans()),
    st.tuples(st.just("operations"), st.sampled_from(sorted(_OPERATIONS))),
    st.just(("norm",)),
)

sequences = st.builds(
    SequenceArchitecture,
    steps=st.lists(_steps, min_size=1, max_size=3).map(tuple),
    join=st.sampled_from([*[None] * 5, *_JOINS]),
    named=st.booleans(),
    ends=st.sampled_from([("classes",), ("classes",), ("sequence",), ("states",), ("classes", "sequence")]),
    length=st.just(2),
    width=st.integers(2, 3),
    batch=st.integers(1, 2),
    seed=st.integers(0, 2**16),
)
"""Strategy: graphs of sequences with one or two inputs and outputs."""
