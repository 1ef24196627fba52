"""Two looks at a training before it starts: does one batch train, and do two short runs with one seed agree?

Neither leaves a trace: models are built anew, and the generators of torch, NumPy and Python stand afterwards where they
stood before. What the task decodes on the way stays in its own picture store, as after any first use.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from torch import nn

from marauder.core.errors import UserError
from marauder.engine.averaging import AveragedModel
from marauder.engine.distributed import Group, choose_precision
from marauder.engine.guards import check_sanity
from marauder.engine.loader import Order
from marauder.engine.optimizer import apply_schedule, build_optimizer
from marauder.engine.schedule import Schedule
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import Position, TrainState
from marauder.engine.task import Batch, SampleContext, Task, loss_of
from marauder.engine.update import Updater

SANITY_SAMPLES = 8
BATCHES_LOOKED_AT = 5
"""Batches among which the sanity check seeks one with anything to find; a data set may hold many empty pictures."""


@dataclass(frozen=True)
class OneBatch:
    """What one batch showed. ``error``: why it does not train, else ``None``; numbers that were not reached are NaN.

    ``without_gradient``: names of the trainable parameters that no part of the loss reaches.
    """

    first_loss: float
    lowest_loss: float
    gradient_norm: float
    without_gradient: tuple[str, ...]
    parameters: int
    error: str | None


@dataclass(frozen=True)
class SmokeResult:
    """How far two short runs with one seed lie apart.

    ``largest_difference``: of any number of the weights and running statistics, infinite where one is not finite and
    the other is; ``exact``: bit for bit the same; ``same_batches``: whether the loader gave both runs the same samples.
    ``share_of_change``: length of the difference between the two ends as a share of the way from the start to an end,
    over all weights; about 1 for unrelated runs, whatever the learning rate.
    """

    largest_difference: float
    exact: bool
    steps: int
    seconds: float
    same_batches: bool
    share_of_change: float


def look_at_one_batch(task: Task, settings: TrainingSettings, device: torch.device) -> OneBatch:
    """Forward and backward on one batch in the training's precision, then a few updates on copies of the model.

    Raises whatever the task raises while it loads or builds.
    """
    with unchanged_randomness(settings.seed):
        model = _build(task, settings, device)
        samples = min(SANITY_SAMPLES, settings.batch_size, settings.micro_batch_size or SANITY_SAMPLES)
        norm, parameters = math.nan, len(list(model.parameters()))
        missing: tuple[str, ...] = ()
        # The last batch looked at is what the sanity check gets, with something to find or without.
        for batch, _ in islice(_shard(task, settings, device, samples), BATCHES_LOOKED_AT):
            norm, missing, found = _gradients(task, model, batch, choose_precision(settings.precision, device))
            if found:
                break
        try:
            first, lowest = check_sanity(task, model, batch)
        except UserError as error:
            return OneBatch(math.nan, math.nan, norm, missing, parameters, str(error))
    return OneBatch(first, lowest, norm, missing, parameters, None)


def two_short_runs(
    task: Task, settings: TrainingSettings, device: torch.device, steps: int = 3, samples: int = 8
) -> SmokeResult:
    """Train the same few updates twice from one seed, samples loaded anew each time, and compare all weights.

    ``samples`` of each update; the learning rate is that after the warm-up, so that a difference shows.
    """
    started = time.monotonic()
    runs: list[_Run] = []
    for _ in range(2):
        with unchanged_randomness(settings.seed):
            runs.append(_short_run(task, settings, device, steps, samples))
    one, other = runs
    return SmokeResult(
        largest_difference=max((_distance(one.end[name], other.end[name]) for name in one.end), default=0.0),
        exact=all(same_bits(one.end[name], other.end[name]) for name in one.end),
        steps=len(one.loaded),
        seconds=time.monotonic() - started,
        same_batches=all(
            here.keys() == there.keys() and all(same_bits(here[name], there[name]) for name in here)
            for here, there in zip(one.loaded, other.loaded, strict=True)
        ),
        share_of_change=_share_of_change(one, other),
    )


@contextmanager
def unchanged_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators inside the block; afterwards they stand where they stood before."""
    plain, numpy_state = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        # NumPy's old generator takes no more than 32 bits.
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numpy_state)


@dataclass(frozen=True)
class _Run:
    """A short run: its weights before, its weights and running statistics after, and its batches, all on the CPU."""

    start: dict[str, torch.Tensor]
    end: dict[str, torch.Tensor]
    loaded: list[Batch]


def _short_run(task: Task, settings: TrainingSettings, device: torch.device, steps: int, samples: int) -> _Run:
    model = _build(task, settings, device)
    # Cloned, since on a CPU these are the tensors that the training goes on changing.
    start = {name: parameter.detach().cpu().clone() for name, parameter in model.named_parameters()}
    precision = choose_precision(settings.precision, device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    average = AveragedModel(model, settings.average_decay, settings.average_ramp)
    position = Position(micro_batch_size=min(settings.micro_batch_size or samples, samples))
    state = TrainState(model, average, build_optimizer(model, settings.optimizer), scaler, position)
    # Warm-up may take half of all steps: ten times as many leave room for these after it.
    updater = Updater(task, state, Group(device=device), settings, precision, 10 * steps)
    schedule = Schedule(settings.optimizer, total_steps=10 * steps, steps_per_epoch=steps)
    loaded: list[Batch] = []
    for number, (batch, context) in enumerate(islice(_shard(task, settings, device, samples), steps)):
        loaded.append({name: tensor.cpu() for name, tensor in batch.items()})
        apply_schedule(state.optimizer, schedule.values(schedule.warmup_steps() + number))
        updater.update(batch, len(task.inputs(batch)), context)
        position.step += 1
    return _Run(start, {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}, loaded)


def _share_of_change(one: _Run, other: _Run) -> float:
    apart = sum(float((one.end[name].double() - other.end[name].double()).square().sum()) for name in one.start)
    moved = max(
        sum(float((run.end[name].double() - run.start[name].double()).square().sum()) for name in run.start)
        for run in (one, other)
    )
    if apart == 0:
        return 0.0
    return math.sqrt(apart / moved) if moved > 0 and math.isfinite(apart) else math.inf


def _build(task: Task, settings: TrainingSettings, device: torch.device) -> nn.Module:
    return task.build_model(settings.seed).to(device).to(memory_format=torch.channels_last).train()


def _shard(
    task: Task, settings: TrainingSettings, device: torch.device, samples: int
) -> Iterator[tuple[Batch, SampleContext]]:
    """The first samples of the training's own order, ``samples`` at a time, loaded in this process; without end, since
    a short training may have too few."""
    order = Order(task.training_length, min(samples, task.training_length), settings.seed, settings.epochs)
    for step in count():
        context = order.context(task, step)
        local = task.load(order.batch(step // order.steps_per_epoch, step % order.steps_per_epoch), context)
        yield {name: tensor.to(device) for name, tensor in local.tensors.items()}, context


def _gradients(
    task: Task, model: nn.Module, batch: Batch, precision: torch.dtype
) -> tuple[float, tuple[str, ...], bool]:
    """Gradient norm, trainable parameters without a gradient, and whether the batch holds something to learn for every
    part of the loss; the model is unchanged but for its running statistics."""
    device = next(model.parameters()).device
    model.zero_grad(set_to_none=True)
    with torch.autocast(device.type, precision, precision != torch.float32):
        outputs = model(task.inputs(batch))
    sums, counts = task.criterion(model)(outputs, batch)
    loss_of(sums, counts).backward()
    missing = tuple(name for name, p in model.named_parameters() if p.requires_grad and p.grad is None)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
    model.zero_grad(set_to_none=True)
    return norm, missing, bool((counts > 0).all())


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    if not one.numel() or same_bits(one, other):
        return 0.0
    difference = (one.double() - other.double()).abs()
    return float(torch.where(difference.isnan(), torch.inf, difference).max())


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether both are the same, bit for bit: NaN is equal to itself, and 0 is not -0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(_bytes(one), _bytes(other))


def _bytes(values: torch.Tensor) -> torch.Tensor:
    # Copied: bytes are seen only of elements side by side, which a spread value, or none at all, need not have.
    return values.reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8)
