"""The order of samples and the processes that load them ahead; starting anywhere is starting the order there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from marauder.core.randomness import permutation
from marauder.engine.task import LocalBatch, SampleKey, Task


@dataclass(frozen=True)
class Order:
    """Which samples make up each global batch: a function of (seed, epoch, step in the epoch) alone."""

    length: int
    batch_size: int
    seed: int
    epochs: int
    close_mosaic_epochs: int

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch; the last one may have fewer samples."""
        return math.ceil(self.length / self.batch_size)

    @property
    def total_steps(self) -> int:
        """Updates in the whole training."""
        return self.epochs * self.steps_per_epoch

    def batch(self, epoch: int, position: int) -> list[SampleKey]:
        """The global batch number ``position`` (from 0) of ``epoch``."""
        indices = permutation(self.seed, epoch, self.length)
        chosen = indices[position * self.batch_size : (position + 1) * self.batch_size]
        closing = epoch >= self.epochs - self.close_mosaic_epochs
        return [SampleKey(epoch, int(index), closing) for index in chosen]

    def shares(self, first_step: int, rank: int, size: int) -> Iterator[list[SampleKey]]:
        """From the global step ``first_step`` on, the samples of each global batch that ``rank`` of ``size`` takes.

        A rank with no sample left in a short batch gets the batch's first one, marked by ``share_weight`` 0.
        """
        for step in range(first_step, self.total_steps):
            batch = self.batch(step // self.steps_per_epoch, step % self.steps_per_epoch)
            yield batch[share_of(len(batch), rank, size)] or batch[:1]

    def share_weight(self, step: int, rank: int, size: int) -> int:
        """Samples of the global batch of ``step`` that count for ``rank``."""
        epoch_start = step % self.steps_per_epoch * self.batch_size
        length = min(self.batch_size, self.length - epoch_start)
        part = share_of(length, rank, size)
        return part.stop - part.start


def share_of(length: int, rank: int, size: int) -> slice:
    """The contiguous part of ``length`` samples that ``rank`` takes; parts differ by one sample at most."""
    return slice(length * rank // size, length * (rank + 1) // size)


class _Keys(Sampler[list[SampleKey]]):
    def __init__(self, order: Order, first_step: int, rank: int, size: int) -> None:
        self.order, self.first_step, self.rank, self.size = order, first_step, rank, size

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self.order.shares(self.first_step, self.rank, self.size)

    def __len__(self) -> int:
        return self.order.total_steps - self.first_step


class _Samples(Dataset[LocalBatch]):
    """Loads a whole share at once, so that one process's work is one batch."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __getitems__(self, keys: list[SampleKey]) -> LocalBatch:
        return self.task.load(keys)

    def __getitem__(self, key: SampleKey) -> LocalBatch:
        return self.task.load([key])


def batches(
    task: Task, order: Order, first_step: int, rank: int, size: int, workers: int, pin_memory: bool
) -> Iterator[LocalBatch]:
    """This rank's batches from ``first_step`` to the end, loaded ahead by ``workers`` processes (0: none)."""
    loader: DataLoader[LocalBatch] = DataLoader(
        _Samples(task),
        batch_sampler=_Keys(order, first_step, rank, size),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )
    yield from loader


def default_workers(device_type: str, processes: int) -> int:
    """Loading processes for one training process: on a GPU most cores, on a CPU none, since training needs them."""
    if device_type == "cpu":
        return 0
    return max(1, min(16, len(os.sched_getaffinity(0)) // processes - 1))


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
