"""Prints the table of docs/applications.md: `python tests/benchmarks/applications.py > docs/applications.md`."""

import gc
import pathlib
import sys

import numpy as np

import pane_keras

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import applications

HEADER = """# The architectures of keras.applications

Random weights, BatchNormalization statistics calibrated on photographs of scikit-image, two photographs, float32.
Local: largest residual of any layer, |o - (E+ x + E- x + b)| over the layer's largest |o| or |b|. End to end:
|logit - sum S x - sum S b| over sum |S x| + sum |S b|, top logit. log2 D and log2 S: exponents of the maps (0 where
float32 holds them). Made by `python tests/benchmarks/applications.py > docs/applications.md`.

| architecture | picture | nodes | local | end to end | log2 D | log2 S |
| --- | --- | --- | --- | --- | --- | --- |"""


def row(name):
    """Returns one row of the table."""
    model = applications.build(name)
    size = model.input_shape[1]
    trace = pane_keras.wrap(model).trace(applications.photographs(size)[:2])
    report, maps = trace.check(), trace.saliency()
    scales = [int(np.max(scale)) for scale in (maps.log2_scale, maps.sum_log2_scale)]
    local = max(report.layers.values())
    return f"| {name} | {size} | {len(trace)} | {local:.1e} | {report.end_to_end:.1e} | {scales[0]} | {scales[1]} |"


if __name__ == "__main__":
    print(HEADER)
    for name in applications.NAMES:
        print(row(name), flush=True)
        gc.collect()
