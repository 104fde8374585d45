"""Generated graphs of sequence layers against the float64 four-product chain, from every input to every output.

The signs of x and o' and the selected elements are the trace's. Differences are measured against the chain of
|E+| + |E-|, as float32 rounds them.
"""

import numpy as np
from agreement import assert_network, traced
from architectures_sequences import sequences
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pane_keras.testing import dense_network

# No shrinking, as in tests/test_laws.py.
laws = settings(deadline=None, max_examples=40, derandomize=True, database=None, print_blob=False,
                suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])  # fmt: skip


@laws
@given(sequences, st.data())
def test_outputs_and_inner_pairs_are_the_four_product_chain(architecture, data):
    trace = traced(architecture.model(), architecture.inputs())
    network, ends = dense_network(trace), _ends(trace)
    joined = [(a, b) for a in trace.input_names for b in ends if _reaches(trace, a, b)]
    assert {a for a, _ in joined} == set(trace.input_names)
    inner = [(a, b) for k, a in enumerate(trace) for b in list(trace)[k + 1 :] if _reaches(trace, a, b)]
    chosen = [data.draw(st.sampled_from(inner), label="inner pair")] if inner else []
    for source, target in [*joined, *chosen]:
        assert np.isfinite(assert_network(trace, source, target, network)).all()


def _ends(trace):
    """Names of the layers that emit the outputs."""
    return [next(name for name in trace if trace._call(name).output == slot) for slot in trace._outputs]


def _reaches(trace, source, target):
    a, b = trace._source(source), trace._target(target)
    reached = {a}
    for edge in trace._record.edges:
        if edge.source in reached:
            reached.add(edge.target)
    return a != b and b in reached
