"""Work of the host, NumPy's, in as many threads as the framework's own kernels have."""

import os
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf


def threads():
    """Returns how many threads a kernel of the framework has."""
    return tf.config.threading.get_intra_op_parallelism_threads() or cores()


def cores():
    """Returns how many cores the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work, items):
    """Calls `work` with each of some items, which must not touch what another one writes; raises what it raises."""
    with ThreadPoolExecutor(max(min(threads(), len(items)), 1)) as pool:
        list(pool.map(work, items))
