"""Writes EfficientNet-Lite0 as a .keras file and foolbox's 20 photographs as arrays, for `pane-keras evaluate`.

    python tests/benchmarks/lite0.py FOLDER
    pane-keras evaluate FOLDER/efficientnet_lite0.keras --data FOLDER/photographs.npz --all-images --out FOLDER/results

Needs the extra `test`: the photographs lie in the package foolbox, with their ImageNet classes in the file names.
"""

import argparse
from importlib import metadata
from pathlib import Path

import numpy as np

from pane_keras.demo.efficientnet_lite import efficientnet_lite0
from pane_keras.files import written
from pane_keras.pictures import cropped, read_picture


def photographs():
    """Returns foolbox's photographs, uint8 (20, 224, 224, 3), and their classes, (20,)."""
    files = [file for file in metadata.files("foolbox") if file.name.startswith("imagenet_") and file.suffix == ".jpg"]
    pictures = [cropped(read_picture(file.locate()).pixels, 224) for file in files]
    return np.stack(pictures), np.array([int(file.stem.split("_")[2]) for file in files])


def main():
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    efficientnet_lite0().save(folder / "efficientnet_lite0.keras")
    images, labels = photographs()
    written(folder / "photographs.npz", lambda file: np.savez_compressed(file, images=images, labels=labels))


if __name__ == "__main__":
    main()
