"""What a task brings to the engine: a model, samples, a loss in sums, an evaluator. The engine knows no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from marauder.core.plain import Plain, PlainMapping

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Names one training sample: its content is a function of the seed, this key and the sample's context."""

    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class SampleContext:
    """What the samples of one update have in common beside their keys, as the task decides it for that update.

    The engine hands it on and reads only the sizes, since they say how many samples fit into one forward pass.
    Raises ``ValueError`` for one size without the other.
    """

    closing: bool = False
    """Whether samples are drawn as at the end of a training, closer to plain pictures (a detector's without mosaic)."""
    image_size: int | None = None
    """Pixels of a side; ``None``: the task's own size."""
    base_image_size: int | None = None
    """Pixels of a side of the samples that ``training.micro_batch_size`` counts; ``None`` where ``image_size`` is."""

    def __post_init__(self) -> None:
        if (self.image_size is None) != (self.base_image_size is None):
            raise ValueError("image_size and base_image_size go together: give both or neither")

    def samples_per_pass(self, micro_batch_size: int) -> int:
        """Samples of one forward pass: as many as have the pixels of ``micro_batch_size`` of the base size, but one at
        least."""
        if self.image_size is None or self.base_image_size is None:
            return micro_batch_size
        # Memory of a forward pass grows with the pixels, the square of the side.
        return max(1, micro_batch_size * self.base_image_size**2 // self.image_size**2)


@dataclass
class LocalBatch:
    """One process's share of a global batch: ``tensors`` with the samples along the first axis of ``images``."""

    tensors: Batch
    keys: list[SampleKey]
    set_aside: dict[str, str] = field(default_factory=dict)
    """Pictures of this batch that could not be used, and why."""

    def pin_memory(self) -> LocalBatch:
        """Move the tensors to page-locked memory; the loader calls this for GPU training."""
        self.tensors = {key: tensor.pin_memory() for key, tensor in self.tensors.items()}
        return self


@dataclass(frozen=True, slots=True)
class Trouble:
    """What an evaluation shows to be wrong beyond repair: what was seen, and what to change."""

    why: str
    remedy: str


class Criterion(Protocol):
    """Loss of a model, in sums and counts that add up over any cut of a batch."""

    def __call__(self, outputs: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums (k,), one per part of the loss, and what each is divided by once those of the global batch are added up:
        counts (k,), or () or (1,) where all parts share one. Counts have no gradient, and one below 1 counts as 1.

        Counts that differ by part must be known before a backward pass, so that micro-batches still to come are passed
        forward once more to count them. All that a call changes must therefore stand in the model's buffers, which
        are put back.
        """


def loss_of(sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The loss () of a batch taken by itself, from what a ``Criterion`` says of it."""
    return (sums / counts.clamp(min=1)).sum()


class Task(Protocol):
    """A kind of training."""

    training_length: int

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The parts of the loss, as ``criterion`` gives them."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What ``score`` measures; one of them picks the best weights."""

    def build_model(self, seed: int) -> nn.Module:
        """The model to start from, its weights a function of ``seed``."""

    def criterion(self, model: nn.Module) -> Criterion:
        """The loss of ``model`` (on its device)."""

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        """What the samples of the update ``step`` (from 0) have in common, in ``epoch`` (from 0) of ``epochs``: a
        function of the arguments and the task's own settings, the same on every rank."""

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        """Load and collate samples; called in loading processes."""

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        """The samples ``start`` to ``stop`` of a batch."""

    def inputs(self, batch: Batch) -> torch.Tensor:
        """The model's input, float, from a batch on the model's device."""

    def updated(self, model: nn.Module, step: int, steps: int) -> None:
        """Called on every rank once the optimiser has made the update ``step`` (from 0) of ``steps``, before the
        average takes in the weights: what follows the weights without a gradient (a momentum teacher) goes on here.
        The same on every rank, and of nothing but the arguments and the model's own state.
        """

    def predict(self, model: nn.Module, rank: int, size: int, should_stop: Callable[[], bool]) -> Any:
        """This rank's share of the validation predictions, anything that travels between processes.

        ``None`` when ``should_stop`` said so before it was complete.
        """

    def score(self, shares: list[Any]) -> dict[str, float]:
        """Metrics from all ranks' predictions."""

    def trouble(self, metrics: Mapping[str, float]) -> Trouble | None:
        """Why training must stop after an evaluation that gave ``metrics``; ``None``: it goes on. A function of the
        metrics alone, since every rank asks."""

    def describe_batch(self, keys: list[SampleKey]) -> list[str]:
        """The pictures behind sample keys, for messages."""

    def close(self, remove: bool = False) -> None:
        """Release what was kept for speed; ``remove`` also deletes it from the disk."""


class Weights(Protocol):
    """Where a training leaves weights under the names ``best`` and ``last``."""

    def save(self, model: nn.Module, name: str, about: Plain) -> None:
        """Write a model's weights with what to remember of them."""

    def about(self, name: str) -> PlainMapping | None:
        """What was noted with the weights of that name when they were saved, and maybe more, as JSON knows it; ``None``
        unless they are there and whole."""

    def files(self, name: str) -> Sequence[Path]:
        """The files that hold the weights of that name, whether they are there or not."""
