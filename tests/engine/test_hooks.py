"""What the engine tells a task: each update that was made, and each evaluation, which may end the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from toy import LineTask, make_trainer

from marauder.core.clock import Clock, Interrupted
from marauder.engine.failures import TrainingFailure
from marauder.engine.task import Trouble


class FollowedTask(LineTask):
    """Fits a line while a buffer of the model follows its weight, as a momentum teacher does."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[int, int]] = []
        self.trouble_at = 0

    def build_model(self, seed: int) -> torch.nn.Module:
        model = super().build_model(seed)
        model.register_buffer("follower", torch.zeros(1, 1))
        return model

    def updated(self, model: torch.nn.Module, step: int, steps: int) -> None:
        self.told.append((step, steps))
        with torch.no_grad():
            model.get_buffer("follower").lerp_(model.get_parameter("layer.weight"), 0.25)

    def trouble(self, metrics: Mapping[str, float]) -> Trouble | None:
        return (
            Trouble("all pictures look the same", "choose another method")
            if self.evaluations == self.trouble_at
            else None
        )


class StopAfter(Clock):
    """Asks to stop once it was asked ``times``."""

    times = 5

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        self.times -= 1
        return "time is up" if self.times <= 0 else None


def test_every_update_is_told_once_with_its_number(tmp_path: Path) -> None:
    task = FollowedTask()
    make_trainer(task, tmp_path).fit()
    assert task.told == [(step, 12) for step in range(12)]


def test_what_follows_the_weights_goes_on_exactly_after_an_interruption(tmp_path: Path) -> None:
    whole = make_trainer(FollowedTask(), tmp_path / "whole")
    whole.fit()
    with pytest.raises(Interrupted):
        make_trainer(FollowedTask(), tmp_path / "parts", clock=StopAfter()).fit()
    task = FollowedTask()
    parts = make_trainer(task, tmp_path / "parts")
    parts.fit()
    assert 0 < task.told[0][0] < 11
    for name, value in whole.state.model.state_dict().items():
        assert torch.equal(value, parts.state.model.state_dict()[name])
        # The average takes in what the task did after the update, not what was there before it.
        assert torch.equal(whole.state.average.model.state_dict()[name], parts.state.average.model.state_dict()[name])


def test_trouble_after_an_evaluation_ends_the_training_in_the_tasks_words(tmp_path: Path) -> None:
    task = FollowedTask()
    task.trouble_at = 2
    with pytest.raises(TrainingFailure, match=r"step 8: all pictures look the same\. choose") as failure:
        make_trainer(task, tmp_path).fit()
    assert (failure.value.kind, failure.value.exit_status) == ("collapsed", 3)
    assert len(task.told) == 8
