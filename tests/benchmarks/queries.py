"""Queries between two layers of VGG-16 at 224 x 224 pixels, beside the forward pass. Run by hand:

    python tests/benchmarks/queries.py [--repeats 3]

Prints Markdown: seconds, queries a second, and times the forward pass.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from saliency import build
from timing import medians

import pane_keras

UNITS = [(3, 3, c) for c in range(16)]


def queries(model, trace, x):
    """(name, how many queries, function) of what is timed."""
    deep = trace.between("block3_conv1", "block5_conv3")
    last, vectors = trace.between("block5_conv3", "logits"), trace.between("fc1", "fc2")
    yield "forward pass", 1, lambda: np.asarray(model(x, training=False))
    yield "1 unit of block5_conv3 over block3_conv1", 1, lambda: np.asarray(deep.map(UNITS[0]).sum)
    yield "16 units of block5_conv3 over block3_conv1", 16, lambda: np.asarray(deep.map(UNITS).sum)
    yield "1 class over block5_conv3", 1, lambda: np.asarray(last.map(7).sum)
    yield "64 classes over block5_conv3", 64, lambda: np.asarray(last.map(list(range(64))).sum)
    yield "channel 40 of block5_conv3 over block3_conv1", 1, lambda: np.asarray(deep.map(channel=40).sum)
    yield "16 channels of block5_conv3 over block3_conv1", 16, lambda: np.asarray(deep.map(channel=list(range(16))).sum)
    close = trace.between("block5_conv2", "block5_conv3")
    yield "channels of block5_conv3 over block5_conv2 (512 x 512)", 1, lambda: np.asarray(close.channels().sum)
    yield "dense fc2 over fc1 (4096 x 4096)", 1, lambda: np.asarray(vectors.dense().sum)
    yield "dense logits over fc1 (1000 x 4096)", 1, lambda: np.asarray(trace.between("fc1", "logits").dense().sum)


def main():
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    model = build("VGG16")
    x = np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")
    trace = pane_keras.wrap(model).trace(x)
    rows = list(queries(model, trace, x))
    found = medians({name: function for name, _, function in rows}, args.repeats)
    print("| query | seconds | queries a second | forward passes a query |\n| --- | --- | --- | --- |")
    for name, count, _ in rows:
        each = found[name] / count
        print(f"| {name} | {found[name]:.3f} | {1 / each:.2f} | {each / found['forward pass']:.2f} |")


if __name__ == "__main__":
    main()
