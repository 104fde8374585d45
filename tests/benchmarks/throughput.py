"""Images a second, eager and compiled, beside the input gradient. Run by hand:

    python tests/benchmarks/throughput.py [--models VGG16 ResNet50 ...] [--batches 1 8 32] [--repeats 5]

Everything is timed in one process, in turns, on fresh images each time. Prints Markdown.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from saliency import COMPILED_GRADIENT, GRADIENT, build, compiled_ways, seconds, ways

import pane_keras

MODELS = ["VGG16", "ResNet50", "MobileNetV2", "EfficientNetB0"]


def main():
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {os.cpu_count()} cores\n")
    print("| model | batch | eager gradient | trace + saliency | times | compiled gradient | explain | times |")
    print("| --- " * 8 + "|")
    for name in args.models:
        model = build(name)
        pane = pane_keras.wrap(model)
        eager = {way: function for way, function in ways(model, pane).items() if way in (GRADIENT, "trace + saliency")}
        functions = {**eager, **compiled_ways(model, pane)}
        for batch in args.batches:
            found = seconds(functions, (batch, 224, 224, 3), args.repeats)
            rates = {way: f"{batch / value:.2f}" for way, value in found.items()}
            eager, compiled = found["trace + saliency"] / found[GRADIENT], found["explain"] / found[COMPILED_GRADIENT]
            cells = (rates[GRADIENT], rates["trace + saliency"], f"{eager:.2f}")
            cells += (rates[COMPILED_GRADIENT], rates["explain"], f"{compiled:.2f}")
            print(f"| {name} | {batch} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    np.random.seed(0)
    main()
