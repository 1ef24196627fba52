"""The graph of steps at work on a folder: what runs, what does not, and why; settings, wiring, discovery, identity."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import workshop

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.file_identity import identify, is_same
from marauder.core.files import DamagedFileError, read_json
from marauder.pipeline import graph, steps
from marauder.pipeline.record import StepRecord, read_record, write_record
from marauder.pipeline.run import last_config, select
from marauder.pipeline.status import State
from marauder.pipeline.table import plan, status_table
from marauder.pipeline.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    workshop.fill(tmp_path / "space")
    return tmp_path / "space"


def states(root: Path, *overrides: str) -> dict[str, State]:
    return {name: status.state for name, status in workshop.pipeline_at(root, overrides).statuses().items()}


def reasons(root: Path, name: str, *overrides: str) -> tuple[str, ...]:
    return workshop.pipeline_at(root, overrides).statuses()[name].reasons


def ran(said: list[str]) -> list[str]:
    return [line.split()[2] for line in said if line.startswith("step ") and ": done in " in line]


def test_steps_run_once_and_then_only_what_changed(root: Path) -> None:
    assert states(root) == {"collect": State.READY, "digest": State.WAITING, "seal": State.OFF}
    assert ran(workshop.do(root)) == ["collect", "digest"]
    assert states(root) == {"collect": State.DONE, "digest": State.DONE, "seal": State.OFF}
    assert ran(workshop.do(root)) == []
    assert ran(workshop.do(root, "digest.rounds=2")) == ["digest"]
    assert len(read_json(root / "training" / "models" / "digest" / "chain.json")) == 10
    assert ran(workshop.do(root, "digest.rounds=2", "seal.word=reef")) == ["seal"]


def test_a_new_picture_makes_everything_after_it_stale(root: Path) -> None:
    workshop.do(root)
    (root / "images" / "new.png").write_bytes(b"new")
    assert reasons(root, "collect") == ("input changed: pictures",)
    assert states(root)["digest"] == State.WAITING
    assert ran(workshop.do(root)) == ["collect", "digest"]


def test_a_step_whose_producer_ran_again_with_the_same_result_stays_done(root: Path) -> None:
    workshop.do(root)
    for picture in (root / "images").iterdir():
        os.utime(picture, (1, 1))
    assert states(root)["collect"] == State.STALE
    assert ran(workshop.do(root)) == ["collect"]
    assert states(root)["digest"] == State.DONE


def test_settings_that_change_only_speed_make_nothing_stale(root: Path) -> None:
    workshop.do(root)
    assert states(root, "collect.workers=4", "digest.pause=0.1")["digest"] == State.DONE


def test_a_damaged_output_is_made_again(root: Path) -> None:
    workshop.do(root)
    (root / "training" / "models" / "digest" / "chain.json").write_text("[]")
    assert reasons(root, "digest") == ("output was changed: training/models/digest/chain.json",)
    assert ran(workshop.do(root)) == ["digest"]
    (root / "training" / "models" / "digest" / "chain.json").unlink()
    assert "output is gone" in reasons(root, "digest")[0]


def test_a_workspace_that_was_moved_or_copied_stays_done(root: Path, tmp_path: Path) -> None:
    workshop.do(root)
    shutil.copytree(root, tmp_path / "copy")
    for folder, _, names in os.walk(tmp_path / "copy" / "training"):
        for name in names:
            os.utime(Path(folder, name), (5, 5))
    shutil.copytree(root / "images", tmp_path / "copy" / "images", dirs_exist_ok=True)
    assert states(tmp_path / "copy")["collect"] == State.DONE
    assert states(tmp_path / "copy")["digest"] == State.DONE


def test_what_a_step_waits_for_is_told_with_the_place_where_the_workspace_lies_now(tmp_path: Path) -> None:
    first, moved = Workspace.at(tmp_path / "first"), Workspace.at(tmp_path / "moved")
    words = f"put what comes back into {first.annotation / 'inbox'}"
    write_record(
        first, "letter", StepRecord(state="paused", version=1, settings={}, inputs={}, message=words, started=1)
    )
    first.root.rename(moved.root)
    record = read_record(moved, "letter")
    assert record is not None and record.message == f"put what comes back into {moved.annotation / 'inbox'}"


def test_raw_pictures_may_be_cleared_away_after_the_step(root: Path) -> None:
    workshop.do(root)
    shutil.rmtree(root / "images")
    assert states(root)["collect"] == State.DONE
    assert ran(workshop.do(root)) == []


def test_without_pictures_the_step_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"collect.*waits for pictures: put pictures into"):
        workshop.do(tmp_path)


def test_a_failure_is_recorded_and_tried_again(root: Path) -> None:
    with pytest.raises(ValueError, match="the chain broke"):
        workshop.do(root, "digest.fail=true")
    assert states(root)["digest"] == State.FAILED
    assert reasons(root, "digest") == ("ValueError: the chain broke",)
    assert ran(workshop.do(root)) == ["digest"]


def test_budgets_in_a_row_finish_the_work(root: Path) -> None:
    class Ticks(Clock):
        def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
            nonlocal left
            left -= 1
            return None if left >= 0 else "ticks spent"

    for _ in range(20):
        left = 4
        try:
            workshop.do(root, clock=Ticks())
            break
        except Interrupted:
            assert State.INTERRUPTED in states(root).values() or State.READY in states(root).values()
    assert states(root)["digest"] == State.DONE
    record = read_record(Workspace.at(root), "digest")
    assert record is not None and record.attempts > 3


def test_fresh_starts_finished_steps_over(root: Path) -> None:
    workshop.do(root)
    assert ran(workshop.do(root, fresh=True)) == ["collect", "digest"]


def test_changed_settings_do_not_continue_the_old_work(root: Path) -> None:
    class Stop(Clock):
        def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
            return "enough" if len(list((root / "training").rglob("*.png"))) >= 2 else None

    with pytest.raises(Interrupted):
        workshop.do(root, clock=Stop())
    workshop.do(root, "collect.tint=1")
    collected = root / "training" / "datasets" / "collected"
    for picture in (root / "images").iterdir():
        expected = bytes((value + 1) % 256 for value in picture.read_bytes())
        assert (collected / picture.name).read_bytes() == expected


def test_status_without_settings_looks_at_those_of_the_last_run(root: Path) -> None:
    workshop.do(root, "digest.rounds=2", "seal.word=reef")
    config = last_config(Workspace.at(root))
    table = status_table(workshop.pipeline_at(root, config=config))
    assert [line.split()[2] for line in table.splitlines() if line[:1].isdigit()] == ["done", "done", "done"]
    assert f"report: {root}/training/models/digest/chain.json" in table
    assert "rounds: 2 → 3" in status_table(workshop.pipeline_at(root))


def test_a_run_without_a_config_goes_on_with_the_last_settings(root: Path) -> None:
    workshop.do(root, "digest.rounds=2")
    config = last_config(Workspace.at(root))
    again = workshop.pipeline_at(root, config=config)
    assert {status.state for status in again.statuses().values()} == {State.DONE, State.OFF}
    # An optional step that was off can be switched on, on top of those settings.
    assert workshop.pipeline_at(root, ["seal.word=reef"], config).statuses()["seal"].state == State.READY


def test_a_dry_run_says_what_would_be_done_and_does_nothing(root: Path) -> None:
    pipeline = workshop.pipeline_at(root)
    lines = plan(pipeline, pipeline.steps, fresh=False).splitlines()
    assert lines[0].endswith("collect  would start")
    assert lines[1].endswith("would run after collect, if that makes something new")
    assert lines[2].endswith("not part of this run: the settings have no section for it")
    assert not (root / "training").exists()


def test_one_step_alone_is_refused_when_its_producer_is_not_done(root: Path) -> None:
    pipeline = workshop.pipeline_at(root)
    with pytest.raises(UserError, match=r"digest.* waits for collect \(not started\)"):
        workshop.run_steps(pipeline, select(pipeline, only="digest"), Clock(), print)


def test_steps_are_chosen_by_name_or_number(root: Path) -> None:
    pipeline = workshop.pipeline_at(root)
    assert [step.name for step in select(pipeline, first="2")] == ["digest", "seal"]
    assert [step.name for step in select(pipeline, last="digest")] == ["collect", "digest"]
    with pytest.raises(UserError, match="no step named 'digset'; there are: 0 collect, 2 digest, 9 seal"):
        select(pipeline, only="digset")
    with pytest.raises(UserError, match="comes after"):
        select(pipeline, first="9", last="0")


def test_figures_are_told_by_the_titles_that_tasks_give_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = workshop.Digest.run
    figures = {"map50_95": 0.25, "precision": float("nan"), "measured_on": "the split val"}
    monkeypatch.setattr(workshop.Digest, "run", lambda self, context: {**run(self, context), **figures})
    told = [line.strip() for line in workshop.do(root)]
    assert {"mAP50-95: 0.25", "precision: not measured", "measured on: the split val"} <= set(told)


def test_mistakes_in_the_settings_are_listed_with_their_lines(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("collect:\n  tint: red\ndigest:\n  round: 3\nbaselin:\n  epochs: 5\n")
    with pytest.raises(UserError) as error:
        workshop.pipeline_at(root, ["digest.rounds=many"], config)
    message = str(error.value)
    assert "config.yaml:2: collect.tint" in message
    assert "config.yaml:4: digest.round: no such setting; did you mean rounds? There are: fail" in message
    assert "config.yaml:5: baselin: no such setting; there are: collect, digest, seal" in message
    assert "override 'digest.rounds=many': digest.rounds" in message


def test_what_the_workspace_decides_cannot_be_set(root: Path) -> None:
    with pytest.raises(UserError, match=r"collect\.output: the workspace decides this"):
        workshop.pipeline_at(root, ["collect.output=/elsewhere"])


def test_an_optional_step_can_be_switched_off(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("seal:\n  word: reef\n")
    assert workshop.pipeline_at(root, (), config).is_configured(workshop.STEPS[2])
    assert not workshop.pipeline_at(root, ("seal=null",), config).is_configured(workshop.STEPS[2])


def test_a_damaged_record_is_named_with_the_remedy(root: Path) -> None:
    workshop.do(root)
    record = root / "training" / "runs" / "digest" / "step.json"
    record.write_text('{"state": "perhaps"}')
    with pytest.raises(DamagedFileError, match=r"step\.json: state: .*delete the file"):
        states(root)


def test_a_file_in_the_steps_folder_joins_the_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [step.name for step in graph.discover()]
    source = Path(workshop.__file__).read_text(encoding="utf-8").partition("class DigestSettings")[0]
    (tmp_path / "joined.py").write_text(
        f"{source.replace('number, name, title = 0', 'number, name, title = 77')}\nSTEP = Collect()\n"
    )
    monkeypatch.setattr(steps, "__path__", [*steps.__path__, str(tmp_path)])
    assert sorted([step.name for step in graph.discover()]) == sorted([*before, "collect"])
    (tmp_path / "joined.py").rename(tmp_path / "idle.py")
    (tmp_path / "idle.py").write_text('"""No step."""\n')
    with pytest.raises(TypeError, match=r"idle\.py must define STEP"):
        graph.discover()


def test_two_steps_of_one_number_are_refused(root: Path) -> None:
    with pytest.raises(TypeError, match="same number"):
        graph.Pipeline(Workspace.at(root), steps=(workshop.Collect(), workshop.Collect()))


def test_identity_follows_links_and_survives_circles(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "a.png").write_bytes(b"a")
    (real / "again").symlink_to(real)
    (real / "labels.cache").write_bytes(b"left by a tool")
    (tmp_path / "link").symlink_to(real)
    assert identify(tmp_path / "link", True) == identify(real, True)
    assert identify(real, False).files == 1


def test_identity_tells_a_touched_file_from_a_changed_one(tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"weights")
    recorded = identify(file, with_content=True)
    os.utime(file, (9, 9))
    assert is_same(file, recorded)
    file.write_bytes(b"Weights")
    assert not is_same(file, recorded)


def test_a_listing_of_ten_thousand_files_is_quick(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.txt").touch()
    started = time.monotonic()
    assert identify(tmp_path, with_content=False).files == 10_000
    assert time.monotonic() - started < 2.0


def test_status_and_plan_fit_a_terminal_of_80_columns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    pipeline = graph.Pipeline(Workspace.at(root))
    lines = [*status_table(pipeline).splitlines()[1:], *plan(pipeline, pipeline.steps, fresh=False).splitlines()]
    assert any("never ran" in line for line in lines) and any("would run after" in line for line in lines)
    # A path may be longer than the screen, and stays whole.
    assert [line for line in lines if len(line) > 80 and "/" not in line] == []
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, status_table(pipeline).splitlines()[1:])) > 80, "there is something to wrap"
