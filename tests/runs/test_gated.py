"""A gated run from end to end: evidence, verdicts, registration, comparison with production, what stops it."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_reef import NAMES, write_small_reef
from typer.testing import CliRunner

from marauder.cli.train import show
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json, read_lines, write_bytes, write_json
from marauder.registry.opening import open_registry
from marauder.registry.promotion import promote
from marauder.runs.gated import RunSummary, run_gated
from marauder.runs.gatekeeper import GateStop
from marauder.runs.index import index_runs
from marauder.runs.recipes import load_run_settings
from marauder.runs.record import read_record
from marauder.storage.opening import open_store
from marauder.tasks.detection.runtime import DetectionRuntime
from marauder.tasks.detection.settings import DetectionSettings

QUICK = [
    "recipe=trial", "image_size=64", "training.epochs=2", "training.batch_size=8", "training.device=cpu",
    "training.threads=1", "training.close_mosaic_epochs=1", "tracking.trackers=[files]", "registry.kind=files",
    "export.formats=[torchscript]", "export.rounds=5", "evaluation.draws=20", "gate.drift.engine=scipy",
    "gate.regression.draws=200", "project=shapes",
]  # fmt: skip


@pytest.fixture(scope="module")
def reef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures for the gates to say something."""
    return write_small_reef(tmp_path_factory.mktemp("reef"), train=48, val=16, test=48)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs that share a registry."""
    return tmp_path_factory.mktemp("runs")


def settings_for(data: Path, runs: Path, *overrides: str) -> DetectionSettings:
    """A run that takes seconds."""
    return load_run_settings(DetectionSettings, None, [*QUICK, f"data={data}", f"runs={runs}", *overrides])


def run(data: Path, runs: Path, *overrides: str, **options: Any) -> RunSummary:
    """Do it."""
    return run_gated(settings_for(data, runs, *overrides), Clock(), **options)


@pytest.fixture(scope="module")
def first(reef: Path, runs: Path) -> RunSummary:
    """A run that learned something."""
    return run(reef, runs, "training.epochs=24", "evaluation.target={overall: 0.99}")


def answers(folder: Path) -> dict[str, str]:
    """Gate to answer, as the run wrote it down."""
    return {one["gate"]: one["answer"] for one in read_json(folder / "gates.json")["verdicts"]}


def stamps_of(folder: Path) -> dict[str, int]:
    """When each file of a run was last changed."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file() and path.name[0] != "."}


@pytest.mark.slow
def test_a_run_leaves_weights_evidence_and_a_candidate(first: RunSummary, reef: Path, runs: Path) -> None:
    folder = first.folder
    expected = {
        "best.pt", "best.safetensors", "last.pt", "config.yaml", "data_pin.json", "provenance.json", "gates.json",
        "run.json", "eval_report.json", "report.html", "model_card.md", "model_card.json", "reference_profile.json",
        "metrics.jsonl", "events.jsonl", "outbox.jsonl",
    }  # fmt: skip
    assert expected <= {path.name for path in folder.iterdir()}
    assert list(folder.glob("exported/*/model.torchscript"))
    assert folder.parent == runs and folder.name.startswith("trial-")
    given = answers(folder)
    assert given["contract"] == given["sanity"] == given["determinism"] == given["health"] == "pass"
    assert given["regression"] == "off", "nothing to compare with yet"
    assert (first.verdict, first.exit_status) in (("pass", 0), ("warn", 0))
    version = open_registry(settings_for(reef, runs).registry, runs).find("shapes", "candidate")  # type: ignore[union-attr]
    assert version is not None
    assert version.weights_sha256 == hash_file(folder / "best.pt")
    types = [event["type"] for event in read_lines(folder / "outbox.jsonl")]
    assert types[0].endswith("run.started") and types[-1].endswith("run.finished")
    assert any(kind.endswith("slice_below_target") for kind in types)
    assert any(kind.endswith("checkpoint") for kind in types)
    history = read_lines(folder / "metrics.jsonl")
    assert any(name.startswith("val/slice/") for name in history[-1])
    report = read_json(folder / "eval_report.json")
    assert report["slices"] and report["overall"]["map50"] == pytest.approx(first.metrics["map50"])


@pytest.mark.slow
def test_the_same_command_finds_it_finished(first: RunSummary, reef: Path, runs: Path) -> None:
    stamps = stamps_of(first.folder)
    again = run(reef, runs, "training.epochs=24", "evaluation.target={overall: 0.99}")
    assert again.folder == first.folder and again.version == first.version
    assert stamps == stamps_of(first.folder)


@pytest.mark.slow
def test_a_planted_regression_is_stopped_and_not_promoted(first: RunSummary, reef: Path, runs: Path) -> None:
    registry = open_registry(settings_for(reef, runs).registry, runs)
    assert registry is not None and first.version is not None
    promote(registry, "shapes", first.version, who="tests", why="the first")
    worse = run(reef, runs, "training.optimizer.learning_rate=1e-7", "training.epochs=1")
    assert worse.exit_status == 3 and worse.verdict == "fail"
    assert any(why.startswith("regression: ") for why in worse.failed)
    assert worse.version is not None and worse.version != first.version
    with pytest.raises(UserError, match=r"regression|fail"):
        promote(registry, "shapes", worse.version, who="tests", why="no reason")
    candidate = registry.find("shapes", "candidate")
    assert candidate is not None and candidate.version == first.version, "what failed is no candidate"
    production = registry.find("shapes", "production")
    assert production is not None and production.version == first.version
    report = read_json(worse.folder / "eval_report.json")
    assert any(one["gate"] == "regression" and one["answer"] == "fail" for one in report["gates"])


SHORT = ["gate.sanity=off", "gate.determinism=off", "gate.drift=off", "export.formats=[]", "training.epochs=1"]
"""Words of a run that learns nothing."""


def test_what_has_not_learned_says_so_everywhere_and_is_no_candidate(
    reef: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from marauder.cli import data
    from marauder.cli.train import show

    done = run(reef, tmp_path, *SHORT)
    assert (done.verdict, done.exit_status) == ("warn", 0)
    assert done.withheld.startswith("floor: has not learned yet: mAP50 is 0.0")
    show(done)
    screen = capsys.readouterr().out
    assert "not offered for production: floor: has not learned yet" in screen and "registry promote" not in screen
    # What it proposes instead is a command for this very run.
    assert f"marauder train {done.folder / 'config.yaml'} training.epochs=20" in screen
    (check,) = (one.command for one in done.advice if one.kind == "check_labels")
    assert CliRunner().invoke(data.app, shlex.split(check)[2:]).exit_code == 0
    for name, said in (
        ("run.json", done.withheld),
        ("model_card.md", "has not learned yet"),
        ("report.html", done.withheld[7:]),
    ):
        assert said in (done.folder / name).read_text(encoding="utf-8"), name
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert '<div class="banner warn"><b>! Has not learned yet</b>' in page and 'class="label"' in page
    assert "registry promote" not in page and 'href="labels.jpg"' in page
    content = read_json(done.folder / "eval_report.json")
    assert content["withheld"] == done.withheld
    assert read_lines(done.folder / "outbox.jsonl")[-1]["data"]["withheld"] == done.withheld
    assert [one["kind"] for one in content["advice"]] == [one.kind for one in done.advice]
    assert content["overall"]["confidence"] >= 0.05
    registry = open_registry(settings_for(reef, tmp_path).registry, tmp_path)
    assert registry is not None and registry.find("shapes", "candidate") is None
    with pytest.raises(UserError, match="floor: has not learned yet"):
        promote(registry, "shapes", "1", who="tests")
    # Judged again, it is the same version with another answer, and back.
    offered = run(reef, tmp_path, *SHORT, "gate.floor.level=0")
    assert (offered.withheld, offered.version) == ("", "1")
    candidate = registry.require("shapes", "candidate")
    assert candidate.version == "1" and candidate.is_offered and candidate.tags["withheld"] == ""
    assert run(reef, tmp_path, *SHORT).withheld == done.withheld
    assert registry.find("shapes", "candidate") is None
    with pytest.raises(UserError, match="floor: has not learned yet"):
        promote(registry, "shapes", "1", who="tests")
    offered = run(reef, tmp_path, *SHORT, "gate.floor.level=0", "project=other")
    assert offered.withheld == "" and registry.find("other", "candidate") is not None


def test_sheets_of_labels_and_batches_change_no_weight(
    reef: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    seen: list[list[str]] = []
    known = DetectionRuntime.task

    def task(self: DetectionRuntime, cache: Path | None) -> Any:
        seen.append(sorted(path.name for path in self.settings.folder.glob("*.jpg")))
        return known(self, cache)

    monkeypatch.setattr(DetectionRuntime, "task", task)
    words = [*SHORT, "registry.kind=none"]
    done = run(reef, tmp_path / "with", *words)
    assert seen[0] == ["labels.jpg", "training_batch.jpg"], "before training begins"
    sheets = {path.name: path.read_bytes() for path in done.folder.glob("*.jpg")}
    monkeypatch.setattr(DetectionRuntime, "preview", lambda self: None)
    without = run(reef, tmp_path / "without", *words)
    assert not list(without.folder.glob("*.jpg"))
    first, second = (load_file(one.folder / "last.safetensors") for one in (done, without))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    monkeypatch.undo()
    runtime = DetectionRuntime(settings_for(reef, tmp_path, *words, f"output={tmp_path / 'again'}", "id=again"))
    (tmp_path / "again").mkdir()
    runtime.open()
    runtime.preview()
    assert sheets == {path.name: path.read_bytes() for path in (tmp_path / "again").glob("*.jpg")}


def test_a_gate_before_training_stops_the_run(reef: Path, tmp_path: Path) -> None:
    words = ["gate.contract.required_classes=[disc, octopus]", "registry.kind=none"]
    with pytest.raises(GateStop, match="octopus") as stop:
        run(reef, tmp_path, *words)
    assert stop.value.exit_status == 3
    (folder,) = tmp_path.iterdir()
    assert not (folder / "best.pt").exists() and not list(folder.glob("checkpoints/*.pt"))
    assert answers(folder)["contract"] == "fail"
    assert (folder / "labels.jpg").is_file(), "what is wrong with the labels can be looked at"
    record = read_json(folder / "run.json")
    assert (record["state"], record["verdict"], record["exit_status"]) == ("stopped", "fail", 3)
    assert [event["type"].rpartition(".")[2] for event in read_lines(folder / "outbox.jsonl")][-1] == "failed"


def test_other_settings_make_another_run_and_a_name_is_kept(reef: Path, tmp_path: Path) -> None:
    from marauder.data.manifests.pinning import pin
    from marauder.runs.run_name import with_run_id

    pinned = pin(reef)
    one = with_run_id(settings_for(reef, tmp_path), pinned)
    same = with_run_id(settings_for(reef, tmp_path, "tracking.trackers=[]", "training.workers=1"), pinned)
    other = with_run_id(settings_for(reef, tmp_path, "training.optimizer.momentum=0.5"), pinned)
    named = with_run_id(settings_for(reef, tmp_path, "id=mine"), pinned)
    assert one.id == same.id != other.id
    assert named.folder == tmp_path / "mine"


def test_an_unknown_slice_in_the_targets_is_named_before_training(reef: Path, tmp_path: Path) -> None:
    words = ["registry.kind=none", "export.formats=[]"]
    with pytest.raises(UserError, match=rf"evaluation\.target\.deep: no slice named 'deep'.*{NAMES[0]}"):
        run(reef, tmp_path, *words, "evaluation.target={deep: 0.5}")


def test_what_was_killed_before_it_was_told_is_told_by_the_next_call(reef: Path, tmp_path: Path) -> None:
    words = SHORT
    done = run(reef, tmp_path, *words)
    record = read_json(done.folder / "run.json")
    write_json(done.folder / "run.json", {**record, "told": False})
    outbox = done.folder / "outbox.jsonl"
    kept = [line for line in outbox.read_text().splitlines() if "run.finished" not in line]
    outbox.write_text("\n".join(kept) + "\n")
    again = run(reef, tmp_path, *words)
    assert again.version == done.version
    assert sum(event["type"].endswith("run.finished") for event in read_lines(outbox)) == 1
    assert read_json(done.folder / "run.json")["told"]


def test_an_unreachable_registry_warns_and_is_asked_by_the_next_call(reef: Path, tmp_path: Path) -> None:
    broken = tmp_path / "registry"
    broken.write_text("a file where a folder is needed")
    words = [*SHORT, f"registry.options={{address: {broken}}}"]
    away = run(reef, tmp_path / "runs", *words)
    assert (away.version, answers(away.folder)["regression"]) == (None, "warn")
    broken.unlink()
    back = run(reef, tmp_path / "runs", *words)
    assert back.version == "1" and answers(back.folder)["regression"] in ("pass", "off")


def test_files_reach_a_store_that_is_named_later(reef: Path, tmp_path: Path) -> None:
    words = [*SHORT, "registry.kind=none"]
    done = run(reef, tmp_path / "runs", *words)
    store = tmp_path / "store"
    run(reef, tmp_path / "runs", *words, f"store={store}")
    stored = store / "models" / "shapes" / done.folder.name / "best.pt"
    assert hash_file(stored) == hash_file(done.folder / "best.pt")


@pytest.mark.parametrize("fresh", [True, False])
def test_only_starting_over_clears_the_mirrored_checkpoints(
    fresh: bool, reef: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, key = open_store(str(tmp_path / "volume")), "checkpoints/shapes/mine/checkpoint_000000007"
    digest = write_bytes(tmp_path / "checkpoint", b"of an earlier attempt")
    write_json(tmp_path / "about", {"sha256": digest, "step": 7})
    volume.put(f"{key}.pt", tmp_path / "checkpoint")
    volume.put(f"{key}.json", tmp_path / "about")

    def stopped(*_: Any) -> None:
        raise Interrupted("before the first new checkpoint")

    monkeypatch.setattr("marauder.runs.training_stage.train", stopped)
    words = ["id=mine", "gate.sanity=off", "gate.determinism=off", "gate.drift=off", "registry.kind=none"]
    words += [f"checkpoint_tiers.volume={{address: {tmp_path / 'volume'}, seconds: 0}}"]
    with pytest.raises(Interrupted):
        run(reef, tmp_path / "runs", *words, fresh=fresh)
    local = {path.name for path in (tmp_path / "runs" / "mine" / "checkpoints").glob("*.pt")}
    kept = {entry.key for entry in volume.list("checkpoints")}
    assert (local, kept) == ((set(), set()) if fresh else ({"checkpoint_000000007.pt"}, {f"{key}.pt", f"{key}.json"}))


@pytest.mark.parametrize("words", [["id=a/../../b"], ["project=a b"], ["project=../x"], ["weights=picture.jpg"]])
def test_names_that_lead_elsewhere_and_wrong_files_are_refused_at_once(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^override {words[0]!r}: "):
        settings_for(tmp_path, tmp_path, *words)


def test_a_disk_too_small_for_decoded_pictures_is_told(
    reef: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marauder.data.pictures.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    words = ["registry.kind=none", "gate.sanity=off", "gate.determinism=off", "gate.drift=off", "export.formats=[]"]
    with pytest.raises(UserError, match=r"0\.00 GB are free.*cache_gigabytes"):
        run(reef, tmp_path, *words)


def test_another_project_gets_a_version_of_its_own_without_training_again(
    reef: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    one = run(reef, tmp_path, "export.formats=[]")
    assert "was finished in the project" not in caplog.text
    weights = stamps_of(one.folder)["best.safetensors"]
    # With a floor that even this model is above, so that it is offered.
    words = ("export.formats=[]", "project=other", "gate.floor.level=0")
    other = run(reef, tmp_path, *words)
    assert other.folder == one.folder and stamps_of(one.folder)["best.safetensors"] == weights
    assert (one.project, other.project) == ("shapes", "other")
    moved = f"{one.folder} was finished in the project shapes: it is measured again, now for the project other"
    assert moved in caplog.text and f"version {one.version} stays in shapes, as it is" in caplog.text
    registry = open_registry(settings_for(reef, tmp_path).registry, tmp_path)
    assert registry is not None
    assert [version.version for version in registry.versions("other")] == [other.version]
    assert len(registry.versions("shapes")) == 1
    health = next(one for one in read_json(one.folder / "gates.json")["verdicts"] if one["gate"] == "health")
    assert health["why"] == "training finished normally", "nothing was resumed"
    assert other.version is not None
    assert "promote" in [one.kind for one in other.advice]
    promote(registry, "other", other.version, who="tests", why="good")
    again = run(reef, tmp_path, *words)
    assert again.finished_before and again.version == other.version
    assert again.in_production
    show(again)
    told = capsys.readouterr().out
    assert "it is in production" in told and "promote" not in told


@pytest.mark.slow
def test_a_finished_run_stays_finished_when_measuring_it_again_is_interrupted(
    reef: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export.formats=[]", "id=one")
    one = run(reef, tmp_path, *words)
    before = read_record(one.folder)
    assert before is not None
    measure = DetectionRuntime.measure

    def stopped(*_: object) -> None:
        raise Interrupted("SIGINT received")

    monkeypatch.setattr(DetectionRuntime, "measure", stopped)
    with pytest.raises(Interrupted):
        run(reef, tmp_path, *words, "project=other")
    (listed,) = index_runs(tmp_path)
    assert (listed.state, listed.about["project"]) == ("finished", "shapes")
    after = read_record(one.folder)
    assert after is not None and after.message == "measuring it again was interrupted: SIGINT received"
    assert (after.metrics, after.verdict, after.version) == (before.metrics, before.verdict, before.version)
    # Without its checkpoints training begins anew, and over its weights.
    kept = one.folder / "checkpoints"
    kept.rename(tmp_path / "elsewhere")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("marauder.runs.training_stage.train", stopped)
        run(reef, tmp_path, *words, "project=third")
    assert [two.state for two in index_runs(tmp_path)] == ["interrupted"]
    # Longer training is more than measuring, too: what is interrupted then is the run.
    with pytest.raises(Interrupted):
        run(reef, tmp_path, *words, "training.epochs=3")
    assert [two.state for two in index_runs(tmp_path)] == ["interrupted"]
    monkeypatch.setattr(DetectionRuntime, "measure", measure)
    again = run(reef, tmp_path, *words, "training.epochs=3")
    assert not again.finished_before and again.epochs == 3


@pytest.mark.slow
def test_what_was_measured_again_in_part_is_measured_by_the_former_command_too(
    reef: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export.formats=[]", "id=one")
    run(reef, tmp_path, *words)
    with monkeypatch.context() as patch, pytest.raises(UserError, match="disk"):

        def full(*_: object) -> None:
            raise UserError("the disk is full")

        patch.setattr(DetectionRuntime, "report", full)
        run(reef, tmp_path, *words, "project=other")
    assert [one.state for one in index_runs(tmp_path)] == ["finished"]
    again = run(reef, tmp_path, *words)
    assert not again.finished_before and again.project == "shapes"
    assert run(reef, tmp_path, *words).finished_before
