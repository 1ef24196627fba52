"""Members of an ensemble as real processes: killed they end with the same weights, made at once they are the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_reef import PLAIN, write_small_reef
from test_interruption import wait_for

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json
from marauder.core.locks import LOCK_FILE, is_held
from marauder.core.settings import load_checked
from marauder.ensembles.assembly import assemble
from marauder.ensembles.member_runs import members_of
from marauder.ensembles.member_training import left_over, train_ensemble
from marauder.ensembles.settings import EnsembleSettings
from marauder.ensembles.side_by_side import places
from marauder.ensembles.training_settings import NanoSettings
from marauder.exporting.job import export_models
from marauder.exporting.settings import ExportSettings
from marauder.models.files import save_detector
from marauder.models.ultralytics_adapter import build_detector
from marauder.prediction.opening import open_predictor
from marauder.prediction.settings import MEASURING
from marauder.runs.gatekeeper import GateStop
from marauder.runs.recipes import load_run_settings
from marauder.runs.record import read_record
from marauder.tasks.detection.data import DetectionData

MEMBERS = ("yolov8t:high_recall", "yolov8t:high_precision")
NAMES = ("yolov8t_high_recall", "yolov8t_high_precision")
CLASSES = ("disc", "square", "cross")
PLAIN_WORDS = [
    "training.device=cpu", "training.threads=1", "training.checkpoint_steps=2", "training.batch_size=4",
    "training.optimizer.warmup_epochs=1", "training.close_mosaic_epochs=1", "image_size=64", "weights=none",
    "evaluation.slices_each_epoch=false", "evaluation.draws=20", "assembly.enabled=false", "assembly.draws=100", *PLAIN,
]  # fmt: skip


@pytest.fixture(scope="module")
def reef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_reef(tmp_path_factory.mktemp("ensemble"), test=4)


@pytest.fixture(scope="module")
def start(reef: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``marauder ensemble-nano`` as a process of its own."""

    def run(output: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "marauder.cli.main", "ensemble-nano", "--data-yaml", str(reef)]
        words = ["--output", str(output), "--members", *MEMBERS, "--epochs", "4"]
        return subprocess.Popen(
            [*command, *words, *PLAIN_WORDS, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def undisturbed(start: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    text = finished(start(output))
    assert "gate energy: pass" in text and all(name in text for name in NAMES)
    return output


def finished(process: subprocess.Popen[str], status: int = 0) -> str:
    text, _ = process.communicate(timeout=600)
    assert process.returncode == status, text
    return text


def weights(folder: Path) -> dict[str, str]:
    return {
        f"{n}/{file}": hash_file(folder / n / file) for n in NAMES for file in ("best.safetensors", "last.safetensors")
    }


def settings_of(reef: Path, output: Path, *words: str, members: tuple[str, ...] = MEMBERS) -> NanoSettings:
    # As the command does: words of the command line come last.
    return load_run_settings(
        NanoSettings, None, [*PLAIN_WORDS, *words], data=reef, output=output, members=list(members)
    )


def checkpointed(folder: Path, name: str) -> Callable[[], bool]:
    return lambda: any((folder / "checkpoints" / name).glob("checkpoint_0*.json"))


def test_a_bag_is_what_a_member_learns_from(reef: Path, tmp_path: Path) -> None:
    recall, precision = members_of(settings_of(reef, tmp_path, "bagging.share=0.5"))
    plans = [DetectionData(one.settings).plan() for one in (recall, precision)]
    keys = [[record.key for record in plan.training] for plan in plans]
    assert [len(one) for one in keys] == [6, 6] and keys[0] != keys[1]
    assert [record.key for record in plans[0].validation] == [record.key for record in plans[1].validation]
    twice = DetectionData(
        recall.settings.changed({"bagging.kind": "bootstrap", "bagging.share": 1.0, "balance": {}})
    ).plan()
    assert twice.resampling is not None and twice.resampling.length == 12 > len(twice.training)


def test_members_start_from_the_base_model_where_it_fits(
    reef: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_detector("yolov8t", ["disc", "square", "cross"], 0)
    save_detector(model, tmp_path / "base", 64, {"architecture": "yolov8t"})
    base = tmp_path / "base.safetensors"
    asked = settings_of(reef, tmp_path, f"base_model={base}", members=("yolov8t:balanced", "yolo11t:balanced"))
    own, other = members_of(asked)
    assert own.settings.weights == base and other.settings.weights is None
    assert "is no yolo11t, and less than half of its tensors fit" in caplog.text


def test_places_follow_devices_and_what_is_asked(reef: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked = settings_of(reef, tmp_path)
    assert places(asked) == ["cpu"]
    assert places(asked.changed({"at_once": 2})) == ["cpu", "cpu"]
    assert places(asked.changed({"at_once": 9})) == ["cpu", "cpu"], "no more than there are members"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    auto = asked.changed({"training.device": "auto"})
    assert places(auto) == ["cuda:0", "cuda:1"]
    assert places(auto.changed({"at_once": 1})) == ["cuda:0"]
    assert len(places(auto.changed({"processes": 2}))) == 1
    assert places(auto.changed({"training.device": "cuda:1"}).changed({"at_once": 1})) == ["cuda:1"]


def test_a_foreign_folder_and_a_foreign_checkpoint_are_refused(reef: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is not empty and holds no ensemble"):
        train_ensemble(settings_of(reef, tmp_path), Clock())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("model: yolov8t", encoding="utf-8")
    with pytest.raises(UserError, match="is not empty and holds no ensemble"):
        train_ensemble(settings_of(reef, tmp_path / "run"), Clock())
    with pytest.raises(UserError, match="is not a checkpoint of a member"):
        train_ensemble(settings_of(reef, tmp_path / "new"), Clock(), resume=tmp_path / "checkpoint_00000003.json")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_it_leaves_members_and_a_profile(undisturbed: Path) -> None:
    content = read_json(undisturbed / "members.json")["members"]
    assert [one["name"] for one in content] == list(NAMES)
    assert [one["best_metric"] for one in content] == ["recall_at_precision", "precision_at_recall"]
    for one in content:
        assert hash_file(undisturbed / one["weights"]) == one["sha256"] and (undisturbed / one["report"]).is_file()
    deployment = read_json(undisturbed / "deployment.json")
    assert deployment["energy"]["answer"] == "pass" and deployment["profile"]["device"] == "orin_nano"
    plain = [read_json(undisturbed / name / "run.json")["identity"]["settings"] for name in NAMES]
    assert plain[0]["loss"]["focal"]["alpha"] > plain[1]["loss"]["focal"]["alpha"]
    assert plain[0]["training"]["seed"] != plain[1]["training"]["seed"]


@pytest.mark.slow
def test_the_members_become_one_predictor(undisturbed: Path, reef: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "whole")
    asked = settings_of(reef, tmp_path / "whole", "training.epochs=4", "assembly.enabled=true")
    done = train_ensemble(asked, Clock())
    assert all(run.finished_before for run in done.members.values())
    assert done.assembled is not None and set(done.assembled.adds) == set(NAMES) == set(done.assembled.kept)
    predictor = open_predictor(tmp_path / "whole" / "ensemble", "cpu")
    assert predictor.names == ("disc", "square", "cross")
    again = train_ensemble(asked, Clock())
    assert again.assembled is not None and again.assembled.summary.already_done
    assert again.profile is not None and [one.name for one in again.profile.members] == list(NAMES)


def test_data_without_a_test_split_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    data = write_small_reef(tmp_path / "reef", train=4, val=2)
    with pytest.raises(UserError, match="has no split test"):
        train_ensemble(settings_of(data, tmp_path / "out", "assembly.enabled=true"), Clock())
    assert not list((tmp_path / "out").glob("yolov8t*"))


@pytest.mark.slow
def test_killed_in_the_second_member_it_ends_with_the_same_weights(
    start: Callable[..., subprocess.Popen[str]], undisturbed: Path, tmp_path: Path
) -> None:
    process = start(tmp_path)
    wait_for(process, checkpointed(tmp_path, NAMES[1]), 400)
    process.kill()
    process.communicate()
    first = (tmp_path / NAMES[0] / "best.safetensors").stat().st_mtime_ns
    finished(start(tmp_path))
    assert weights(tmp_path) == weights(undisturbed)
    assert (tmp_path / NAMES[0] / "best.safetensors").stat().st_mtime_ns == first, "a finished member is not made again"


@pytest.mark.slow
def test_told_to_stop_it_says_how_to_go_on_and_a_longer_list_adds_members(
    start: Callable[..., subprocess.Popen[str]], undisturbed: Path, tmp_path: Path, reef: Path
) -> None:
    process = start(tmp_path)
    wait_for(process, checkpointed(tmp_path, NAMES[0]), 400)
    process.send_signal(signal.SIGTERM)
    assert "ensemble-nano" in finished(process, 75)
    finished(start(tmp_path))
    assert weights(tmp_path) == weights(undisturbed)
    before = weights(tmp_path)
    longer = settings_of(reef, tmp_path, "training.epochs=4", members=(*MEMBERS, "yolov8t:balanced"))
    done = train_ensemble(longer, Clock())
    assert list(done.members) == [*NAMES, "yolov8t_balanced"] and weights(tmp_path) == before
    assert done.members[NAMES[0]].finished_before and not done.members["yolov8t_balanced"].finished_before
    assert left_over(tmp_path, members_of(settings_of(reef, tmp_path))) == ["yolov8t_balanced"]
    with pytest.raises(UserError, match="start over with --fresh"):
        train_ensemble(longer.changed({"loss.box": 3.0}), Clock())
    renewed = train_ensemble(longer.changed({"loss.box": 3.0, "training.epochs": 1}), Clock(), fresh=True)
    assert not any(run.finished_before for run in renewed.members.values())
    assert not list(tmp_path.glob("*.former")), "what was moved away goes once all is made anew"


@pytest.mark.slow
def test_made_at_once_members_are_the_same_also_after_a_kill(
    start: Callable[..., subprocess.Popen[str]], undisturbed: Path, tmp_path: Path
) -> None:
    text = finished(start(tmp_path / "whole", "--at-once", "2"))
    assert weights(tmp_path / "whole") == weights(undisturbed)
    assert f"{NAMES[0]}: epoch 4 of 4, recall_at_precision" in text
    log = (tmp_path / "whole" / "processes" / NAMES[1] / "member.log").read_text(encoding="utf-8")
    assert "4/4" in log
    killed = tmp_path / "killed"
    process = start(killed, "--at-once", "2")
    wait_for(process, lambda: all(checkpointed(killed, name)() for name in NAMES), 400)
    process.kill()
    process.communicate()
    # The members see that nobody waits for them any more.
    for name in NAMES:
        _wait_until(lambda name=name: not is_held(killed / name / LOCK_FILE))  # type: ignore[misc]
    records = [read_record(killed / name) for name in NAMES]
    assert all(record is not None and record.state != "finished" for record in records)
    finished(start(killed, "--at-once", "2"))
    assert weights(killed) == weights(undisturbed)


def _wait_until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_at_once_a_stop_saves_all_and_a_gate_of_a_member_stops_all(
    start: Callable[..., subprocess.Popen[str]], undisturbed: Path, tmp_path: Path, reef: Path
) -> None:
    process = start(tmp_path, "--at-once", "2")
    wait_for(process, lambda: all(checkpointed(tmp_path, name)() for name in NAMES), 400)
    process.send_signal(signal.SIGTERM)
    assert "SIGTERM received" in finished(process, 75)
    finished(start(tmp_path))
    assert weights(tmp_path) == weights(undisturbed), "one after another goes on with what was begun at once"
    strict = settings_of(
        reef, tmp_path / "strict", "training.epochs=1", "gate.limits.metrics.map50.minimum=0.99", "at_once=2"
    )
    with pytest.raises(GateStop, match="gates failed"):
        train_ensemble(strict, Clock())


@pytest.mark.slow
def test_where_it_may_members_that_have_changed_are_made_anew_and_no_others(reef: Path, tmp_path: Path) -> None:
    asked = settings_of(reef, tmp_path, "training.epochs=1")
    train_ensemble(asked, Clock(), renew=True)
    before = weights(tmp_path)
    other = asked.changed({"roles": {"high_recall": {"loss": {"box": 3.0}}}})
    with pytest.raises(UserError, match="start over with --fresh"):
        train_ensemble(other, Clock())
    done = train_ensemble(other, Clock(), renew=True)
    assert [run.finished_before for run in done.members.values()] == [False, True]
    after = weights(tmp_path)
    assert [name for name in before if before[name] != after[name]] == [
        f"{NAMES[0]}/best.safetensors",
        f"{NAMES[0]}/last.safetensors",
    ]
    # Longer is no other member: both go on from where they ended.
    longer = train_ensemble(other.changed({"training.epochs": 2}), Clock(), renew=True)
    assert [run.epochs for run in longer.members.values()] == [2, 2]


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("architecture", ["yolov8m", "yolov8l", "yolov8x", "yolo11x"])
def test_the_real_sizes_are_killed_continued_fused_and_exported(reef: Path, tmp_path: Path, architecture: str) -> None:
    folder = tmp_path / f"{architecture}_balanced"
    process = _start_large(reef, tmp_path, architecture)
    wait_for(process, checkpointed(tmp_path, folder.name), 900)
    process.kill()
    process.communicate()
    before = read_record(folder)
    assert before is not None and before.state != "finished"
    process = _start_large(reef, tmp_path, architecture)
    wait_for(process, lambda: (record := read_record(folder)) is not None and record.state == "finished", 900)
    process.kill()
    text, _ = process.communicate()
    record = read_record(folder)
    assert record is not None and (record.state, record.attempts, record.epochs) == ("finished", 2, 1), text
    assert "training continues from" in text or "training is complete at" in text, text
    _fuse_large(reef, tmp_path, folder / "best.safetensors", architecture)
    _export_large(folder / "best.safetensors", tmp_path / "exported")


def _fuse_large(reef: Path, output: Path, trained: Path, architecture: str) -> None:
    """Of two detectors of the architecture; the second is as it was built."""
    other = output / "other" / "best"
    other.parent.mkdir()
    save_detector(build_detector(architecture, CLASSES, 1), other, 64, {"architecture": architecture})
    members = [str(trained), str(other.with_suffix(".safetensors"))]
    words = ["cost.rounds=3", "cost.pictures=2", "folds=2", "draws=100", "options.overlap=0.55", "weights=false"]
    fused = output / "fused"
    settings = load_checked(EnsembleSettings, None, words, {}, members=members, data=reef, output=fused, device="cpu")
    assert len(assemble(settings, Clock()).kept) == 2
    ensemble = open_predictor(fused, "cpu")
    (found,) = ensemble.predict([np.zeros((96, 96, 3), np.uint8)], replace(MEASURING, multi_label=False))
    assert ensemble.names == CLASSES and np.isfinite(found.boxes).all() and (found.scores <= 1).all()


def _export_large(trained: Path, output: Path) -> None:
    """The file is checked (onnx's own checker), answers as its model does, and has no operator that TensorRT lacks."""
    words = ["formats=onnx", "image_size=64", "latency.enabled=false", "parity.picture_count=2"]
    settings = load_checked(ExportSettings, None, words, {}, models=[str(trained)], output=output)
    (result,) = export_models(settings, Clock()).models
    assert result.passed and result.report is not None, result.problem
    operators = result.report["formats"]["onnx"]["graph"]["operators"]
    assert "Conv" in operators and not {"NonMaxSuppression", "ScatterND", "Einsum", "Mod"}.intersection(operators)


def _start_large(reef: Path, output: Path, architecture: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "marauder.cli.main",
        "ensemble-nano",
        "--data-yaml",
        str(reef),
        "--output",
        str(output),
    ]
    words = ["--members", f"{architecture}:balanced", "yolov8t:high_recall", "--epochs", "1", "training.batch_size=6"]
    plain = [word for word in PLAIN_WORDS if "batch_size" not in word and "checkpoint_steps" not in word]
    return subprocess.Popen(
        [*command, *words, *plain, "training.checkpoint_steps=1", "bagging.kind=none"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
