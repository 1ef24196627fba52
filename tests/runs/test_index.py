"""The index over a folder of runs: as fresh as the records, and never needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from marauder.cli.runs import row
from marauder.core.files import write_json
from marauder.runs import index
from marauder.runs.index import INDEX_FILE, index_runs
from marauder.runs.record import open_record


def record(folder: Path, name: str, **about: object) -> Path:
    path = folder / name / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"id": name, "project": "reef", "task": "detection", "state": "finished", **about})
    return path


def test_runs_come_in_the_order_they_were_started(tmp_path: Path) -> None:
    # Neither by name nor in the order in which they were written.
    record(tmp_path, "a", started=20.0, metrics={"map50": 0.4}, seconds=5.0)
    record(tmp_path, "b", started=10.0, finished=13.0)
    early, late = index_runs(tmp_path)
    assert (early.folder.name, late.folder.name) == ("b", "a")
    assert (early.seconds, late.seconds, late.metrics) == (3.0, 5.0, {"map50": 0.4})


def test_only_changed_records_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        record(tmp_path, name)
    index_runs(tmp_path)
    read: list[str] = []
    plain = index.read_json
    monkeypatch.setattr(index, "read_json", lambda path: read.append(path.parent.name) or plain(path))
    record(tmp_path, "b", state="interrupted")
    assert [run.state for run in index_runs(tmp_path)] == ["finished", "interrupted"]
    assert [name for name in read if name in ("a", "b")] == ["b"]


@pytest.mark.parametrize("content", ["", "[1]", '{"format": 1, "runs": {"a": 3}}', '{"format": 99}'])
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: str) -> None:
    record(tmp_path, "a")
    (tmp_path / INDEX_FILE).write_text(content, encoding="utf-8")
    assert [run.state for run in index_runs(tmp_path)] == ["finished"]
    (tmp_path / "a" / "run.json").unlink()
    assert index_runs(tmp_path) == []


def test_a_damaged_record_hides_no_other_and_a_killed_run_is_called_so(tmp_path: Path) -> None:
    record(tmp_path, "whole")
    record(tmp_path, "gone", state="running")
    record(tmp_path, "damaged").write_text("{", encoding="utf-8")
    assert {run.folder.name: run.state for run in index_runs(tmp_path)} == {
        "whole": "finished",
        "gone": "killed",
        "damaged": "damaged",
    }


def test_a_killed_run_is_not_judged_yet_and_its_last_attempt_counts(tmp_path: Path) -> None:
    names = {"id": "a", "project": "reef", "task": "detection"}
    begun = open_record(tmp_path / "a", **names)
    (tmp_path / "a").mkdir()
    begun.write(tmp_path / "a", seconds=60.0)
    (tmp_path / "a" / "events.jsonl").write_text("", encoding="utf-8")
    os.utime(tmp_path / "a" / "events.jsonl", (begun.attempt_started + 40,) * 2)
    (run,) = index_runs(tmp_path)
    assert (run.state, run.verdict, run.seconds) == ("killed", "", pytest.approx(100, abs=0.2))
    cells = row(run, [])
    assert cells[3] == "-" and cells[-1] == "1 min 40 s"


@pytest.mark.parametrize(("state", "shown"), [("interrupted", "-"), ("finished", "off")])
def test_gates_are_called_off_only_where_they_were(tmp_path: Path, state: str, shown: str) -> None:
    record(tmp_path, "a", state=state, verdict="off")  # as earlier versions wrote it
    assert row(index_runs(tmp_path)[0], [])[3] == shown


def test_a_finished_run_killed_while_it_is_measured_again_is_finished(tmp_path: Path) -> None:
    finished = {"id": "a", "project": "reef", "state": "finished", "verdict": "pass", "started": 3.0, "version": "1"}
    record(tmp_path, "a", project="other", state="running", finished_before=finished)
    (run,) = index_runs(tmp_path)
    assert (run.state, run.about["project"], run.about["verdict"], run.started) == ("finished", "reef", "pass", 3.0)


def test_a_folder_that_may_only_be_read_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, "a")

    def refuse(*_: object) -> None:
        raise PermissionError(os.strerror(13))

    monkeypatch.setattr(index, "write_json", refuse)
    assert len(index_runs(tmp_path)) == 1 and not (tmp_path / INDEX_FILE).exists()


@pytest.mark.parametrize(
    "odd",
    [
        {"started": "abc"},
        {"started": [1], "finished": {}},
        {"started": 1e300},
        {"started": 5.0, "finished": "later"},
        {"seconds": "long"},
        {"metrics": {"map50": "high"}},
    ],
)
def test_a_record_with_odd_values_hides_no_other(tmp_path: Path, odd: dict[str, object]) -> None:
    record(tmp_path, "a", started=10.0, metrics={"map50": 0.4})
    record(tmp_path, "odd", **odd)
    runs = index_runs(tmp_path)
    assert {run.folder.name for run in runs} == {"a", "odd"}
    assert all(row(run, ["map50"])[0] == run.folder.name for run in runs)


@pytest.mark.parametrize("before", ["_stamp", "read_json"])
def test_a_run_that_is_deleted_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    for name in ("a", "b"):
        record(tmp_path, name)
    plain = getattr(index, before)

    def delete_first(path: Path) -> object:
        if path.parent.name == "a":
            path.unlink()
        return plain(path)

    monkeypatch.setattr(index, before, delete_first)
    assert [run.folder.name for run in index_runs(tmp_path)] == ["b"]
