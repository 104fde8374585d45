"""How time grows with the depth of a network and with the number of selected units. Run by hand:

    python tests/benchmarks/growth.py [--repeats 3]

Prints Markdown, with the exponent of a power law fitted to the upper half of each series: 1 is linear growth.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from timing import medians

import pane_keras

DEPTHS, COUNTS = (10, 20, 50, 100, 200), (1, 4, 16, 64, 256, 1024, 4096)


def deep(depth):
    """A chain of so many convolutions with ReLU, 16 channels, 32 x 32 pixels."""
    keras.utils.set_random_seed(0)
    x = keras.Input((32, 32, 16))
    y = x
    for _ in range(depth):
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(y)
    return keras.Model(x, layers.Dense(10)(layers.GlobalAveragePooling2D()(y)))


def by_depth():
    """Trace and saliency of networks of growing depth, by their depth."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 16)).astype("float32")
    panes = {depth: pane_keras.wrap(deep(depth)) for depth in DEPTHS}
    return {depth: lambda pane=pane: np.asarray(pane.trace(x).saliency().sum) for depth, pane in panes.items()}


def by_units():
    """Maps of growing numbers of units of the fourth convolution over the input, by their number."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 16)).astype("float32")
    trace = pane_keras.wrap(deep(4)).trace(x)
    pair = trace.between("input", [name for name in trace if name.startswith("conv2d")][-1])
    units = [(h, w, c) for c in range(4) for h in range(32) for w in range(32)]
    return {count: lambda count=count: np.asarray(pair.map(units[:count]).sum) for count in COUNTS}


def exponent(found):
    """Slope of log time over log size, over the larger half of the sizes."""
    sizes = sorted(found)[len(found) // 2 :]
    return np.polyfit(np.log(sizes), np.log([found[size] for size in sizes]), 1)[0]


def main():
    """Reads the command line and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for title, functions in (("convolutions", by_depth()), ("selected units", by_units())):
        found = medians(functions, args.repeats)
        print(f"| {title} | seconds | ms each |\n| --- | --- | --- |")
        for size, value in found.items():
            print(f"| {size} | {value:.3f} | {1e3 * value / size:.2f} |")
        print(f"\nTime grows as {title} to the power {exponent(found):.2f}.\n", flush=True)


if __name__ == "__main__":
    main()
