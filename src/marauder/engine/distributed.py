"""One process among several: rank, sums over ranks, agreement, gathering. A single process is a group of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from marauder.core.environment import RENDEZVOUS
from marauder.core.errors import UserError
from marauder.engine.devices import device_name, missing_gpu
from marauder.engine.settings import FLOAT16_ON_CPU

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others' gradients before it gives up."""
CONTROL_TIMEOUT = timedelta(hours=12)
"""How long one waits for the others' word: the first measures and writes alone, which may take long. Whoever started
the group ends it when one dies, and a hang watch when one hangs, so that nobody waits this long for the dead."""


class Group:
    """The processes of one training. ``control`` is a CPU group for flags and objects, whatever the gradients use."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None, control: Any = None) -> None:
        self.rank, self.size = rank, size
        self.device = device if device is not None else torch.device("cpu")
        self.control = control

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor on the training device over all ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def agree(self, value: str | None) -> str | None:
        """The first rank's reason that is not ``None``, the same on every rank."""
        if self.size == 1:
            return value
        # Asked after every step: four bytes go round, and pickled words only when somebody has something to say.
        flag = torch.tensor([value is not None], dtype=torch.int32)
        distributed.all_reduce(flag, group=self.control)
        if not flag.item():
            return None
        return next(reason for reason in self.gather(value) if reason is not None)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value, group=self.control)
        return values

    def broadcast(self, value: Any) -> Any:
        """The first rank's value on every rank."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self.control)
        return values[0]

    def broadcast_buffers(self, model: torch.nn.Module) -> None:
        """Give every rank the first rank's buffers (running statistics differ between ranks)."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)


@contextmanager
def process_group(device_setting: str) -> Iterator[Group]:
    """Join the group that the environment names (torchrun's, or ``marauder.launch.processes``'), or be a group of one.

    Gradients travel over NCCL on GPUs and over gloo on CPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(device_setting, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1:
        yield Group(device=device)
        return
    # Connecting when first needed: with all at once, a group that torchrun restarts now and then hangs.
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    backend = "nccl" if device.type == "cuda" else "gloo"
    meeting = os.environ.get(RENDEZVOUS)
    if meeting is None:
        distributed.init_process_group(backend, timeout=TIMEOUT)
    else:
        # A file to meet in needs no free port, which another process could take before it is used.
        store = distributed.FileStore(meeting, size)
        distributed.init_process_group(
            backend, store=store, rank=int(os.environ["RANK"]), world_size=size, timeout=TIMEOUT
        )
    try:
        control = distributed.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
        yield Group(distributed.get_rank(), size, device, control)
    finally:
        distributed.destroy_process_group()


def choose_device(setting: str, local_rank: int = 0) -> torch.device:
    """``auto`` is the GPU when there is one. Raises ``UserError`` for a device this machine does not have."""
    try:
        name = device_name(setting)
    except ValueError as error:
        raise UserError(f"device {setting!r}: {error}") from None
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    missing = missing_gpu(name)
    if missing is not None:
        raise UserError(f"device {missing}")
    device = torch.device(name)
    if device.type == "cuda" and device.index is None:
        # A GPU named without a number is each process's own; all would otherwise train on the first.
        device = torch.device("cuda", local_rank)
        if local_rank >= torch.cuda.device_count():
            raise UserError(f"device {missing_gpu(str(device))}")
    return device


def choose_precision(setting: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 on GPUs that have it, float16 on other GPUs, float32 on the CPU."""
    if setting == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if setting == "float16" and device.type == "cpu":
        raise UserError(f"precision {FLOAT16_ON_CPU}")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[setting]
