"""Dense pairs of VGG-16 and ResNet-50 by every plan, beside the plan that is chosen. Run by hand:

    python tests/benchmarks/planner.py [--repeats 3] [--models VGG16 ResNet50]

Networks have random weights and 64 x 64 pixels, so that dense pairs of wide layers fit into memory. Prints Markdown.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from timing import medians

import pane_keras
from pane_keras.planner import MIDDLE, SOURCE, TARGET

PAIRS = {
    "VGG16": [
        ("fc1", "fc2"),
        ("fc1", "logits"),
        ("block5_pool", "logits"),
        ("block5_conv3", "fc1"),
        ("block5_pool", "fc1"),
        ("block4_pool", "fc2"),
        ("block3_conv3", "logits"),
    ],
    "ResNet50": [
        ("avg_pool", "logits"),
        ("conv5_block3_out", "logits"),
        ("conv5_block3_1_relu", "conv5_block3_out"),
        ("conv5_block2_out", "conv5_block3_3_bn"),
        ("conv5_block3_out", "avg_pool"),
        ("conv5_block1_out", "logits"),
        ("conv5_block2_2_relu", "conv5_block3_1_relu"),
        ("conv5_block3_1_relu", "conv5_block3_2_relu"),
        ("conv4_block6_out", "avg_pool"),
        ("conv4_block6_2_relu", "conv5_block1_1_relu"),
    ],
}


def plans_of(pair):
    """The three kinds of plan: from the target, from the source, and the best one from the middle, if there is one."""
    plans = pair.dense_pair().plans
    kinds = (next((plan for plan in plans if plan.start == start), None) for start in (TARGET, SOURCE, MIDDLE))
    return [plan for plan in kinds if plan is not None]


def timed(pair, repeats):
    """Median seconds of each plan, by its start."""
    run = {plan.start: lambda plan=plan: np.asarray(pair.dense_pair(plan).block().sum.mantissa[:1])
           for plan in plans_of(pair)}  # fmt: skip
    return medians(run, repeats)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    args = parser.parse_args()
    print("| model | pair | target ms | source ms | middle ms | chosen | times the best |\n" + "| --- " * 7 + "|")
    worst = 0
    for name in args.models:
        pairs = PAIRS[name]
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=1000)
        trace = pane_keras.wrap(model).trace(np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)))
        for source, target in pairs:
            pair = trace.between(source, target)
            chosen, times = pair.dense_pair().plan.start, timed(pair, args.repeats)
            ratio = times[chosen] / min(times.values())
            worst = max(worst, ratio)
            cells = [f"{1e3 * times[s]:.0f}" if s in times else "-" for s in (TARGET, SOURCE, MIDDLE)]
            print(f"| {name} | {target} over {source} | {' | '.join(cells)} | {chosen} | {ratio:.2f} |", flush=True)
    print(f"\nThe plan that is chosen takes at most {worst:.2f} times as long as the best one.")


if __name__ == "__main__":
    main()
