"""One update of the weights from one global batch, however it is cut into processes and micro-batches.

Parts of the loss are summed, not averaged, while gradients accumulate; then the gradients are scaled by
(samples of the global batch) ÷ (weight of its positives). So one batch of 16, four of 4 and two ranks of 8 give the
same update. Scaling after accumulation is exact because gradients are linear in the loss.
"""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from marauder.engine.distributed import Group
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import TrainState
from marauder.engine.task import Batch, Criterion, Task


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """Numbers of one update over the global batch, still on the training device.

    ``sums``: parts of the loss (k,); ``weight`` of the positives (), ``samples`` (), ``gradient_norm`` () unclipped.
    """

    sums: torch.Tensor
    weight: torch.Tensor
    samples: torch.Tensor
    gradient_norm: torch.Tensor


class Updater:
    """Does updates. ``precision`` is the type of the forward pass, ``steps`` the length of the whole training."""

    def __init__(
        self,
        task: Task,
        state: TrainState,
        group: Group,
        settings: TrainingSettings,
        precision: torch.dtype,
        steps: int,
    ) -> None:
        self.task, self.state, self.group, self.settings, self.precision = task, state, group, settings, precision
        self.steps = steps
        self.criterion: Criterion = task.criterion(state.model)
        self.network: nn.Module = state.model
        if group.size > 1:
            devices = [group.device.index] if group.device.type == "cuda" else None
            # Running statistics stay each rank's own between evaluations; the option's name changed in torch 2.15.
            known = inspect.signature(DistributedDataParallel.__init__).parameters
            unsynchronised = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
            options: dict[str, Any] = {"device_ids": devices, unsynchronised: False}
            self.network = DistributedDataParallel(state.model, **options)

    def update(self, batch: Batch, samples: int) -> UpdateResult:
        """Forward, backward and optimiser step for this rank's share; ``samples`` of it count (0: none do).

        When memory runs out nothing has changed but gradients: running statistics are put back, and
        ``torch.OutOfMemoryError`` goes on to the caller.
        """
        buffers = {name: buffer.clone() for name, buffer in self.state.model.named_buffers()}
        try:
            totals = self._accumulate(batch, samples)
        except torch.OutOfMemoryError:
            for name, buffer in self.state.model.named_buffers():
                buffer.copy_(buffers[name])
            self.state.optimizer.zero_grad(set_to_none=True)
            raise
        self.group.sum(totals)
        return self._apply(totals)

    def _accumulate(self, batch: Batch, samples: int) -> torch.Tensor:
        """Gradients of the summed loss; returns (parts of the loss…, weight of the positives, samples)."""
        length = max(samples, 1)
        micro = self.state.position.micro_batch_size
        totals = torch.zeros(len(self.task.loss_names) + 2, device=self.group.device)
        for start in range(0, length, micro):
            last = start + micro >= length
            part = self.task.cut(batch, start, min(start + micro, length))
            with self._synchronised(last):
                with torch.autocast(self.group.device.type, self.precision, self.precision != torch.float32):
                    outputs = self.network(self.task.inputs(part))
                sums, weight = self.criterion(outputs, part)
                loss = sums.sum() * (1.0 if samples else 0.0)
                self.state.scaler.scale(loss).backward()
            if samples:
                totals[:-2] += sums.detach()
                totals[-2] += weight
        totals[-1] = samples
        return totals

    def _apply(self, totals: torch.Tensor) -> UpdateResult:
        optimizer, scaler = self.state.optimizer, self.state.scaler
        weight = totals[-2].clamp(min=1.0)
        # DistributedDataParallel averages over ranks where a sum is wanted.
        factor = totals[-1] / weight * self.group.size
        scaler.unscale_(optimizer)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch._foreach_mul_(gradients, factor)
        norm = nn.utils.clip_grad_norm_(self.state.model.parameters(), self.settings.optimizer.clip_norm, foreach=True)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.task.updated(self.state.model, self.state.position.step, self.steps)
        self.state.average.update(self.state.model)
        return UpdateResult(totals[:-2], weight, totals[-1], norm)

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        if isinstance(self.network, DistributedDataParallel) and not last:
            return self.network.no_sync()
        return contextlib.nullcontext()
