"""Step 6 in the pipeline: what it reads and leaves, which ensembles are made, and that one does not cost the other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.ensembles import member_training
from marauder.gates.verdict import Verdict
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.step import StepContext
from marauder.pipeline.workspace import Workspace
from marauder.runs.gatekeeper import GateStop
from marauder.students import training as student_training

CONFIG = """
preprocessing:
  organize: {taxonomy: source}
baseline:
  model: yolov8t
ensembles:
  nano: {members: ["yolov8t:high_recall", "yolo11t:balanced"], training: {epochs: 3}}
  shore: {enabled: false}
"""


def pipeline(tmp_path: Path, *overrides: str, config: str = CONFIG) -> Pipeline:
    file = tmp_path / "pipeline.yaml"
    file.write_text(config, encoding="utf-8")
    return Pipeline(Workspace.at(tmp_path / "work"), file, overrides)


def test_it_follows_what_makes_its_data_and_its_start(tmp_path: Path) -> None:
    made = pipeline(tmp_path)
    step = made.step("6")
    assert [one.name for one in made.producers(step)] == ["preprocessing", "baseline"]
    names = [artifact.name for artifact in made.outputs(step)]
    members = [f"nano: member {name}" for name in ("yolov8t_high_recall", "yolo11t_balanced")]
    assert (
        names
        == [f"nano: {name}" for name in ("members", "deployment profile", "ensemble", "ensemble report")] + members
    )
    settings = made.settings_of(step).nano
    assert settings.folder == made.workspace.model("ensembles") / "nano"
    assert settings.base_model == made.workspace.model("baseline") / "best.pt"
    critical = pipeline(tmp_path, "critical.critical=[x]", "annotation.formats=[mindy]", "active_learning.count=5")
    settings = critical.settings_of(critical.step("ensembles")).nano
    assert settings.base_model == critical.workspace.model("critical") / "best.pt"
    assert settings.data == critical.workspace.datasets / "annotated" / "data.yaml"


def test_a_student_follows_the_ensemble_that_teaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pipeline(tmp_path, "ensembles.student.enabled=true", "ensembles.student.model=yolov8t")
    step = made.step("ensembles")
    settings, models = made.settings_of(step), made.workspace.model("ensembles")
    assert settings.taught.teacher == models / "nano" / "ensemble" and settings.taught.folder == models / "student"
    assert settings.taught.data == made.workspace.data_yaml
    assert [one.name for one in made.outputs(step)][-3:] == [
        f"student: {name}" for name in ("model", "weights", "report")
    ]
    assert not list(made.look_through([step], Clock(), lambda _: None))
    both = pipeline(tmp_path, "ensembles.student.enabled=true", "ensembles.shore.enabled=true")
    assert both.settings_of(both.step("ensembles")).taught.teacher == models / "shore" / "ensemble"
    with pytest.raises(UserError, match="no ensemble is made that could teach it"):
        pipeline(tmp_path, "ensembles.student.enabled=true", "ensembles.nano.assembly.enabled=false")
    named = pipeline(
        tmp_path, "ensembles.student.enabled=true", "ensembles.nano.enabled=false", "ensembles.student.teacher=t.pt"
    )
    assert "student: teacher" in [one.name for one in named.inputs(named.step("ensembles"))]
    told: list[Any] = []

    def run(settings: Any, clock: Clock, **options: bool) -> Any:
        told.append((settings.teacher.name, options))
        summary = SimpleNamespace(
            metrics={"map50": 0.5}, split="test", verdict="pass", epochs=3, longer_than_asked="",
            report=made.workspace.root / "report.html", failed=("floor: too low",),
        )  # fmt: skip
        return SimpleNamespace(exit_status=len(told) - 1, run=summary)

    monkeypatch.setattr(member_training, "train_ensemble", lambda *_, **__: told.append("ensemble"))
    monkeypatch.setattr(student_training, "run_student", run)
    alone = named.settings_of(named.step("ensembles"))
    context = StepContext(made.workspace, alone, Clock(), False, False, lambda: None)
    assert step.run(context)["student"]["map50"] == 0.5 and told == [("t.pt", {"renew": True})]
    with pytest.raises(GateStop, match="student: gates failed: floor: too low"):
        step.run(context)


def test_a_section_that_says_nothing_makes_both(tmp_path: Path) -> None:
    made = pipeline(tmp_path, config="preprocessing: {}\nbaseline: {}\nensembles: {}\n")
    assert len(made.outputs(made.step("ensembles"))) == (4 + 3) + (4 + 6)


def test_mistakes_are_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no detector named 'yolov8q'"):
        pipeline(tmp_path, "ensembles.nano.members=[yolov8q,yolov8m]")
    made = pipeline(tmp_path, "ensembles.nano.gate.enrgy=off", "ensembles.nano.recipe=trial")
    found = [str(one) for one in made.look_through(made.steps, Clock(), lambda _: None)]
    assert any("no such setting; did you mean energy" in one for one in found)
    assert any("ensembles.nano.recipe: is not read in this section" in one for one in found)
    fine = pipeline(tmp_path, "ensembles.nano.gate.energy.budget=9")
    assert not list(fine.look_through([fine.step("ensembles")], Clock(), lambda _: None))


def test_each_ensemble_is_made_and_only_what_was_asked_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pipeline(tmp_path, "ensembles.shore.enabled=true", "ensembles.shore.members=[yolov8t,yolo11t]")
    step, told = made.step("ensembles"), []
    answer = Verdict("energy", "end", "pass", "fine")

    def train(settings: Any, clock: Clock, **options: bool) -> Any:
        told.append((settings.folder.name, options))
        return member_training.EnsembleSummary(settings.folder, {}, None, None, answer)

    monkeypatch.setattr(member_training, "train_ensemble", train)
    monkeypatch.setattr(member_training, "start_over", lambda settings: told.append(("over", settings.folder.name)))

    def run(fresh: bool, asked: bool) -> None:
        step.run(
            StepContext(made.workspace, made.settings_of(step), Clock(), fresh, asked, lambda: told.append("begun"))
        )

    run(fresh=True, asked=False)
    # Another setting of one: each member knows for itself whether it is concerned.
    assert told == ["begun", ("nano", {"renew": True}), ("shore", {"renew": True})]
    told.clear()
    run(fresh=True, asked=True)
    assert told[:3] == [("over", "nano"), ("over", "shore"), "begun"]
    answer = Verdict("energy", "end", "fail", "over the budget")
    with pytest.raises(GateStop, match="nano: gates failed: energy: over the budget"):
        run(fresh=False, asked=False)
