"""The order of samples and the processes that load them ahead; a training can start anywhere in it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from marauder.core.randomness import permutation
from marauder.engine.failures import TrainingFailure, name_some
from marauder.engine.task import LocalBatch, SampleContext, SampleKey, Task


@dataclass(frozen=True)
class Order:
    """Which samples make up each global batch: a function of (seed, epoch, step in the epoch) alone."""

    length: int
    batch_size: int
    seed: int
    epochs: int

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
        return [SampleKey(epoch, int(index)) for index in chosen]

    def context(self, task: Task, step: int) -> SampleContext:
        """What ``task`` says of the samples of the global batch of ``step``."""
        return task.context(step // self.steps_per_epoch, step, self.epochs)

    def shares(self, first_step: int, rank: int, size: int) -> Iterator[list[SampleKey]]:
        """From the global step ``first_step`` on, the samples of each global batch that ``rank`` of ``size`` takes.

        A rank with no sample left in a short batch gets the batch's first one, marked by ``share_weight`` 0.
        """
        for step in range(first_step, self.total_steps):
            yield self.share(step, rank, size)

    def share(self, step: int, rank: int, size: int) -> list[SampleKey]:
        """The samples of the global batch of ``step`` that ``rank`` takes; after the last step there are none."""
        batch = self.batch(step // self.steps_per_epoch, step % self.steps_per_epoch) if step < self.total_steps else []
        # Never empty: every rank has to take part in the collectives of a forward and backward pass.
        return batch[share_of(len(batch), rank, size)] or batch[:1]

    def share_weight(self, step: int, rank: int, size: int) -> int:
        """Samples of the global batch of ``step`` that count for ``rank``."""
        epoch_start = step % self.steps_per_epoch * self.batch_size
        length = min(self.batch_size, self.length - epoch_start)
        part = share_of(length, rank, size)
        return part.stop - part.start


def share_of(length: int, rank: int, size: int) -> slice:
    """The contiguous part of ``length`` samples that ``rank`` takes; parts differ by one sample at most."""
    return slice(length * rank // size, length * (rank + 1) // size)


@dataclass(frozen=True, slots=True)
class _Share:
    """What one process loads for the update ``step``; it travels to the loading process."""

    step: int
    keys: list[SampleKey]
    context: SampleContext


class _Shares(Sampler[_Share]):
    def __init__(self, task: Task, order: Order, first_step: int, rank: int, size: int) -> None:
        self.task, self.order, self.first_step, self.rank, self.size = task, order, first_step, rank, size

    def __iter__(self) -> Iterator[_Share]:
        for step, keys in enumerate(self.order.shares(self.first_step, self.rank, self.size), self.first_step):
            yield _Share(step, keys, self.order.context(self.task, step))

    def __len__(self) -> int:
        return self.order.total_steps - self.first_step


class _Samples(Dataset[LocalBatch]):
    """Loads a whole share at once, so that one process's work is one batch.

    ``board`` is shared with the loading processes: a row each, its process number and the step it loads (-1: none).
    """

    def __init__(self, task: Task, board: torch.Tensor) -> None:
        self.task, self.board = task, board

    def __getitems__(self, share: _Share) -> LocalBatch:
        worker = get_worker_info()
        if worker is None:
            return self.task.load(share.keys, share.context)
        row = self.board[worker.id]
        # Before the load, so that the board tells what a killed process was at. One writer a row needs no lock.
        row[0], row[1] = os.getpid(), share.step
        batch = self.task.load(share.keys, share.context)
        row[1] = -1
        return batch


class Loader:
    """One rank's batches from ``first_step`` to the end, loaded ahead by ``workers`` processes (0: none).

    With loading processes, waiting ``timeout`` seconds for a batch ends in an error, and one that is killed is noticed
    at once, wherever this process then is: ``explain`` tells such an error from others.
    """

    def __init__(
        self,
        task: Task,
        order: Order,
        first_step: int,
        rank: int,
        size: int,
        workers: int,
        pin_memory: bool,
        timeout: float = 0.0,
    ) -> None:
        self.task, self.order, self.rank, self.size = task, order, rank, size
        # In shared memory, since a loading process that is killed reports nothing.
        self.board = torch.full((workers, 2), -1, dtype=torch.int64).share_memory_()
        shares: Any = _Shares(task, order, first_step, rank, size)  # torch's annotation knows lists of keys alone
        loader: DataLoader[LocalBatch] = DataLoader(
            _Samples(task, self.board),
            batch_sampler=shares,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker,
            # torch refuses prefetch_factor and timeout where there are no loading processes.
            prefetch_factor=4 if workers else None,
            pin_memory=pin_memory,
            timeout=timeout if workers else 0,
        )
        self._batches = iter(loader)

    def __iter__(self) -> Iterator[LocalBatch]:
        return self._batches

    def explain(self, error: RuntimeError, step: int) -> TrainingFailure | None:
        """The failure behind ``error``, which came while the batch of ``step`` was due; ``None``: not the loader's."""
        # torch raises plain RuntimeErrors here; their words are all there is to tell them by.
        text = str(error).splitlines()[0] if str(error) else ""
        if not text.startswith(_LOADER_ERRORS):
            return None
        dead = [row for row in self.board.tolist() if row[0] > 0 and _is_dead(row[0])]
        lost = sorted(row[1] for row in dead if row[1] >= 0)
        # The earliest one lost, which may lie ahead of the step under way: batches are loaded in advance.
        at = lost[0] if lost else step
        pictures = self.task.describe_batch(self.order.share(at, self.rank, self.size))
        if text.startswith(_TIMED_OUT):
            what = f"no batch for step {step} within training.loader_timeout"
            remedy = "See whether the disk with these pictures answers, or allow more time"
        else:
            what = f"a loading process ended while it loaded the batch of step {at}"
            remedy = "Short memory is the usual cause (choose fewer training.workers), one of these pictures the other"
        return TrainingFailure(
            f"rank {self.rank}: {what} ({text}). Its pictures: {name_some(pictures)}. {remedy}. "
            "Then run the same command again: it continues from the last checkpoint",
            "dead_loader",
            step,
        )


_TIMED_OUT = "DataLoader timed out"
_LOADER_ERRORS = ("DataLoader worker", _TIMED_OUT, "Pin memory thread exited")
"""How torch's messages begin when loading processes die or give nothing; it has no class of its own for them."""


def _is_dead(process: int) -> bool:
    try:
        # A killed child stays a zombie until it is waited for: its number alone still looks alive.
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def default_workers(device_type: str, processes: int) -> int:
    """Loading processes for one training process: on a GPU most cores, on a CPU none, since training needs them."""
    if device_type == "cpu":
        return 0
    # Of the cores this process may use: in a container or a batch job the machine has more.
    return max(1, min(16, len(os.sched_getaffinity(0)) // processes - 1))


# A module's function and no lambda: processes that are spawned get it pickled. Samples come collated from the task.
def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_worker: int) -> None:
    # The processes fill the cores already; threads in each would only fight for them.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
