"""Speed and memory of a saliency map beside what a user would do instead. Run by hand:

    python tests/benchmarks/saliency.py [--models VGG16 ResNet50] [--batches 1 8] [--repeats 7] [--memory]

Everything is timed in one process, in turns, on fresh images each time. Prints medians and ratios as Markdown.
"""

import argparse
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import psutil
import tensorflow as tf
from timing import medians

import pane_keras
from pane_keras.evaluation.methods.literal_chain import literal_chain

GRADIENT, COMPILED_GRADIENT = "GradientTape input gradient", "compiled input gradient"


def input_gradient(model, x):
    """The eager GradientTape input gradient of the top logit, as tutorials write it."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        top = tf.reduce_max(model(x, training=False), axis=-1)
    return tape.gradient(top, x)


def ways(model, pane):
    """What is timed, by name."""
    return {
        "forward": lambda x: model(x, training=False),
        GRADIENT: lambda x: input_gradient(model, x),
        "trace": pane.trace,
        "trace + saliency": lambda x: pane.trace(x).saliency(),
        "literal four products, float32": lambda x: literal_chain(pane.trace(x), None),
    }


def compiled_ways(model, pane):
    """The same as one graph."""
    gradient = tf.function(lambda x: input_gradient(model, x))
    return {COMPILED_GRADIENT: lambda x: gradient(tf.convert_to_tensor(x)), "explain": pane.explain}


def seconds(functions, shape, repeats):
    """Median seconds of each function, called in turns on fresh images, until its result is there."""
    draw = np.random.default_rng(0).uniform

    def waited(function):
        def run(x):
            result = function(x)
            np.asarray(result[0] if isinstance(result, tuple) else getattr(result, "sum", 0))

        return run

    waiting = {name: waited(function) for name, function in functions.items()}
    return medians(waiting, repeats, lambda: (draw(-1, 1, shape).astype("float32"),))


def build(name):
    """The architecture with random weights and without its softmax, so that every way explains the logit."""
    keras.utils.set_random_seed(0)
    return getattr(keras.applications, name)(weights=None, classifier_activation=None)


def timing(args):
    """Prints the table of times."""
    print("| model | batch | way | median ms | times forward | times gradient |\n| --- | --- | --- | --- | --- | --- |")
    for name in args.models:
        model = build(name)
        functions = ways(model, pane_keras.wrap(model))
        for batch in args.batches:
            found = seconds(functions, (batch, 224, 224, 3), args.repeats)
            forward, gradient = found["forward"], found[GRADIENT]
            for way, value in found.items():
                ratios = f"{value / forward:.2f} | {value / gradient:.2f}"
                print(f"| {name} | {batch} | {way} | {1e3 * value:.0f} | {ratios} |", flush=True)


def memory(args):
    """Prints the peak memory of each way, each in a process of its own, less what the process held before."""
    print("\n| model | batch | way | peak MiB | times gradient |\n| --- | --- | --- | --- | --- |")
    for name in args.models:
        for batch in args.batches:
            for gradient, ours in ((GRADIENT, "trace + saliency"), (COMPILED_GRADIENT, "explain")):
                peaks = {way: _peak(name, batch, way) for way in (gradient, ours)}
                for way, peak in peaks.items():
                    print(f"| {name} | {batch} | {way} | {peak:.0f} | {peak / peaks[gradient]:.2f} |", flush=True)


def _peak(name, batch, way):
    command = [sys.executable, __file__, "--peak", name, str(batch), way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak(name, batch, way):
    """Prints the peak resident MiB of this process after three calls, model included, less the bare libraries."""
    bare = psutil.Process().memory_info().rss
    model = build(name)
    pane = pane_keras.wrap(model)
    function = {**ways(model, pane), **compiled_ways(model, pane)}[way]
    for _ in range(3):
        function(np.random.uniform(-1, 1, (int(batch), 224, 224, 3)).astype("float32"))
    import resource

    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - bare) / 2**20)


def main():
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["VGG16", "ResNet50"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="memory instead of times")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        peak(*args.peak)
        return
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {os.cpu_count()} cores, GPUs: "
          f"{len(tf.config.list_physical_devices('GPU'))}\n")  # fmt: skip
    memory(args) if args.memory else timing(args)


if __name__ == "__main__":
    main()
