"""Adds noise to pictures that were drawn or cut out, as every camera has it: uniform, of so many grey levels.

    python tests/benchmarks/noise.py vgg16.npz vgg16_noise.npz --step 0.0111085 --levels 8

Such pictures have a background of one grey level. Every maximum over it is a tie, and there no linear map says what
lowering a pixel does: the one-sided slopes differ. Less than one level of noise breaks the ties, and still a pixel that
is lowered by one level is no longer the largest. Eight levels have a standard deviation of 2.3.
"""

import argparse
from pathlib import Path

import numpy as np

from pane_keras.files import written


def main():
    """Reads the command line and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path, help="a .npz file of images and labels, as pane-keras evaluate takes it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--step", type=float, required=True, help="one grey level, in the units of the images")
    parser.add_argument("--levels", type=float, default=8, help="width of the noise in grey levels (default: 8)")
    args = parser.parse_args()
    with np.load(args.pictures) as file:
        images, labels = file["images"], file["labels"]
    noise = np.random.default_rng(0).uniform(0, args.levels * args.step, images.shape).astype(images.dtype)
    written(args.out, lambda out: np.savez_compressed(out, images=images + noise, labels=labels))


if __name__ == "__main__":
    main()
