"""What stops a training that cannot succeed: a sanity check before it, and a watch on the loss during it."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

from marauder.core.errors import UserError
from marauder.engine.task import Batch, Task

SANITY_STEPS = 10
SANITY_RATES = (1e-3, 1e-4, 1e-5)
WATCH_AFTER_STEPS = 50


class TrainingFailure(UserError):  # noqa: N818 - it names what happened, no fault of the program
    """The training cannot go on; the message says what happened, where the evidence lies and what to try."""


@dataclass
class LossWatch:
    """Judges each step's loss: not finite, or exploding. Pure: numbers in, a complaint out.

    Exploding means many times the running mean both per positive and per sample: a batch of empty scenes is high in the
    first alone, a crowded one in the second alone.
    """

    exploding_factor: float
    means: list[float]
    count: int = 0

    def complaint(self, per_positive: float, per_sample: float, gradient_norm: float) -> str | None:
        """What is wrong with a step, or ``None``; a healthy step enters the running means."""
        if not (math.isfinite(per_positive) and math.isfinite(per_sample)):
            return f"the loss is {per_positive}"
        if not math.isfinite(gradient_norm):
            return f"the gradient norm is {gradient_norm}"
        values = (per_positive, per_sample)
        if self.count >= WATCH_AFTER_STEPS and all(
            value > self.exploding_factor * mean for value, mean in zip(values, self.means, strict=True)
        ):
            times = per_positive / self.means[0]
            return f"the loss {per_positive:.4g} is {times:.0f} times its running mean {self.means[0]:.4g}"
        self.count += 1
        share = max(1 / self.count, 0.02)
        self.means = [mean + share * (value - mean) for value, mean in zip(values, self.means, strict=True)]
        return None


def check_sanity(task: Task, model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Train copies of ``model`` on one repeated batch: everything finite, and the loss falls at some learning rate.

    Weights that are trained already need smaller rates than random ones. Returns the first and the lowest loss. Raises
    ``UserError`` with what to look at otherwise.
    """
    losses: list[float] = []
    for learning_rate in SANITY_RATES:
        losses = _losses_on_one_batch(task, model, batch, learning_rate)
        if min(losses[1:]) < losses[0]:
            return losses[0], min(losses)
    raise UserError(
        f"sanity check: the loss did not fall on one repeated batch ({losses[0]:.4g} to {min(losses[1:]):.4g} "
        f"in {SANITY_STEPS} steps); look at the labels (`marauder data check`) and at the loss weights"
    )


def _losses_on_one_batch(task: Task, model: nn.Module, batch: Batch, learning_rate: float) -> list[float]:
    trial = copy.deepcopy(model).train()
    criterion = task.criterion(trial)
    optimizer = torch.optim.AdamW(trial.parameters(), lr=learning_rate)
    losses: list[float] = []
    for _ in range(SANITY_STEPS):
        optimizer.zero_grad(set_to_none=True)
        sums, weight = criterion(trial(task.inputs(batch)), batch)
        loss = sums.sum() / weight.clamp(min=1)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trial.parameters(), 10.0)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and math.isfinite(norm.item())):
            raise UserError(
                f"sanity check: loss {losses[-1]:.4g}, gradient norm {norm.item():.4g} on the first batch; "
                "look at the labels (`marauder data check`) and lower the learning rate"
            )
        if len(losses) > 3 and min(losses[1:]) < losses[0]:
            break
        optimizer.step()
    return losses
