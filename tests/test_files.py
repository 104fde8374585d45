"""Files that are there whole or not at all."""

import os
import stat

import pytest

from pane_keras.errors import SaveError
from pane_keras.files import written


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_broken_off_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "maps.npz"
    path.write_bytes(b"old")

    def half(file):
        file.write(b"half of the n")
        raise error

    with pytest.raises(error):
        written(path, half)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_moved_into_place(tmp_path):
    path = tmp_path / "maps.npz"
    assert written(path, lambda file: file.write(b"new")) == path
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_what_the_user_lets_them_read(tmp_path):
    before = os.umask(0o022)
    try:
        written(tmp_path / "map.png", lambda file: file.write(b"new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "map.png").stat().st_mode) == 0o644


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(SaveError, match=r"Cannot write '.*none/maps\.npz': No such file or directory"):
        written(tmp_path / "none" / "maps.npz", lambda file: file.write(b"new"))
