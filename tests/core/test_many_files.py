"""Many files written in threads: all are there at the end, and an error of one is an error of all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from marauder.core.files import write_text
from marauder.core.many_files import WAITING, ManyFiles


def test_all_files_are_there_at_the_end_of_the_block(tmp_path: Path) -> None:
    count = 3 * WAITING
    with ManyFiles() as files:
        for number in range(count):
            files.add(partial(write_text, tmp_path / f"{number}.txt", str(number)))
    assert sorted(int(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()) == list(range(count))


@pytest.mark.parametrize("after", [0, 2 * WAITING])
def test_the_error_of_a_writer_is_raised_however_much_comes_after_it(after: int, tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(IsADirectoryError), ManyFiles() as files:
        files.add(partial(write_text, tmp_path / "folder.txt", "no file fits here"))
        for number in range(after):
            files.add(partial(write_text, tmp_path / f"{number}.txt", ""))


def test_an_error_of_the_block_is_not_hidden_by_one_of_a_writer(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(KeyError, match="of the block"), ManyFiles() as files:
        files.add(partial(write_text, tmp_path / "folder.txt", ""))
        raise KeyError("of the block")
