"""What the engine tells a task: the context of each update, each that was made, and each evaluation, which may end the
training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from toy import LineTask, make_trainer

from marauder.core.clock import Clock, Interrupted
from marauder.engine.failures import TrainingFailure
from marauder.engine.task import Batch, LocalBatch, SampleContext, SampleKey, Trouble


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


class SizedTask(LineTask):
    """Every other update has samples of twice the size; the last epoch is closing. More than ``room`` base-size samples
    do not fit into a forward pass."""

    room = 4

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[int, int]] = []

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        return SampleContext(epoch == epochs - 1, image_size=64 if step % 2 else 32, base_image_size=32)

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        local = super().load(keys, context)
        size = torch.full((len(keys), 1), float(context.image_size or 0))
        local.tensors |= {"size": size, "closing": torch.full((len(keys), 1), float(context.closing))}
        return local

    def inputs(self, batch: Batch) -> torch.Tensor:
        size = int(batch["size"][0])
        if len(batch["size"]) * size**2 > self.room * 32**2:
            raise torch.OutOfMemoryError("planted")
        self.passes.append((size, len(batch["size"])))
        return super().inputs(batch)


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_and_passes_follow_the_context_of_their_update(tmp_path: Path, workers: int) -> None:
    task = SizedTask()
    trainer = make_trainer(task, tmp_path, workers=workers)
    step, closing = trainer._step, []

    def watched(batch: Batch) -> object:
        closing.append(bool(batch["closing"].all()))
        return step(batch)

    trainer._step = watched  # type: ignore[method-assign, assignment]
    trainer.fit()
    assert closing == [False] * 8 + [True] * 4, "also after loading ahead"
    assert task.passes == [(32, 4), *[(64, 1)] * 4] * 6


def test_out_of_memory_at_a_larger_size_halves_until_it_fits(tmp_path: Path) -> None:
    task = SizedTask()
    task.room = 8
    trainer = make_trainer(task, tmp_path, batch_size=16, epochs=2)
    trainer.fit()
    assert task.passes == [(32, 8)] * 2 + [(64, 2)] * 8
    assert trainer.state.position.micro_batch_size == 8
    small = SizedTask()
    small.room = 3  # not even one of the larger
    with pytest.raises(TrainingFailure, match="out of memory at step 1 with one sample") as failure:
        make_trainer(small, tmp_path / "small").fit()
    assert failure.value.kind == "out_of_memory"
