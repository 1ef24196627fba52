"""One update of the weights from one global batch, however it is cut into processes and micro-batches.

Parts of the loss are summed, not averaged, over samples; each is to count as (samples of the global batch) × (its sum)
÷ (its count in the global batch). So one batch of 16, four of 4 and two ranks of 8 give the same update.

Where all parts share one count, gradients of the plain sums accumulate and are scaled once the count is known, which
is exact because gradients are linear in the loss. Where parts have counts of their own, one scale does not do for the
gradient of their sum, so that the counts are added up first: over ranks between the forward and the backward pass, and
over further micro-batches by passing these forward once more.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from marauder.core.plain import Plain
from marauder.engine.distributed import Group
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import TrainState
from marauder.engine.task import Batch, Criterion, SampleContext, Task


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """Numbers of one update over the global batch, still on the training device.

    ``sums``: parts of the loss (k,); ``counts`` that they are divided by (k,), 1 at least; ``samples`` ();
    ``gradient_norm`` () unclipped.
    """

    sums: torch.Tensor
    counts: torch.Tensor
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
            options: Plain = {"device_ids": devices, unsynchronised: False}
            self.network = DistributedDataParallel(state.model, **options)

    def update(self, batch: Batch, samples: int, context: SampleContext) -> UpdateResult:
        """Forward, backward and optimiser step for this rank's share; ``samples`` of it count (0: none do).

        When memory runs out nothing has changed but gradients: running statistics are put back, and
        ``torch.OutOfMemoryError`` goes on to the caller.
        """
        # A forward pass that runs out of memory half-way has moved some running statistics already.
        buffers = self._buffers()
        try:
            totals = self._accumulate(batch, samples, context.samples_per_pass(self.state.position.micro_batch_size))
        except torch.OutOfMemoryError:
            self._put_back(buffers)
            self.state.optimizer.zero_grad(set_to_none=True)
            raise
        self.group.sum(totals)
        return self._apply(totals)

    def _accumulate(self, batch: Batch, samples: int, micro: int) -> torch.Tensor:
        """Gradients of the loss, ``micro`` samples at a time; returns (sums…, counts…, samples) of this rank."""
        # A rank without samples that count still passes one, times 0: the others wait for its part of the collectives.
        length = max(samples, 1)
        pieces = [slice(start, min(start + micro, length)) for start in range(0, length, micro)]
        counted = 1.0 if samples else 0.0
        totals = scales = None
        for number, piece in enumerate(pieces):
            # Around the forward pass too: there DistributedDataParallel decides whether gradients will be shared.
            with self._synchronised(number == len(pieces) - 1):
                sums, counts = self._forward(self.network, batch, piece)
                if totals is None:
                    totals = torch.zeros(len(self.task.loss_names) + counts.numel() + 1, device=self.group.device)
                    if counts.numel() > 1:
                        scales = self._scales(counts, batch, pieces[1:], samples)
                loss = (sums if scales is None else sums * scales).sum() * counted
                self.state.scaler.scale(loss).backward()
            if samples:
                totals[:-1] += torch.cat([sums.detach(), counts.reshape(-1)])
        assert totals is not None
        totals[-1] = samples
        return totals

    def _forward(self, network: nn.Module, batch: Batch, piece: slice) -> tuple[torch.Tensor, torch.Tensor]:
        part = self.task.cut(batch, piece.start, piece.stop)
        with torch.autocast(self.group.device.type, self.precision, self.precision != torch.float32):
            outputs = network(self.task.inputs(part))
        return self.criterion(outputs, part)

    def _scales(self, counts: torch.Tensor, batch: Batch, rest: Sequence[slice], samples: int) -> torch.Tensor:
        """What the sums of parts with counts of their own are multiplied by (k,). ``counts``: of the first piece,
        ``rest``: the pieces that are still to come."""
        totals = torch.zeros(counts.numel() + 1, device=self.group.device)
        if samples:
            totals[:-1] += counts
            with self._leaving_no_trace():
                for piece in rest:
                    # The bare model: ranks may have other numbers of pieces left, so no pass here may be collective.
                    totals[:-1] += self._forward(self.state.model, batch, piece)[1]
        totals[-1] = samples
        return self._scale(*self.group.sum(totals).split([counts.numel(), 1]))

    def _scale(self, counts: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        # DistributedDataParallel averages over ranks where a sum is wanted.
        return samples / counts.clamp(min=1.0) * self.group.size

    def _apply(self, totals: torch.Tensor) -> UpdateResult:
        optimizer, scaler = self.state.optimizer, self.state.scaler
        parts = len(self.task.loss_names)
        sums, counts, samples = totals[:parts], totals[parts:-1], totals[-1]
        # Before the counts and the clipping, which are meant for the gradients as they are.
        scaler.unscale_(optimizer)
        if len(counts) == 1:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(gradients, self._scale(counts[0], samples))
        norm = nn.utils.clip_grad_norm_(self.state.model.parameters(), self.settings.optimizer.clip_norm, foreach=True)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        self.task.updated(self.state.model, self.state.position.step, self.steps)
        self.state.average.update(self.state.model)
        return UpdateResult(sums, counts.clamp(min=1.0).expand(parts), samples, norm)

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        if isinstance(self.network, DistributedDataParallel) and not last:
            return self.network.no_sync()
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def _leaving_no_trace(self) -> Iterator[None]:
        """No gradients inside the block; afterwards buffers and random numbers stand where they stood."""
        device = self.group.device
        buffers = self._buffers()
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
        self._put_back(buffers)

    def _buffers(self) -> dict[str, torch.Tensor]:
        return {name: buffer.clone() for name, buffer in self.state.model.named_buffers()}

    def _put_back(self, buffers: dict[str, torch.Tensor]) -> None:
        for name, buffer in self.state.model.named_buffers():
            # Not seen by autograd: a backward pass that is still to come finds the values that its forward pass left.
            buffer.data.copy_(buffers[name])
