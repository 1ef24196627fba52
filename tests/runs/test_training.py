"""A baseline training inside this process: what it leaves, what it survives, what stops it."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from small_reef import NAMES, PLAIN, write_small_reef
from ultralytics import YOLO

from marauder.cli.train import show
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_json, read_lines, write_json
from marauder.core.settings import load_settings
from marauder.data.reading import read_dataset
from marauder.engine.checkpoints import Checkpointer
from marauder.engine.distributed import Group
from marauder.engine.guards import TrainingFailure
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import STEPS_BEYOND, Outcome
from marauder.engine.trainer import Trainer
from marauder.imaging.augmentation import AugmentationSettings
from marauder.models.files import load_detector, save_detector
from marauder.models.ultralytics_adapter import build_detector, class_branch_width
from marauder.runs.gated import RunSummary, run_gated
from marauder.tasks.detection.advice import commands_of
from marauder.tasks.detection.runtime import DetectorWeights
from marauder.tasks.detection.settings import BaselineSettings
from marauder.tasks.detection.training import DetectionPlan, DetectionTask

QUICK = [
    "training.epochs=2", "training.batch_size=4", "training.device=cpu", "training.threads=1",
    "training.close_mosaic_epochs=1", *PLAIN,
]  # fmt: skip


def settings_for(data: Path, output: Path, *overrides: str) -> BaselineSettings:
    """Settings of a training that takes about a second."""
    return load_settings(
        BaselineSettings, None, [*QUICK, *overrides], data=data, output=output, model="yolov8t", image_size=64
    )


def make_task(data: Path, weights: Path | None = None) -> DetectionTask:
    """The detection task of the small data set, started from ``weights`` where given."""
    dataset = read_dataset(data)
    plan = DetectionPlan(
        "yolov8t",
        dataset.names,
        dataset.split("train").records,
        dataset.split("val").records,
        64,
        0,
        AugmentationSettings(),
        weights,
    )
    return DetectionTask(plan, None, 0)


def fit(
    task: Any,
    folder: Path,
    clock: Clock | None = None,
    resume: Path | None = None,
    sanity_check: bool = False,
    **values: Any,
) -> Outcome:
    """Train ``task`` in ``folder``, going on from what lies there."""
    defaults = {"epochs": 3, "batch_size": 4, "checkpoint_steps": 2, "workers": 0, "seed": 1, "best_metric": "map50_95"}
    settings = TrainingSettings(**{**defaults, **values})

    weights = DetectorWeights(BaselineSettings(data=folder, output=folder, image_size=64))
    trainer = Trainer(
        task,
        settings,
        Group(),
        folder,
        folder / "checkpoints",
        weights,
        clock or Clock(),
        "data",
        sanity_check=sanity_check,
    )
    return trainer.fit(resume)


def test_a_run_leaves_everything_and_is_not_done_twice(small_reef: Path, tmp_path: Path) -> None:
    summary = run_gated(settings_for(small_reef, tmp_path), Clock())
    expected = {
        "best.pt", "best.safetensors", "last.pt", "last.safetensors", "metrics.jsonl", "events.jsonl", "config.json",
        "curves.png", "confusion_matrix.png", "pr_curves.png", "predictions.png", "report.html", "eval_report.json",
    }  # fmt: skip
    assert expected <= {path.name for path in tmp_path.iterdir()}
    assert summary.split == "test"
    assert not (tmp_path / "cache").exists() or not any((tmp_path / "cache").iterdir())
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix in (".pt", ".html")}
    run_gated(settings_for(small_reef, tmp_path), Clock())
    assert stamps == {
        path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix in (".pt", ".html")
    }


def test_a_finished_run_can_be_extended_but_not_changed(small_reef: Path, tmp_path: Path) -> None:
    run_gated(settings_for(small_reef, tmp_path), Clock())
    longer = run_gated(settings_for(small_reef, tmp_path, "training.epochs=3"), Clock())
    assert longer.epochs == 3
    assert [row["epoch"] for row in read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    with pytest.raises(UserError, match=r"learning_rate was 0\.01, is 0\.02.*--fresh"):
        run_gated(settings_for(small_reef, tmp_path, "training.optimizer.learning_rate=0.02"), Clock())
    with pytest.raises(UserError, match=r"augmentation\.mosaic was 1\.0, is 0\.5"):
        run_gated(settings_for(small_reef, tmp_path, "augmentation.mosaic=0.5"), Clock())
    fresh = settings_for(small_reef, tmp_path, "training.optimizer.learning_rate=0.02")
    assert run_gated(fresh, Clock(), fresh=True).epochs == 2
    assert read_json(tmp_path / "previous" / "run.json")["epochs"] == 3
    assert (tmp_path / "previous" / "best.pt").is_file()


def test_after_damage_the_new_checkpoints_count(small_reef: Path, tmp_path: Path) -> None:
    fit(make_task(small_reef), tmp_path)
    checkpoints = tmp_path / "checkpoints"
    for path in checkpoints.glob("checkpoint_0*.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    clock = Clock()
    task = make_task(small_reef)
    load = task.load
    drawn = []

    def load_and_stop(keys: Any, context: Any) -> Any:
        drawn.append(keys)
        if len(drawn) == 3:
            clock.signal_name = "SIGTERM"
        return load(keys, context)

    task.load = load_and_stop  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="saved at step 3"):
        fit(task, tmp_path, clock=clock)
    assert sorted(path.name for path in (checkpoints / "set_aside").glob("*.pt"))
    fit(make_task(small_reef), tmp_path)
    resumed = [event["step"] for event in read_lines(tmp_path / "events.jsonl") if event["kind"] == "resumed"]
    assert resumed == [3]


def test_going_back_to_an_older_checkpoint_stays(small_reef: Path, tmp_path: Path) -> None:
    fit(make_task(small_reef), tmp_path, keep_checkpoints=9, epochs=2)
    older = tmp_path / "older.pt"
    shutil.copy(tmp_path / "checkpoints" / "checkpoint_000000002.pt", older)
    clock = Clock()
    clock.signal_name = "SIGTERM"
    with pytest.raises(Interrupted, match="saved at step 3"):
        fit(make_task(small_reef), tmp_path, clock=clock, resume=older, keep_checkpoints=9, epochs=2)
    fit(make_task(small_reef), tmp_path, keep_checkpoints=9, epochs=2)
    resumed = [event["step"] for event in read_lines(tmp_path / "events.jsonl") if event["kind"] == "resumed"]
    assert resumed == [2, 3]


def scored(task: DetectionTask, scores: list[float]) -> DetectionTask:
    """Let the evaluations of the epochs have these scores, whoever asks."""
    epoch = {"now": 0}
    score = task.score

    def planted(shares: list[Any]) -> dict[str, float]:
        epoch["now"] += 1
        return {**score(shares), "map50_95": scores[epoch["now"] - 1]}

    task.score = planted  # type: ignore[method-assign]
    return task


def noted(folder: Path, name: str) -> int:
    """The epoch that the weights of that name are of, in both files."""
    epochs = {load_detector(folder / f"{name}{suffix}").metadata["epoch"] for suffix in (".pt", ".safetensors")}
    (epoch,) = epochs
    return int(epoch)


def test_last_weights_of_a_part_of_an_epoch_say_so(small_reef: Path, tmp_path: Path) -> None:
    """Stopped after the first update of epoch 3, and started again for the 2 epochs that are done."""

    def about() -> dict[str, Any]:
        return dict(load_detector(tmp_path / "last.safetensors").metadata)

    fit(scored(make_task(small_reef), [0.3, 0.1, 0.2]), tmp_path, keep_checkpoints=99, epochs=3, checkpoint_steps=1)
    assert about()["epoch"] == 3 and STEPS_BEYOND not in about()
    for number in (8, 9):
        for suffix in ("json", "pt"):
            (tmp_path / "checkpoints" / f"checkpoint_{number:09}.{suffix}").unlink()
    outcome = fit(make_task(small_reef), tmp_path, epochs=2)
    assert (outcome.epochs, outcome.steps, outcome.best_epoch) == (2, 7, 1)
    assert (about()["epoch"], about()[STEPS_BEYOND], about()["metrics"]) == (2, 1, {})
    written = (tmp_path / "last.safetensors").stat().st_mtime_ns
    fit(make_task(small_reef), tmp_path, epochs=2)
    assert (tmp_path / "last.safetensors").stat().st_mtime_ns == written, "they are those of this position already"
    fit(scored(make_task(small_reef), [0.2]), tmp_path, epochs=3)
    assert about()["epoch"] == 3 and STEPS_BEYOND not in about()


def test_going_back_takes_the_best_of_the_branch_along(small_reef: Path, tmp_path: Path) -> None:
    """Epoch 2 is the best that the checkpoint after it knows; the file is of epoch 4, which is given up."""
    fit(
        scored(make_task(small_reef), [0.1, 0.2, 0.1, 0.4]), tmp_path, keep_checkpoints=99, epochs=4, checkpoint_steps=1
    )
    assert (noted(tmp_path, "best"), noted(tmp_path, "last")) == (4, 4)
    given_up = hash_file(tmp_path / "best.safetensors")
    older = tmp_path / "checkpoints" / "checkpoint_000000006.pt"
    outcome = fit(make_task(small_reef), tmp_path, resume=older, epochs=2)
    assert (outcome.epochs, outcome.best_epoch, outcome.best_score) == (2, 2, 0.2)
    assert (noted(tmp_path, "best"), noted(tmp_path, "last")) == (2, 2)
    assert hash_file(tmp_path / "set_aside" / "best.safetensors") == given_up
    assert [row["epoch"] for row in read_lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_going_back_behind_the_best_that_is_lost_seeks_it_anew(
    small_reef: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoint within epoch 3 knows epoch 1 as the best, whose weights were replaced by those of epoch 4."""
    scores = [0.3, 0.1, 0.2, 0.4]
    fit(scored(make_task(small_reef), scores), tmp_path, keep_checkpoints=99, epochs=4, checkpoint_steps=1)
    older = tmp_path / "checkpoints" / "checkpoint_000000008.pt"
    outcome = fit(scored(make_task(small_reef), [0.2]), tmp_path, resume=older, epochs=3)
    assert (outcome.epochs, outcome.best_epoch, outcome.best_score) == (3, 3, 0.2)
    assert (noted(tmp_path, "best"), noted(tmp_path, "last")) == (3, 3)
    assert "best weights (epoch 4) are of a branch given up" in caplog.text
    assert "the best weights (epoch 1) are missing; the best is determined again" in caplog.text


def test_last_weights_that_a_kill_kept_from_being_written_are_written(small_reef: Path, tmp_path: Path) -> None:
    fit(make_task(small_reef), tmp_path, epochs=2)
    older = {name: (tmp_path / name).read_bytes() for name in ("last.pt", "last.safetensors")}
    fit(make_task(small_reef), tmp_path, epochs=3)
    wanted = hash_file(tmp_path / "last.safetensors")
    for name, content in older.items():  # as it lies there after a kill behind the last checkpoint
        (tmp_path / name).write_bytes(content)
    fit(make_task(small_reef), tmp_path, epochs=3)
    assert noted(tmp_path, "last") == 3 and hash_file(tmp_path / "last.safetensors") == wanted


def test_a_run_asked_for_fewer_epochs_than_it_has_says_what_becomes_of_them(small_reef: Path, tmp_path: Path) -> None:
    def run(epochs: int) -> RunSummary:
        words = [f"training.epochs={epochs}", "gate.limits.metrics={map50: {minimum: 1.0}}"]
        return run_gated(settings_for(small_reef, tmp_path / "out", *words), Clock())

    first = run(3)
    assert first.longer_than_asked == "" and first.exit_status == 3
    before = read_json(tmp_path / "out" / "run.json")
    shorter = run(2)
    assert shorter.finished_before and shorter.epochs == 3
    assert shorter.failed == first.failed and len(first.failed) == 1, "with the reasons why it failed"
    assert shorter.longer_than_asked.startswith("already trained 3 epochs; 2 requested: nothing is trained")
    assert read_json(tmp_path / "out" / "run.json") == before, "the finished run stays what it is"
    # Interrupted before it was finished, it is measured as it is.
    write_json(tmp_path / "out" / "run.json", {**before, "state": "interrupted", "epochs_asked": 9})
    shorter = run(2)
    assert not shorter.finished_before and shorter.epochs == 3 and shorter.longer_than_asked
    assert [row["epoch"] for row in read_lines(tmp_path / "out" / "metrics.jsonl")] == [1, 2, 3]
    record = read_json(tmp_path / "out" / "run.json")
    assert record["seconds"] > record["training_seconds"] > 0, "measuring takes time, too"
    assert record["seconds"] > before["seconds"], "of all attempts"
    assert record["epochs_asked"] == 3, "nobody asks for the nine any more, and they were not trained"
    created = datetime.fromisoformat(read_json(tmp_path / "out" / "provenance.json")["created"])
    assert created.timestamp() == int(record["started"]), "of the first attempt"
    assert record["started"] < record["attempt_started"]
    assert run(2).longer_than_asked, "told again"
    assert run(4).longer_than_asked == "" and run(4).epochs == 4


def test_fewer_epochs_for_a_run_that_stopped_on_its_way_are_told(
    small_reef: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def run(epochs: int) -> RunSummary:
        return run_gated(settings_for(small_reef, tmp_path / "out", f"training.epochs={epochs}"), Clock())

    run(1)
    before = read_json(tmp_path / "out" / "run.json")
    write_json(tmp_path / "out" / "run.json", {**before, "state": "interrupted", "epochs_asked": 8, "key": ""})
    assert "planned over" not in caplog.text
    assert run(2).epochs == 2
    assert "planned over 8 epochs and is asked for 2 now" in caplog.text
    caplog.clear()
    assert run(3).epochs == 3, "more than a finished run has: nothing to tell"
    assert "planned over" not in caplog.text


def test_a_run_that_goes_back_registers_the_branch_it_is_on(
    small_reef: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["registry.kind=files", f"runs={tmp_path / 'runs'}", "training.keep_checkpoints=9"]
    words += ["training.checkpoint_steps=3", f"store={tmp_path / 'store'}"]
    rising = iter(range(1, 9))
    score = DetectionTask.score
    monkeypatch.setattr(
        DetectionTask, "score", lambda self, shares: {**score(self, shares), "map50_95": next(rising) / 10}
    )

    def settings(epochs: int) -> BaselineSettings:
        return settings_for(small_reef, tmp_path / "out", *words, f"training.epochs={epochs}")

    first = run_gated(settings(4), Clock())
    older = tmp_path / "out" / "checkpoints" / "checkpoint_000000006.pt"
    second = run_gated(settings(2), Clock(), resume=older)
    record = read_json(tmp_path / "out" / "run.json")
    assert (record["epochs"], record["best_epoch"]) == (2, 2)
    assert (noted(tmp_path / "out", "best"), noted(tmp_path / "out", "last")) == (2, 2)
    assert (record["weights"], record["sealed"]) == ("best.pt", "best.safetensors")
    for name in ("weights", "sealed"):
        assert record[f"{name}_sha256"] == hash_file(tmp_path / "out" / record[name])
    assert [row["epoch"] for row in read_lines(tmp_path / "out" / "metrics.jsonl")] == [1, 2]
    (stored,) = (tmp_path / "store").rglob("best.safetensors")
    assert hash_file(stored) == record["sealed_sha256"]
    assert first.version is not None and second.version not in (None, first.version)
    again = run_gated(settings(2), Clock(), resume=older)
    assert again.version == second.version, "the same weights again"


KILLED_BEFORE_A_COPY = """
import os, signal, sys
from marauder.cli.main import main
from marauder.storage.mirror import CheckpointMirror
CheckpointMirror.offer = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_a_branch_given_up_does_not_come_back_from_a_mirror(small_reef: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["training.keep_checkpoints=9", "training.checkpoint_steps=3"]
    words += [f"checkpoint_tiers.volume.address={tmp_path / 'volume'}", "checkpoint_tiers.volume.seconds=0"]
    settings = settings_for(small_reef, out, *words)
    run_gated(settings, Clock())
    older = out / "checkpoints" / "checkpoint_000000003.pt"
    command = ["baseline", "--data-yaml", str(small_reef), "--output", str(out), "--model", "yolov8t", "--imgsz", "64"]
    command += [*QUICK, *words, "--resume", str(older)]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_A_COPY, *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (out / "checkpoints" / "checkpoint_000000006.json").unlink(missing_ok=True)  # had the kill been a moment earlier
    run_gated(settings, Clock())
    resumed = [event["step"] for event in read_lines(out / "events.jsonl") if event["kind"] == "resumed"]
    assert resumed == [3, 3]


def test_a_refused_checkpoint_leaves_the_mirror_as_it_was(small_reef: Path, tmp_path: Path) -> None:
    out, volume = tmp_path / "out", tmp_path / "volume"
    words = [f"checkpoint_tiers.volume.address={volume}", "checkpoint_tiers.volume.seconds=0"]
    settings = settings_for(small_reef, out, *words)
    run_gated(settings, Clock())
    before = sorted(path.relative_to(volume) for path in volume.rglob("checkpoint_*"))
    checkpointer = Checkpointer(tmp_path / "other")
    newest = Checkpointer(out / "checkpoints").newest()
    assert newest is not None
    state = dict(newest.state)
    # As an earlier version may have built it from the same settings.
    state["model"] = {name: tensor[:1] if tensor.dim() == 4 else tensor for name, tensor in state["model"].items()}
    checkpointer.save(state, 1, {}, wait=True)
    with pytest.raises(UserError, match="holds another network than these settings build"):
        run_gated(settings, Clock(), resume=tmp_path / "other" / "checkpoint_000000001.pt")
    assert sorted(path.relative_to(volume) for path in volume.rglob("checkpoint_*")) == before
    assert not list((out / "checkpoints").glob(".mirror*.json")), "no branch was given up"


def bitmaps(data: Path) -> list[Path]:
    """Make the pictures of a data set uncompressed, so that what they show changes no size; those of train."""
    for path in sorted(data.parent.glob("images/*/*.png")):
        cv2.imwrite(str(path.with_suffix(".bmp")), cv2.imread(str(path)))
        path.unlink()
    return sorted(data.parent.glob("images/train/*.bmp"))


def test_pictures_rewritten_at_the_same_size_are_other_data(tmp_path: Path) -> None:
    data = write_small_reef(tmp_path / "data")
    pictures = bitmaps(data)
    run_gated(settings_for(data, tmp_path / "out"), Clock())
    before = read_json(tmp_path / "out" / "run.json")
    for path in pictures:
        state = path.stat()
        cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # as by what unpacks or copies with times
        assert path.stat().st_size == state.st_size
    with pytest.raises(UserError, match="other pictures, labels or weights"):
        run_gated(settings_for(data, tmp_path / "out"), Clock())
    assert read_json(tmp_path / "out" / "run.json") == before
    checkpoint = tmp_path / "out" / "checkpoints"
    with pytest.raises(UserError, match="other pictures, labels or weights"):
        run_gated(settings_for(data, tmp_path / "out"), Clock(), resume=checkpoint)
    assert read_json(tmp_path / "out" / "run.json") == before, "what refuses a checkpoint leaves the run as it is"


def test_a_finished_checkpoint_of_another_folder_gives_weights(small_reef: Path, tmp_path: Path) -> None:
    fit(make_task(small_reef), tmp_path / "one")
    (tmp_path / "two").mkdir()
    outcome = fit(make_task(small_reef), tmp_path / "two", resume=tmp_path / "one" / "checkpoints")
    assert outcome.best_epoch == 3
    assert hash_file(tmp_path / "two" / "last.safetensors") == hash_file(tmp_path / "one" / "last.safetensors")
    assert (tmp_path / "two" / "best.pt").is_file()


def test_it_is_said_whose_checkpoint_it_is_and_that_there_is_none(
    small_reef: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    off = [f"gate.{name}=off" for name in ("sanity", "determinism", "drift")] + ["export.formats=[]"]
    one, two = (settings_for(small_reef, tmp_path / name, *off, "training.epochs=1") for name in ("one", "two"))
    nothing = f"nothing to resume in {tmp_path / 'one'}: starts from the beginning"
    run_gated(one, Clock(), asked_to_resume=True)
    assert nothing in caplog.text
    caplog.clear()
    assert run_gated(one, Clock(), asked_to_resume=True).finished_before
    run_gated(one, Clock(), resume=tmp_path / "one" / "checkpoints", asked_to_resume=True)
    assert "resume" not in caplog.text and "checkpoint of" not in caplog.text, "it is its own"
    run_gated(two, Clock(), resume=tmp_path / "one" / "checkpoints")
    of_another = f"is a checkpoint of another run, one in {tmp_path / 'one'}, which has the same settings and data"
    assert f"{of_another}: the run in {tmp_path / 'two'} continues from its step 3" in caplog.text


@pytest.mark.parametrize("lost", [["best.safetensors"], ["best.pt"], ["best.pt", "best.safetensors"]])
def test_lost_or_damaged_weights_are_made_anew(small_reef: Path, tmp_path: Path, lost: list[str]) -> None:
    run_gated(settings_for(small_reef, tmp_path), Clock())
    before = {name: hash_file(tmp_path / name) for name in ("best.safetensors", "best.pt")}
    for number, name in enumerate(lost):
        if number:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(b"damaged")
    run_gated(settings_for(small_reef, tmp_path), Clock())
    after = {name: hash_file(tmp_path / name) for name in before}
    if len(lost) == 1:
        assert after["best.safetensors"] == before["best.safetensors"]
    assert load_detector(tmp_path / "best.pt").names == NAMES


def test_loading_processes_and_stored_pictures_do_not_change_the_weights(small_reef: Path, tmp_path: Path) -> None:
    hashes = set()
    for name, overrides in {
        "plain": ["cache_gigabytes=0"], "stored": [], "workers": ["training.workers=2"],
    }.items():  # fmt: skip
        run_gated(settings_for(small_reef, tmp_path / name, *overrides), Clock())
        hashes.add(hash_file(tmp_path / name / "last.safetensors"))
    assert len(hashes) == 1


def test_an_unreadable_picture_is_set_aside_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_small_reef(tmp_path / "data")
    victim, other = sorted((tmp_path / "data" / "images" / "train").iterdir())[:2]
    content = other.read_bytes()
    victim.write_bytes(content[:60] + b"\0" * 40)  # a header that promises a picture, and no picture
    run_gated(settings_for(data, tmp_path / "out"), Clock())
    events = [event for event in read_lines(tmp_path / "out" / "events.jsonl") if event["kind"] == "set_aside"]
    problems = caplog.text
    assert victim.name in problems
    assert len(events) <= 1, "reported once, not every epoch"


class Short(DetectionTask):
    """Runs out of memory for more than two samples at a time."""

    def inputs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if len(batch["images"]) > 2:
            raise torch.OutOfMemoryError("planted: out of memory")
        return super().inputs(batch)


def test_out_of_memory_halves_the_micro_batch_and_goes_on(small_reef: Path, tmp_path: Path) -> None:
    base = make_task(small_reef)
    outcome = fit(Short(base.plan, None, 0), tmp_path, batch_size=8)
    events = [event for event in read_lines(tmp_path / "events.jsonl") if event["kind"] == "out_of_memory"]
    assert [event["micro_batch_size"] for event in events] == [4, 2]
    assert outcome.epochs == 3


def poisoned(task: DetectionTask, value: float, after: int) -> DetectionTask:
    """Multiply the loss by ``value`` from call ``after`` on."""
    original, calls = task.criterion, {"count": 0}

    def criterion(model: torch.nn.Module) -> Callable[..., Any]:
        sums = original(model)

        def poisoned_sums(outputs: Any, batch: Any) -> Any:
            calls["count"] += 1
            numerators, weight = sums(outputs, batch)
            return (numerators * value if calls["count"] > after else numerators), weight

        return poisoned_sums

    task.criterion = criterion  # type: ignore[method-assign]
    return task


def test_a_loss_that_is_no_number_stops_the_run_with_the_batch_and_it_goes_on(small_reef: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure, match="loss is nan") as failure:
        fit(poisoned(make_task(small_reef), math.nan, 5), tmp_path)
    saved = torch.load(tmp_path / "failed_batch_rank0.pt", weights_only=True)
    assert saved["step"] == 5
    assert saved["images"].shape[0] == 4
    assert all(Path(name).is_file() and name in str(saved["pictures"]) for name in saved["pictures"])
    assert Path(saved["pictures"][0]).name in str(failure.value)
    outcome = fit(make_task(small_reef), tmp_path)
    resumed = [event["step"] for event in read_lines(tmp_path / "events.jsonl") if event["kind"] == "resumed"]
    assert resumed == [4]
    assert outcome.epochs == 3


def test_an_exploding_loss_stops_the_run(small_reef: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure, match="times its running mean"):
        fit(poisoned(make_task(small_reef), 1e6, 60), tmp_path, epochs=40, evaluate_every=40)


def test_sanity_check_catches_a_loss_that_cannot_fall(small_reef: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did not fall"):
        fit(poisoned(make_task(small_reef), 0.0, 0), tmp_path, sanity_check=True)
    with pytest.raises(UserError, match="sanity check: loss nan"):
        fit(poisoned(make_task(small_reef), math.nan, 0), tmp_path, sanity_check=True)
    assert fit(make_task(small_reef), tmp_path, sanity_check=True).epochs == 3


def test_what_the_sanity_gate_does_is_no_setting_of_the_training(small_reef: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.sanity_check: no such setting here: the gate sanity"):
        settings_for(small_reef, tmp_path, "training.sanity_check=false")


def test_early_stopping_stays_stopped_and_more_patience_goes_on(small_reef: Path, tmp_path: Path) -> None:
    task = make_task(small_reef)
    task.score = lambda shares: {"map50_95": 0.5}  # type: ignore[method-assign]
    assert fit(task, tmp_path, epochs=9, patience=2).epochs == 3
    again = fit(task, tmp_path, epochs=9, patience=2)
    assert (again.epochs, again.stopped_early) == (3, True)
    assert fit(task, tmp_path, epochs=9, patience=4).epochs == 5
    told = [event for event in read_lines(tmp_path / "events.jsonl") if event["kind"] == "stopped_early"]
    assert [(event["epoch"], event["of_epochs"]) for event in told] == [(3, 9), (5, 9)]
    stopped = fit(task, tmp_path, epochs=6, patience=4)
    assert (stopped.epochs, stopped.stopped_early) == (5, True), "more patience is needed, not more epochs"
    # What is advised then does train longer.
    settings = settings_for(small_reef, tmp_path, "training.epochs=3", "training.patience=4")
    assert commands_of(settings, stopped).longer.endswith(" training.epochs=20 training.patience=0")
    many = replace(stopped, epochs=40, stopped_early=False)
    assert commands_of(settings, many).longer.endswith(" training.epochs=80"), "more than it has already"
    assert fit(task, tmp_path, epochs=6, patience=0).epochs == 6


def test_stopping_early_is_told_wherever_people_look(
    small_reef: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DetectionTask, "score", lambda self, shares: {"map50_95": 0.0, "map50": 0.0})
    settings = settings_for(small_reef, tmp_path, "training.epochs=6", "training.patience=2")
    for _ in range(2):  # the second time it is found finished
        show(run_gated(settings, Clock()))
        told = "stopped early after 3 of 6 epochs: map50_95 did not rise above 0 (epoch 1) in 2 evaluations"
        assert f"note: {told}" in " ".join(capsys.readouterr().out.split())
    assert told in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert told in read_json(tmp_path / "run.json")["stopped_early"]
    assert any(told in event.get("why", "") for event in read_lines(tmp_path / "events.jsonl"))


def test_stopping_in_an_evaluation_goes_on_with_it(small_reef: Path, tmp_path: Path) -> None:
    whole = fit(make_task(small_reef), tmp_path / "whole")
    task = make_task(small_reef)
    clock = Clock()
    predict = task.predict

    def stop_then_predict(*values: Any) -> Any:
        if not (tmp_path / "cut" / "stopped").exists():
            (tmp_path / "cut" / "stopped").touch()
            clock.signal_name = "SIGTERM"
        return predict(*values)

    task.predict = stop_then_predict  # type: ignore[method-assign]
    (tmp_path / "cut").mkdir()
    with pytest.raises(Interrupted, match="saved at step 3"):
        fit(task, tmp_path / "cut", clock=clock)
    assert read_lines(tmp_path / "cut" / "metrics.jsonl") == []
    resumed = fit(task, tmp_path / "cut")
    assert [row["val/map50"] for row in resumed.history] == [row["val/map50"] for row in whole.history]
    assert hash_file(tmp_path / "cut" / "best.safetensors") == hash_file(tmp_path / "whole" / "best.safetensors")


def test_an_unknown_metric_for_best_is_named(small_reef: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"best_metric 'accuracy'.*map50"):
        fit(make_task(small_reef), tmp_path, best_metric="accuracy")


def test_data_without_boxes_or_splits_is_a_clear_error(tmp_path: Path) -> None:
    data = write_small_reef(tmp_path / "data")
    for label in (tmp_path / "data" / "labels" / "val").iterdir():
        label.write_text("")
    with pytest.raises(UserError, match=r"'val'.*not one box"):
        run_gated(settings_for(data, tmp_path / "out"), Clock())
    shutil.rmtree(tmp_path / "data" / "images" / "val")
    with pytest.raises(UserError, match="val"):
        run_gated(settings_for(data, tmp_path / "out"), Clock())


def test_weights_of_another_run_are_taken_where_they_fit(
    small_reef: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="marauder")
    first = run_gated(settings_for(small_reef, tmp_path / "first"), Clock())
    run_gated(settings_for(small_reef, tmp_path / "second", f"weights={first.weights}"), Clock())
    assert "tensors taken, 0 stay as initialised" in caplog.text
    run_gated(settings_for(small_reef, tmp_path / "third", f"ssl_backbone={first.weights}"), Clock())
    assert read_json(tmp_path / "third" / "run.json")["epochs"] == 2
    wrong = settings_for(small_reef, tmp_path / "fourth", f"weights={first.weights}").model_copy(
        update={"model": "yolo11n"}
    )
    with pytest.raises(UserError, match="tensors fit yolo11n"):
        run_gated(wrong, Clock())


def detector_of_many_classes(folder: Path) -> Path:
    """A saved detector whose class branch is wider than that of a few classes: 50 channels, not 16."""
    names = [*(f"species {number}" for number in range(49)), "square"]
    save_detector(build_detector("yolov8t", names, seed=3), folder / "source", 64, {})
    return folder / "source.safetensors"


def test_a_training_from_weights_of_other_classes_resumes_bit_for_bit_and_keeps_their_branch(
    small_reef: Path, tmp_path: Path
) -> None:
    source = detector_of_many_classes(tmp_path)
    whole = fit(make_task(small_reef, source), tmp_path / "whole")
    clock, task = Clock(), make_task(small_reef, source)
    load = task.load

    def load_and_stop(keys: Any, context: Any) -> Any:
        clock.signal_name = "SIGTERM"
        return load(keys, context)

    task.load = load_and_stop  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        fit(task, tmp_path / "cut", clock=clock)
    resumed = fit(make_task(small_reef, source), tmp_path / "cut")
    assert [row["val/map50"] for row in resumed.history] == [row["val/map50"] for row in whole.history]
    for name in ("best.safetensors", "last.safetensors", "last.pt"):
        assert hash_file(tmp_path / "cut" / name) == hash_file(tmp_path / "whole" / name)
    for suffix in (".pt", ".safetensors"):
        assert class_branch_width(load_detector(tmp_path / "cut" / f"last{suffix}").model) == 50


def test_a_run_from_weights_of_other_classes_says_so_and_leaves_files_that_open(
    small_reef: Path, tmp_path: Path
) -> None:
    source = detector_of_many_classes(tmp_path)
    summary = run_gated(settings_for(small_reef, tmp_path / "run", f"weights={source}"), Clock())
    listing = (tmp_path / "run" / "transfer_account.txt").read_text(encoding="utf-8")
    assert "class branch: 50 channels wide as in the source, not 16" in listing
    assert "classes taken by name: 1 of 3 (square); as initialised: disc, cross" in listing
    opened = YOLO(summary.weights.with_suffix(".pt"))
    assert opened.names == dict(enumerate(NAMES))
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        # Not to the last bit: Ultralytics keeps the layout in memory that training left.
        torch.testing.assert_close(opened.model.eval()(picture)[0], load_detector(summary.weights).model(picture)[0])


def test_a_checkpoint_of_another_network_is_refused_in_words(small_reef: Path, tmp_path: Path) -> None:
    fit(make_task(small_reef), tmp_path / "run", epochs=1)
    kept = hash_file(tmp_path / "run" / "last.safetensors")
    with pytest.raises(UserError, match=r"cv3.*: 16x16x3x3 there, 50x16x3x3 here.*earlier version.*--fresh"):
        fit(make_task(small_reef, detector_of_many_classes(tmp_path)), tmp_path / "run", epochs=2)
    assert hash_file(tmp_path / "run" / "last.safetensors") == kept
    assert fit(make_task(small_reef), tmp_path / "run", epochs=2).epochs == 2


@pytest.mark.slow
def test_it_learns_to_tell_shapes_apart(tmp_path: Path) -> None:
    data = write_small_reef(tmp_path / "data", train=96, val=32)
    overrides = ["training.epochs=30", "training.batch_size=8", "training.optimizer.name=adamw",
                 "training.optimizer.learning_rate=0.005", "training.evaluate_every=30"]  # fmt: skip
    summary = run_gated(settings_for(data, tmp_path / "out", *overrides), Clock())
    assert summary.split == "val"
    assert summary.metrics["map50"] is not None
    assert summary.metrics["map50"] > 0.5, f"{NAMES}: {summary.metrics}"
