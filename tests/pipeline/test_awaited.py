"""A step that waits for something from outside: it pauses, others go on, and the same command finishes the work."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
import workshop

from marauder.annotation import status
from marauder.core.clock import Clock, Interrupted
from marauder.core.files import write_json
from marauder.core.settings import Settings
from marauder.pipeline import run as running
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.run import run_steps, select
from marauder.pipeline.status import State
from marauder.pipeline.step import Artifact, Awaited, Step, StepContext
from marauder.pipeline.workspace import Workspace


class NoSettings(Settings):
    source: Path | None = None


class Letter(Step):
    """Waits for ``letter.txt`` in the root of the workspace."""

    number, name, title = 4, "letter", "wait for a letter"

    def settings_model(self) -> type[Settings]:
        return NoSettings

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        return {}

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        return (Artifact("collection", workspace.datasets / "collected"),)

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        return (Artifact("copy", workspace.datasets / "letter.json"),)

    def run(self, context: StepContext) -> Mapping[str, Any]:
        context.begun()
        place = context.workspace.root / "letter.txt"
        if not place.is_file():
            raise Awaited(f"put the letter to {place.name}", place.is_file)
        write_json(context.workspace.datasets / "letter.json", place.read_text())
        return {}


class Reply(Letter):
    """Follows from the letter, by a setting that the workspace proposes where the step is part of the pipeline."""

    number, name, title = 5, "reply", "answer the letter"

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> Mapping[str, Any]:
        return {"source": workspace.datasets / "letter.json"} if "letter" in configured else {}

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        return (Artifact("letter", settings.source),)

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        return (Artifact("reply", workspace.datasets / "reply.json"),)

    def run(self, context: StepContext) -> Mapping[str, Any]:
        context.begun()
        write_json(context.workspace.datasets / "reply.json", "thanks")
        return {}


def pipeline_at(root: Path) -> Pipeline:
    workshop.fill(root, 2)
    steps = (workshop.Collect(), workshop.Digest(), Letter(), Reply(), workshop.Seal())
    return Pipeline(Workspace.at(root), None, ["seal.word=reef"], steps)


def states(pipeline: Pipeline) -> dict[str, State]:
    return {name: status.state for name, status in pipeline.statuses().items()}


def test_a_waiting_step_holds_up_only_what_follows_from_it(tmp_path: Path) -> None:
    pipeline, said = pipeline_at(tmp_path), list[str]()
    assert run_steps(pipeline, select(pipeline), Clock(), said.append) == ["put the letter to letter.txt"]
    found = states(pipeline)
    assert found["letter"] == State.PAUSED
    assert pipeline.statuses()["letter"].reasons == ("put the letter to letter.txt",)
    assert found["reply"] == State.WAITING
    assert found["digest"] == found["seal"] == State.DONE
    assert any("follows once letter is done" in line for line in said)


def test_the_same_command_goes_on_once_it_has_arrived(tmp_path: Path) -> None:
    pipeline = pipeline_at(tmp_path)
    run_steps(pipeline, select(pipeline), Clock(), print)
    assert run_steps(pipeline, select(pipeline), Clock(), print)
    (tmp_path / "letter.txt").write_text("dear reef")
    said: list[str] = []
    assert run_steps(pipeline, select(pipeline), Clock(), said.append) == []
    assert set(states(pipeline).values()) == {State.DONE}
    assert sum("nothing to do" in line for line in said) == 3


def test_with_wait_it_stays_until_it_has_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "POLL_SECONDS", 0.01)
    pipeline = pipeline_at(tmp_path)
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        if "paused" in line:
            threading.Timer(0.1, lambda: (tmp_path / "letter.txt").write_text("dear reef")).start()

    assert run_steps(pipeline, select(pipeline), Clock(), hear, wait=True) == []
    assert set(states(pipeline).values()) == {State.DONE}
    assert any("continues, what it waited for has arrived" in line for line in said)


def test_waiting_ends_with_the_time_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "POLL_SECONDS", 0.01)
    pipeline = pipeline_at(tmp_path)
    with pytest.raises(Interrupted, match="time budget"):
        run_steps(pipeline, select(pipeline), Clock(max_seconds=1.5), print, wait=True)
    assert states(pipeline)["letter"] == State.PAUSED


def test_what_a_paused_annotation_advises_can_be_typed(tmp_path: Path) -> None:
    """The words of ``annotation.status`` for a delivery with problems."""
    source = Path(status.__file__).read_text(encoding="utf-8")
    advised = re.findall(r"in the pipeline: ([\w.]+=\w+)", source)
    assert advised == ["annotation.accept=true"]
    pipeline = Pipeline(Workspace.at(tmp_path), None, advised)
    assert pipeline.settings_of(pipeline.step("annotation")).accept is True
