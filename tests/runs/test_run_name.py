"""What a run is called, whatever its folder or recipe is called; and results that are set aside whole."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.files import write_json
from marauder.runs.record import open_record, set_aside_results
from marauder.runs.run_name import run_name, with_run_id
from marauder.runs.settings import NAME_PATTERN
from marauder.tasks.detection.settings import DetectionSettings

PIN = cast(Any, SimpleNamespace(fingerprint="f"))


@given(st.text(min_size=1, max_size=200))
def test_every_name_gives_an_id_and_one_that_is_an_id_stays(text: str) -> None:
    assert re.fullmatch(NAME_PATTERN, run_name(text))
    assert run_name(run_name(text)) == run_name(text)


def test_two_names_stay_two() -> None:
    assert len({run_name(name) for name in ("run 1", "run-1", "run_1", "Läufe", "Laufe", "рейс", "ряд")}) == 7


@pytest.mark.parametrize("folder", ["new out/run 1", "Läufe", "_exp", "a" * 90, "reef?#%20"])
def test_an_output_of_any_name_is_a_run(tmp_path: Path, folder: str) -> None:
    found = with_run_id(DetectionSettings(data=tmp_path, output=tmp_path / folder), PIN)
    assert found.folder == tmp_path / folder and found.id == run_name(Path(folder).name)


def test_a_recipe_file_of_any_name_is_a_run(tmp_path: Path) -> None:
    found = with_run_id(DetectionSettings(data=tmp_path, recipe="my recipes/two fish.yaml"), PIN)
    assert found.id is not None and found.id.startswith("two-fish-")
    assert found.folder == Path("runs") / found.id


def test_the_time_of_an_attempt_that_was_killed_counts_until_its_last_sign_of_life(tmp_path: Path) -> None:
    names = {"id": "a", "project": "p", "task": "detection"}
    record = open_record(tmp_path, **names).write(tmp_path, seconds=100.0)
    (tmp_path / "events.jsonl").write_text("", encoding="utf-8")
    os.utime(tmp_path / "events.jsonl", (record.attempt_started + 50,) * 2)
    again = open_record(tmp_path, **names)
    assert (again.seconds, again.attempts) == (pytest.approx(150, abs=0.2), 2)
    again.write(tmp_path, state="interrupted", seconds=160.0)
    assert open_record(tmp_path, **names).seconds == 160.0, "what was written down is not counted twice"


def test_setting_aside_that_was_killed_loses_nothing(tmp_path: Path) -> None:
    open_record(tmp_path, id="a", project="p", task="detection").write(tmp_path, state="finished")
    for name in ("best.pt", "report.html"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "previous").mkdir()
    (tmp_path / "best.pt").replace(tmp_path / "previous" / "best.pt")  # and here it was killed
    set_aside_results(tmp_path)
    assert sorted(path.name for path in (tmp_path / "previous").iterdir()) == ["best.pt", "report.html", "run.json"]
    write_json(tmp_path / "run.json", {"id": "b", "project": "p", "task": "detection", "state": "finished"})
    set_aside_results(tmp_path)
    assert [path.name for path in (tmp_path / "previous").iterdir()] == ["run.json"], "the one before goes"


def test_a_finished_run_is_not_replaced_by_what_an_unfinished_one_left(tmp_path: Path) -> None:
    open_record(tmp_path, id="a", project="p", task="detection").write(tmp_path, state="finished")
    (tmp_path / "best.pt").write_text("good", encoding="utf-8")
    assert set_aside_results(tmp_path) == tmp_path / "previous"
    open_record(tmp_path, id="a", project="p", task="detection").write(tmp_path, state="failed")
    (tmp_path / "best.pt").write_text("begun", encoding="utf-8")
    assert set_aside_results(tmp_path) == tmp_path / "unfinished"
    assert (tmp_path / "previous" / "best.pt").read_text(encoding="utf-8") == "good"
