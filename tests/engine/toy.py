"""A task that takes microseconds: fit a line, one number a sample. With planted faults, for tests of the engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from marauder.core.clock import Clock
from marauder.core.files import read_json, write_json
from marauder.core.randomness import stream
from marauder.engine.distributed import Group
from marauder.engine.observer import Observer
from marauder.engine.settings import OptimizerSettings, TrainingSettings
from marauder.engine.task import Batch, LocalBatch, SampleContext, SampleKey, Trouble
from marauder.engine.trainer import Trainer

SAMPLES = 16


class Line(torch.nn.Module):
    """y = a x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images)


class LineTask:
    """Fits y = 2 x + 1. ``kill_at`` and ``stall_at``: the sample whose loading kills, or stalls, its process."""

    loss_names: tuple[str, ...] = ("square", "absolute")
    metric_names: tuple[str, ...] = ("accuracy", "slice/dark/accuracy")
    training_length = SAMPLES

    def __init__(self, kill_at: int | None = None, stall_at: int | None = None) -> None:
        self.kill_at, self.stall_at = kill_at, stall_at
        self.factor: Callable[[], float] = lambda: 1.0
        self.scores: Callable[[int], dict[str, float]] = lambda number: {
            "accuracy": 0.1 * number,
            "slice/dark/accuracy": 0.5,
            "class/crab/ap50": float("nan"),
        }
        self.evaluations = 0

    def build_model(self, seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Line()

    def criterion(self, model: torch.nn.Module) -> Any:
        def sums(outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            difference = (outputs - batch["targets"]) * self.factor()
            return torch.stack([difference.square().sum(), difference.abs().sum()]), torch.tensor(len(outputs) * 1.0)

        return sums

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        return SampleContext()

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        for key in keys:
            if key.index == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if key.index == self.stall_at:
                time.sleep(3600)
        values = [stream(0, "x", key.epoch, key.index).random() for key in keys]
        images = torch.tensor(values, dtype=torch.float32)[:, None]
        return LocalBatch({"images": images, "targets": 2 * images + 1}, list(keys))

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        return {name: tensor[start:stop] for name, tensor in batch.items()}

    def inputs(self, batch: Batch) -> torch.Tensor:
        return batch["images"]

    def updated(self, model: torch.nn.Module, step: int, steps: int) -> None:
        pass

    def predict(self, model: torch.nn.Module, rank: int, size: int, should_stop: Callable[[], bool]) -> Any:
        return None if should_stop() else [rank]

    def score(self, shares: list[Any]) -> dict[str, float]:
        self.evaluations += 1
        return self.scores(self.evaluations)

    def trouble(self, metrics: Mapping[str, float]) -> Trouble | None:
        return None

    def describe_batch(self, keys: list[SampleKey]) -> list[str]:
        return [f"picture{key.index}.png" for key in keys]

    def close(self, remove: bool = False) -> None:
        pass


class Files:
    """Weights as safetensors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, model: torch.nn.Module, name: str, about: dict[str, Any]) -> None:
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, self.folder / f"{name}.st")
        write_json(self.folder / f"{name}.json", about)

    def about(self, name: str) -> Mapping[str, Any] | None:
        if not (self.folder / f"{name}.st").is_file():
            return None
        noted: dict[str, Any] = read_json(self.folder / f"{name}.json")
        return noted

    def files(self, name: str) -> Sequence[Path]:
        return [self.folder / f"{name}.st"]

    def read(self, name: str) -> dict[str, torch.Tensor]:
        return load_file(self.folder / f"{name}.st")


def make_trainer(
    task: LineTask,
    folder: Path,
    observer: Observer | None = None,
    clock: Clock | None = None,
    section: str = "training",
    **values: Any,
) -> Trainer:
    """A trainer of ``task`` in ``folder``, 4 updates an epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    defaults: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 4,
        "checkpoint_steps": 2,
        "workers": 0,
        "device": "cpu",
        "optimizer": OptimizerSettings(learning_rate=0.01, warmup_epochs=0),
    }
    settings = TrainingSettings(**{**defaults, **values})
    return Trainer(
        task,
        settings,
        Group(),
        folder,
        folder / "checkpoints",
        Files(folder),
        clock or Clock(),
        "data",
        observer=observer,
        section=section,
    )
