"""What the benchmarks share: medians of functions that are called in turns."""

import statistics
import time


def medians(functions, repeats, prepare=lambda: ()):
    """Returns the median seconds of each function, called in turns after one turn that does not count.

    Args:
        functions: Dict of functions by name; each waits for its result.
        repeats: Turns.
        prepare: Function that returns the arguments of a call, made fresh each time and not timed.
    """
    times = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            arguments = prepare()
            start = time.perf_counter()
            result = function(*arguments)
            if turn:
                times[name].append(time.perf_counter() - start)
            del result
    return {name: statistics.median(values) for name, values in times.items()}
