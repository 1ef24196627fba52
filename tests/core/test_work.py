"""Work that is done once: found done by its own key and whole files only, whatever was killed or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from marauder.core.errors import UserError
from marauder.core.work import Work, claim


def finished(folder: Path, made_from: object = 1) -> Work:
    work = Work(folder / "done.json", made_from)
    work.begin()
    (folder / "result.txt").write_text("whole", encoding="utf-8")
    work.finish([folder / "result.txt"], {"count": 3})
    return work


def test_finished_work_is_found_with_what_it_said(tmp_path: Path) -> None:
    assert Work(tmp_path / "done.json", 1).done() is None
    finished(tmp_path)
    assert Work(tmp_path / "done.json", 1).done() == {"count": 3}


def test_other_work_is_not_taken_for_it(tmp_path: Path) -> None:
    finished(tmp_path, {"seed": 1})
    assert Work(tmp_path / "done.json", {"seed": 2}).done() is None


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: str) -> None:
    work = finished(tmp_path)
    result = tmp_path / "result.txt"
    if damage == "changed":
        result.write_text("cut", encoding="utf-8")
    else:
        result.unlink()
    assert work.done() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"complete": true}'])
def test_a_damaged_marker_means_do_it_again(tmp_path: Path, content: str) -> None:
    work = finished(tmp_path)
    work.marker.write_text(content, encoding="utf-8")
    assert work.done() is None


def test_what_began_again_is_not_done(tmp_path: Path) -> None:
    work = finished(tmp_path)
    work.begin()
    assert work.done() is None


def test_moved_work_is_still_done(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    finished(tmp_path / "here")
    moved = (tmp_path / "here").rename(tmp_path / "there")
    assert Work(moved / "done.json", 1).done() == {"count": 3}


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "out" / "done.json"
    claim(tmp_path / "out", marker, "selection")
    (tmp_path / "out" / "work").mkdir(parents=True)
    claim(tmp_path / "out", marker, "selection", ("work",))
    (tmp_path / "out" / "thesis.doc").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"holds no selection \(thesis.doc"):
        claim(tmp_path / "out", marker, "selection", ("work",))
    Work(marker, 1).begin()
    claim(tmp_path / "out", marker, "selection", ("work",))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="is a file"):
        claim(tmp_path / "file", marker, "selection")
