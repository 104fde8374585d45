"""How long a query of the explorer takes on EfficientNet-Lite0: median of 9 clicks and the longest.

    python tests/benchmarks/explorer.py

Needs the extras `demo` and `explore`. Drawing, and what the browser adds, is not in it.
"""

import time

import numpy as np

import pane_keras
from pane_keras.demo.efficientnet_lite import efficientnet_lite0
from pane_keras.demo.labels import class_names
from pane_keras.demo.photographs import photograph
from pane_keras.explorer.samples import Sample
from pane_keras.explorer.state import State

CLICKS = 10


def timed(name, click):
    """Prints a row of the table; the first click, which remembers kernels for the others, is left out of it."""
    seconds = []
    for k in range(CLICKS):
        start = time.perf_counter()
        click(k)
        seconds.append(time.perf_counter() - start)
    print(f"| {name} | {np.median(seconds[1:]):.2f} | {max(seconds[1:]):.2f} | {seconds[0]:.2f} |")


def main():
    """Clicks through classes and units."""
    picture = photograph("chelsea")
    trace = pane_keras.wrap(efficientnet_lite0()).trace(picture[None])
    state = State([Sample("chelsea", picture, lambda: trace)], class_names())
    print("| query | median s | longest s | first s |\n| --- | --- | --- | --- |")
    state.choose_target("logits")
    state.choose_source("input")
    timed("class over the pixels", lambda k: state.choose_unit((280 + k,)))
    state.choose_source("head_relu")
    timed("class over `head_relu`", lambda k: state.choose_unit((280 + k,)))
    state.choose_target("block3b_add")
    state.choose_source("input")
    timed("unit of `block3b_add` over the pixels", lambda k: state.choose_unit((10 + k, 10, 5)))


if __name__ == "__main__":
    main()
