"""A task of the engine that is small enough to break on purpose: points on a line, a network of two layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from marauder.core.randomness import stream
from marauder.engine.task import Batch, LocalBatch, SampleContext, SampleKey, Trouble


class PointsTask:
    """Fits y = 3x - 1. Its parts are methods that a test replaces."""

    loss_names: tuple[str, ...] = ("squared",)
    training_length = 20
    metric_names: tuple[str, ...] = ("error",)

    def build_model(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))

    def criterion(self, model: nn.Module) -> Callable[[Any, Batch], tuple[torch.Tensor, torch.Tensor]]:
        def loss(outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            return ((outputs - batch["y"]) ** 2).sum().reshape(1), torch.tensor(float(len(outputs)))

        return loss

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        return SampleContext()

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        x = np.array([stream(0, "point", key.epoch, key.index).normal() for key in keys], np.float32)[:, None]
        return LocalBatch({"images": torch.from_numpy(x), "y": torch.from_numpy(3 * x - 1)}, list(keys))

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        return {name: values[start:stop] for name, values in batch.items()}

    def inputs(self, batch: Batch) -> torch.Tensor:
        return batch["images"]

    def updated(self, model: torch.nn.Module, step: int, steps: int) -> None:
        pass

    def predict(self, model: nn.Module, rank: int, size: int, should_stop: Callable[[], bool]) -> Any:
        return []

    def score(self, shares: list[Any]) -> dict[str, float]:
        return {"error": 0.0}

    def trouble(self, metrics: Mapping[str, float]) -> Trouble | None:
        return None

    def describe_batch(self, keys: list[SampleKey]) -> list[str]:
        return [str(key.index) for key in keys]

    def close(self, remove: bool = False) -> None:
        """Nothing is kept."""
