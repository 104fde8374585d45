"""Maps of many units of VGG-16 in one call beside one call for each, taken in turns. Run by hand:

    python tests/benchmarks/many_units.py [--turns 4] [--photograph]

The first turn compiles the product of live units and has the memory of the maps, 4.6 GiB, to get.
Prints Markdown: medians of the seconds, and how many times less one call takes
than as many calls of one unit.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import time

import numpy as np
from saliency import build

import pane_keras

NEIGHBOURS = [(h, w, c) for h in (3, 10) for w in (3, 10) for c in range(128)]
APART = [tuple(map(int, unit)) for unit in np.random.default_rng(1).integers(0, (14, 14, 512), (64, 3))]
SINGLE = 11


def seconds(pair, units):
    """Returns what one call takes, with its result as an array."""
    start = time.perf_counter()
    np.asarray(pair.map(units).sum)
    return time.perf_counter() - start


def turn(pair, units, number):
    """Returns (seconds of one call for all units, median seconds of calls for some of them, before and after)."""
    some = units[number % 5 :: len(units) // SINGLE][:SINGLE]
    before = [seconds(pair, unit) for unit in some]
    whole = seconds(pair, units)
    return whole, np.median(before + [seconds(pair, unit) for unit in some])


def picture(real):
    """Returns a picture (1, 224, 224, 3): a photograph, or noise."""
    if not real:
        return np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")
    from pane_keras.demo.photographs import photograph

    return photograph("chelsea")[None].astype("float32") - np.array([123, 117, 104], "float32")


def main():
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--photograph", action="store_true", help="instead of noise; weights are random either way")
    args = parser.parse_args()
    pair = pane_keras.wrap(build("VGG16")).trace(picture(args.photograph)).between("block3_conv1", "block5_conv3")
    seconds(pair, NEIGHBOURS[0])
    print("| units | one call | a single call | times less in each turn | median |\n| --- | --- | --- | --- | --- |")
    for name, units in (("512 at 4 places", NEIGHBOURS), ("64 at random places", APART)):
        turns = np.array([turn(pair, units, number) for number in range(args.turns)])
        times = len(units) * turns[:, 1] / turns[:, 0]
        (whole, single), each = np.median(turns, axis=0), ", ".join(f"{t:.2f}" for t in times)
        print(f"| {name} | {whole:.1f} | {single:.3f} | {each} | {np.median(times):.2f} |", flush=True)


if __name__ == "__main__":
    main()
