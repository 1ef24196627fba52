"""What an observer hears of a training, and that hearing costs next to nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import Files, LineTask, make_trainer

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, read_lines
from marauder.engine.observer import Observer
from marauder.engine.telemetry import Telemetry
from marauder.engine.timing import Stopwatch

NUMBERS = {
    "train/square", "train/absolute", "train/loss", "learning_rate", "gradient_norm/mean", "gradient_norm/max",
    "data_wait/seconds", "data_wait/share", "update/seconds", "pictures_per_second", "memory/process_gigabytes",
}  # fmt: skip


class Listener(Observer):
    """Keeps all it hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, float]]] = []
        self.epochs: list[tuple[int, dict[str, float]]] = []
        self.checkpoints: list[tuple[str, int, bool]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def stepped(self, step: int, values: Mapping[str, float]) -> None:
        self.steps.append((step, dict(values)))

    def epoch_ended(self, epoch: int, row: Mapping[str, float]) -> None:
        self.epochs.append((epoch, dict(row)))

    def checkpointed(self, path: Path, step: int) -> None:
        self.checkpoints.append((path.name, step, path.is_file() and path.with_suffix(".json").is_file()))

    def happened(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.events.append((kind, dict(fields)))


def test_an_observer_hears_steps_epochs_checkpoints_and_events(tmp_path: Path) -> None:
    listener = Listener()
    make_trainer(LineTask(), tmp_path, listener, log_steps=5).fit()
    assert [step for step, _ in listener.steps] == [5, 10, 12], "every 5 updates, and the last ones"
    for _, values in listener.steps:
        assert values.keys() == NUMBERS
        assert all(math.isfinite(value) for value in values.values())
        assert values["train/loss"] == pytest.approx(values["train/square"] + values["train/absolute"])
        assert 0 < values["gradient_norm/mean"] <= values["gradient_norm/max"]
        assert 0 <= values["data_wait/share"] <= 1
        assert values["memory/process_gigabytes"] > 0.01
    assert [epoch for epoch, _ in listener.epochs] == [1, 2, 3]
    assert [row["step"] for _, row in listener.epochs] == [4, 8, 12]
    assert [(step, whole) for _, step, whole in listener.checkpoints] == [(step, True) for step in (2, 4, 6, 8, 10, 12)]
    kinds = [event["kind"] for event in read_lines(tmp_path / "events.jsonl")]
    assert [kind for kind, _ in listener.events] == kinds == ["started", "finished"]


def test_rows_keep_every_metric_and_any_listed_one_picks_the_best(tmp_path: Path) -> None:
    task = LineTask()
    task.scores = lambda number: {
        "accuracy": 0.5,
        "slice/dark/accuracy": [0.2, 0.9, 0.4][number - 1],
        "class/x/ap": 1.0,
    }
    outcome = make_trainer(task, tmp_path, best_metric="slice/dark/accuracy").fit()
    assert (outcome.best_epoch, outcome.best_score) == (2, 0.9)
    assert [row["val/slice/dark/accuracy"] for row in read_lines(tmp_path / "metrics.jsonl")] == [0.2, 0.9, 0.4]
    assert all(row["val/class/x/ap"] == 1.0 for row in outcome.history)


def test_a_metric_that_is_undefined_is_worse_than_any_and_one_that_is_missing_is_an_error(tmp_path: Path) -> None:
    task = LineTask()
    task.scores = lambda number: {"accuracy": [math.nan, 0.0, math.nan][number - 1]}
    outcome = make_trainer(task, tmp_path / "undefined").fit()
    assert (outcome.best_epoch, outcome.best_score) == (2, 0.0)
    task = LineTask()
    task.scores = lambda number: {"other": 1.0}
    with pytest.raises(UserError, match="best_metric 'accuracy': the evaluation gave only: other"):
        make_trainer(task, tmp_path / "missing").fit()


def test_an_observer_changes_nothing(tmp_path: Path) -> None:
    make_trainer(LineTask(), tmp_path / "alone").fit()
    make_trainer(LineTask(), tmp_path / "observed", Listener(), log_steps=1).fit()
    assert hash_file(tmp_path / "alone" / "last.st") == hash_file(tmp_path / "observed" / "last.st")


def test_a_resumed_training_tells_that_it_is_one(tmp_path: Path) -> None:
    clock = Clock()
    task = LineTask()
    load, drawn = task.load, []

    def load_and_stop(keys: Any, context: Any) -> Any:
        drawn.append(keys)
        if len(drawn) == 6:
            clock.notice = "the machine goes away"
        return load(keys, context)

    task.load = load_and_stop  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="the machine goes away; saved at step 6"):
        make_trainer(task, tmp_path, clock=clock).fit()
    listener = Listener()
    make_trainer(LineTask(), tmp_path, listener, log_steps=4).fit()
    assert [kind for kind, _ in listener.events] == ["resumed", "finished"]
    assert listener.events[0][1]["step"] == 6
    assert [step for step, _ in listener.steps] == [8, 12]
    make_trainer(LineTask(), tmp_path / "whole").fit()
    whole, resumed = Files(tmp_path / "whole").read("last"), Files(tmp_path).read("last")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_numbers_are_means_since_the_last_report() -> None:
    stopwatch = Stopwatch()
    telemetry = Telemetry(("a", "b"), 8, torch.device("cpu"), stopwatch)
    for losses, norm in (((1.0, 3.0), 2.0), ((3.0, 5.0), float("inf"))):
        with stopwatch.measure("data"):
            time.sleep(0.02)
        with stopwatch.measure("update"):
            time.sleep(0.02)
        with stopwatch.measure("evaluation"):
            time.sleep(0.1)
        telemetry.add(losses, norm)
    values = telemetry.report(0.1)
    assert (values["train/a"], values["train/b"], values["train/loss"]) == (2.0, 4.0, 6.0)
    assert (values["gradient_norm/mean"], values["gradient_norm/max"]) == (2.0, 2.0), "what is not finite is left out"
    assert values["data_wait/seconds"] == pytest.approx(0.02, rel=0.5)
    assert values["update/seconds"] == pytest.approx(0.02, rel=0.5), "the evaluation is no part of a step"
    assert values["data_wait/share"] == pytest.approx(0.5, abs=0.2)
    assert values["pictures_per_second"] == pytest.approx(8 / 0.04, rel=0.5)
    telemetry.add((7.0, 7.0), 1.0)
    assert telemetry.report(0.1)["train/loss"] == 14.0


def test_hearing_costs_less_than_a_hundredth_of_a_short_step() -> None:
    """A step of a small detector takes 20 ms at least; telemetry and stopwatch may take 0.2 ms of it."""
    stopwatch = Stopwatch()
    telemetry = Telemetry(("box", "cls", "dfl"), 16, torch.device("cpu"), stopwatch)
    started, steps = time.perf_counter(), 2000
    for step in range(steps):
        with stopwatch.measure("data"), stopwatch.measure("update"):
            telemetry.add((1.0, 2.0, 3.0), 4.0)
        if step % 10 == 9:
            telemetry.report(0.1)
    assert (time.perf_counter() - started) / steps < 2e-4
