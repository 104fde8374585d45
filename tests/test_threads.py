"""NumPy's work in several threads."""

import threading

import pytest
import tensorflow as tf

from pane_keras.backend.tensorflow import threads


def test_every_item_is_worked_on_once():
    seen = []
    threads.in_threads(seen.append, range(9))
    assert sorted(seen) == list(range(9))
    threads.in_threads(seen.append, [])
    assert len(seen) == 9


def test_two_items_at_a_time(monkeypatch):
    monkeypatch.setattr(threads, "threads", lambda: 2)
    both = threading.Barrier(2, timeout=30)
    threads.in_threads(lambda _: both.wait(), range(2))


def test_what_goes_wrong_is_raised():
    def work(item):
        if item == 2:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        threads.in_threads(work, range(4))


def test_as_many_as_the_framework_was_told(monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 3)
    assert threads.threads() == 3
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    assert threads.threads() == threads.cores() >= 1
