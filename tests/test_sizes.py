"""Sizes in words."""

import pytest

from pane_keras.sizes import size


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (12, "12 B"),
        (1023, "1023 B"),
        (2048, "2 KiB"),
        (2**20 - 1, "1024 KiB"),
        (3.5 * 2**20, "3.5 MiB"),
        (2**33, "8 GiB"),
        (2**60, "1.05e+06 TiB"),
    ],
)
def test_sizes_in_words(count, words):
    assert size(count) == words
