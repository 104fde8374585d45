"""Trains AlexNet or VGG-16 on Fashion-MNIST and writes the network, and a JSON file of what it was trained on.

    python -m pane_keras.evaluation.train_fashion alexnet --out alexnet.keras
    python -m pane_keras.evaluation.train_fashion vgg16 --residual --data DIR --out vgg16.keras --evaluation test.npz

The pictures are enlarged to --size, so that 0.1 % of them is more than a pixel, and standardised by the mean and the
deviation of the training pixels. So the background is not exactly 0: a zero input is a zero excitation, and two thirds
of each picture would have no coefficients at all.

The data come from Keras, which downloads them, or from a folder with the four idx files, packed or not. The Debian
package dataset-fashion-mnist carries them: its files are in /usr/share/datasets/fashion-mnist.
"""

import argparse
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

from pane_keras.errors import LoadError, PaneError, SaveError
from pane_keras.evaluation.arrays import keras_dataset
from pane_keras.evaluation.builders import BUILDERS
from pane_keras.files import written

CLASSES = 10
_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def main(argv=None):
    """Trains as the arguments say; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        run(arguments)
    except PaneError as error:
        print(f"train_fashion: {error}", file=sys.stderr)
        return 2
    return 0


def parser():
    """Returns the parser of the arguments."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("builder", choices=sorted(BUILDERS))
    made.add_argument("--out", type=Path, required=True, metavar="FILE.keras")
    made.add_argument("--data", type=Path, metavar="DIR", help="folder with the idx files (default: Keras downloads)")
    made.add_argument(
        "--evaluation", type=Path, metavar="FILE.npz", help="write test pictures that are classified right"
    )
    made.add_argument("--samples", type=int, default=1000, help="how many of them (default: %(default)s)")
    made.add_argument("--size", type=int, default=64, help="pixels a side (default: %(default)s)")
    made.add_argument("--width", type=float, default=0.25, help="factor on filters and units (default: %(default)s)")
    made.add_argument("--batch-normalization", action="store_true")
    made.add_argument("--residual", action="store_true", help="batch normalization and shortcuts")
    made.add_argument("--dropout", type=float, default=0.2, help="in front of Dense layers (default: %(default)s)")
    made.add_argument("--epochs", type=int, default=6, help="(default: %(default)s)")
    made.add_argument("--batch-size", type=int, default=128, help="(default: %(default)s)")
    made.add_argument("--learning-rate", type=float, default=1e-3, help="at its highest (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    made.add_argument("--limit", type=int, metavar="N", help="train on the first N pictures only")
    return made


def run(arguments):
    """Trains, and writes the files."""
    if arguments.out.suffix != ".keras":
        raise SaveError(f"Expected --out with the ending .keras. Received: {arguments.out.name!r}.")
    keras.utils.set_random_seed(arguments.seed)
    (pictures, labels), (test_pictures, test_labels) = fashion_mnist(arguments.data)
    mean, deviation = float(np.mean(pictures) / 255), float(np.std(pictures) / 255)
    pictures, labels = pictures[: arguments.limit], labels[: arguments.limit]
    network = BUILDERS[arguments.builder](
        (arguments.size, arguments.size, 1),
        CLASSES,
        arguments.width,
        arguments.batch_normalization,
        arguments.residual,
        dropout=arguments.dropout,
    )
    prepare = preparation(arguments.size, mean, deviation)
    seconds = fit(keras.Sequential([prepare, network]), pictures, labels, arguments)
    right = correct(network, prepare, test_pictures, test_labels, arguments.batch_size)
    print(f"held-out accuracy: {right.mean():.4f}")
    _save(arguments.out, lambda file: file.write(_packed(network)))
    facts = {
        "accuracy": float(right.mean()),
        "test_pictures": len(right),
        "train_pictures": len(labels),
        "mean": mean,
        "deviation": deviation,
        "black": -mean / deviation,
        "step": 1 / (255 * deviation),
        "seconds": seconds,
        "parameters": network.count_params(),
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()},
    }
    _save(arguments.out.with_suffix(".json"), lambda file: file.write(f"{json.dumps(facts, indent=1)}\n".encode()))
    if arguments.evaluation:
        chosen = np.flatnonzero(right)[: arguments.samples]
        images = prepare.predict(test_pictures[chosen], batch_size=arguments.batch_size, verbose=0)
        _save(arguments.evaluation, lambda f: np.savez_compressed(f, images=images, labels=test_labels[chosen]))


def preparation(size, mean, deviation):
    """Returns the model from pictures (28, 28) of 0 to 255 to what the networks take, (size, size, 1) float32."""
    return keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Resizing(size, size),
            layers.Rescaling(1 / (255 * deviation), offset=-mean / deviation),
        ],
        name="preparation",
    )


def fit(model, pictures, labels, arguments):
    """Trains a model of pictures of 0 to 255 and returns the seconds that each epoch took."""
    steps = -(-len(pictures) // arguments.batch_size) * arguments.epochs
    warmup = min(200, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        arguments.learning_rate / 100 if warmup else arguments.learning_rate,
        max(1, steps - warmup),
        warmup_target=arguments.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = _Clock()
    model.fit(
        pictures,
        labels,
        arguments.batch_size,
        arguments.epochs,
        callbacks=[clock, keras.callbacks.TerminateOnNaN()],
        verbose=2,
    )
    return clock.seconds


class _Clock(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(round(time.monotonic() - self.start, 1))


def correct(network, prepare, pictures, labels, batch_size):
    """Returns a boolean for each picture: whether the network's top class is its label."""
    whole = keras.Sequential([prepare, network])
    return np.argmax(whole.predict(pictures, batch_size=batch_size, verbose=0), axis=-1) == labels


def fashion_mnist(folder=None):
    """Returns ((pictures, labels), (test pictures, test labels)): uint8 (n, 28, 28) and (n,).

    Args:
        folder: With the four idx files, packed by gzip or not; None for Keras's download.

    Raises:
        LoadError: The download fails, or a file is missing or damaged.
    """
    if folder is None:
        return keras_dataset(
            "fashion_mnist",
            "Pass --data with a folder that has its four idx files, such as that of the Debian package "
            "dataset-fashion-mnist.",
        )
    parts = [read_idx(Path(folder), name) for name in _FILES]
    return tuple(parts[:2]), tuple(parts[2:])


def read_idx(folder, name):
    """Returns the uint8 array of an idx file: two zeros, the type, the rank, the sizes (big-endian), the numbers.

    Raises:
        LoadError: The file is missing or damaged.
    """
    packed, plain = folder / f"{name}.gz", folder / name
    path = packed if packed.is_file() else plain
    try:
        data = gzip.decompress(path.read_bytes()) if path is packed else path.read_bytes()
    except (OSError, EOFError) as error:
        raise LoadError(f"Cannot read {name} in {str(folder)!r}, with or without .gz: {error}.") from None
    rank = data[3] if len(data) > 3 else 0
    start = 4 * (rank + 1)
    shape = np.frombuffer(data[4:start], ">u4").astype(int) if len(data) >= start else np.zeros(1, int)
    if data[:3] != b"\0\0\x08" or len(data) - start != shape.prod():
        raise LoadError(f"{str(path)!r} is no idx file of bytes, or is cut short. Get it again.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _save(path, write):
    print(f"written: {written(path, write)}")


def _packed(network):
    """The bytes of a .keras file, which Keras writes to paths only."""
    with tempfile.TemporaryDirectory() as folder:
        network.save(path := Path(folder, "network.keras"))
        return path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
