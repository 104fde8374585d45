"""Prints the tables of docs/evaluation.md: the paper's numbers, and beside them those of `pane-keras evaluate`.

    python tests/benchmarks/published.py "AlexNet=results/alexnet" "VGG-16=results/vgg16" ... > tables.md

Each folder is one that `pane-keras evaluate --out` wrote.
"""

import argparse
import csv
from pathlib import Path

from paper_numbers import LOGIT_PERCENT, REGIONS_PERCENT, SUMS_3, SUMS_4, TABLE_1, TABLE_2, TABLE_3, TABLE_4

CHANGE, SHARE, SUCCESS, SUM = "probability change", "share as intended", "success rate", "accumulated logit change"
SIZE, CORRELATION, ABSOLUTE = "size of the rank correlation", "rank correlation", "rank correlation of absolute values"


def numbers(folder):
    """Returns {(experiment, method, ranking, quantity): {region: (value, low, high, samples)}} of pixel counts."""
    found = {}
    with (Path(folder) / "numbers.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["counting"] != "elements":
                key = row["experiment"], row["method"], row["ranking"], row["quantity"]
                parts = tuple(float(row[word] or "nan") for word in ("value", "low", "high"))
                found.setdefault(key, {})[row["region"]] = (*parts, int(row["samples"]))
    return found


def table(head, rows):
    """Prints a table in Markdown."""
    print("| " + " | ".join(head) + " |\n| " + " | ".join(["---"] * len(head)) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def with_experiment(results, experiment):
    """The networks that an experiment was run on."""
    return {name: found for name, found in results.items() if any(key[0] == experiment for key in found)}


def at(line, percent):
    """The entry of a region in percent."""
    return next((entry for region, entry in line.items() if abs(float(region) - percent) < 1e-9), None)


def over_regions(title, paper, percents, results, experiment, quantity, methods, write):
    """Prints the paper's rows, and then each network's rows of the same."""
    print(f"### {title}\n")
    rows = [(f"paper: {net}, {data}", method, *map(write, values), "") for (data, net, method), values in paper.items()]
    for network, found in results.items():
        for method, ranking, label in methods:
            if line := found.get((experiment, method, ranking, quantity)):
                entries = [at(line, percent) for percent in percents]
                rows.append((network, label, *(write(entry[0]) for entry in entries), str(entries[0][3])))
    table(("network", "map", *(f"{percent:g} %" for percent in percents), "images"), rows)


def ends(title, results, experiment, quantity, write, region=-1):
    """Prints every method's number at the largest region, by value, with its interval; a column for each network."""
    print(f"### {title}\n")
    results = with_experiment(results, experiment)
    names = list(dict.fromkeys(key[1] for found in results.values() for key in found if key[0] == experiment))
    rows = []
    for name in names:
        cells = []
        for found in results.values():
            line = found.get((experiment, name, "value", quantity))
            value, low, high, count = list(line.values())[region] if line else (None,) * 4
            cells.append(f"{write(value)} ({write(low)} to {write(high)}; {count})" if line else "left out")
        rows.append((name, *cells))
    table(("method", *results), rows)


def whole(title, results, experiment, quantity, methods):
    """Prints numbers that do not depend on a region: a row for each network, a column for each method."""
    print(f"### {title}\n")
    rows = []
    for network, found in with_experiment(results, experiment).items():
        lines = [found.get((experiment, method, "", quantity)) for method in methods]
        rows.append((network, *(_interval(next(iter(line.values()))) if line else "left out" for line in lines)))
    table(("network", *methods), rows)


def randomised(results, methods):
    """Prints how alike maps are after new weights down to three layers, of absolute values."""
    print("### Randomisation: rank correlation of absolute values with the trained network's map\n")
    rows = []
    for network, found in results.items():
        for method in methods:
            if line := found.get(("randomisation", method, "", ABSOLUTE)):
                cells = [f"{layer}: {entry[0]:.3f}" for layer, entry in line.items()]
                rows.append((network, method, *cells))
    table(("network", "map", "top layer", "half of them", "all"), rows)


def _interval(entry):
    value, low, high, count = entry
    return f"{value:.3f} ({low:.3f} to {high:.3f}; {count})"


def _share(value):
    return f"{100 * value:.1f} %"


def _sum(value):
    return f"{value:.3f}"


def _change(value):
    return f"{value:.4f}"


def main():
    """Reads the command line and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", metavar="NETWORK=FOLDER")
    results = {name: numbers(folder) for name, folder in (text.split("=", 1) for text in parser.parse_args().results)}
    sums = [("pos+neg", "value", "POS+NEG"), ("pos+neg-float32", "value", "POS+NEG, float32")]
    shown = [("pos", "value", "POS"), ("pos", "contribution", "POS x signal"), *sums]
    removed = [("guided-backpropagation", "value", "Guided BP"), ("pos", "value", "POS"), *sums[:1],
               ("pos+neg", "contribution", "POS+NEG x signal"), ("random", "value", "random")]  # fmt: skip
    negative = [("pos+neg", "value", "POS+NEG"), ("pos+neg", "contribution", "POS+NEG x signal")]
    over_regions("Table I: removing salient pixels, mean change of the probability", TABLE_1, REGIONS_PERCENT, results,
                 "remove-salient", CHANGE, removed, _change)  # fmt: skip
    over_regions("Table II: removing the most negative pixels of the sum, mean change of the probability", TABLE_2,
                 REGIONS_PERCENT, results, "remove-negative", CHANGE, negative, _change)  # fmt: skip
    over_regions("Table III: 1/255 off the top, samples whose logit fell", TABLE_3, LOGIT_PERCENT, results,
                 "logit-salient", SHARE, shown, _share)  # fmt: skip
    over_regions("Table III: 1/255 off the top, change of the logit added up over the images", SUMS_3, LOGIT_PERCENT,
                 results, "logit-salient", SUM, shown, _sum)  # fmt: skip
    over_regions("Table IV: 1/255 off the bottom, samples whose logit rose", TABLE_4, LOGIT_PERCENT, results,
                 "logit-negative", SHARE, shown, _share)  # fmt: skip
    over_regions("Table IV: 1/255 off the bottom, change of the logit added up over the images", SUMS_4, LOGIT_PERCENT,
                 results, "logit-negative", SUM, shown, _sum)  # fmt: skip
    ends("Fig. 3: all methods at 1 %, mean change of the probability", results, "remove-salient", CHANGE, _change)
    ends("Fig. 4: all methods, 10 % minor pixels removed", results, "remove-minor", CHANGE, _change)
    ends("Fig. 6: guided attack in 3 % of the pixels, samples whose class changed", results, "guided-attack", SUCCESS,
         _share)  # fmt: skip
    maps = ("pos", "neg", "pos+neg", "pos-split", "gradient", "guided-backpropagation", "grad-cam", "full-grad")
    whole("Class sensitivity: size of the rank correlation of the maps of the two top classes", results,
          "class-sensitivity", SIZE, maps)  # fmt: skip
    whole("Agreement of POS with -NEG: rank correlation", results, "parts-agreement", CORRELATION, ("pos",))
    randomised(results, ("pos", "pos+neg", "gradient", "guided-backpropagation", "grad-cam"))


if __name__ == "__main__":
    main()
