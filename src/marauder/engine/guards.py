"""What stops a training that cannot succeed: a sanity check before it, and watches on its numbers during it.

The watches are pure: numbers in, a finding out. What they remember is part of the training's position, so that a
resumed training judges as an undisturbed one does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.engine.failures import FailureKind, TrainingFailure
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import Position
from marauder.engine.task import Batch, Task, loss_of

__all__ = [
    "CollapseWatch",
    "DivergenceWatch",
    "Finding",
    "Guards",
    "LossWatch",
    "TrainingFailure",
    "check_sanity",
    "score_of",
]

SANITY_STEPS = 10
SANITY_RATES = (1e-3, 1e-4, 1e-5)
WATCH_AFTER_STEPS = 50
SMOOTHING = 0.02
"""Share of a new value in a running mean, once there are as many values as that asks for."""
GIVEN_BACK = 0.5
"""Share of what the loss had gained that must be lost before a rise is a divergence: near 0 any noise is many times."""
RECOVERING = 0.9
"""A loss below this share of its peak is on its way back."""
NOTHING = 0.01
"""A metric below this share of its best is as good as none; a best below this was never more than noise."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with a training, by kind and in words; ``remedy``: what to try, where the kind alone does not
    say."""

    kind: FailureKind
    why: str
    remedy: str = ""


@dataclass
class LossWatch:
    """Judges each step's loss: not finite, or exploding.

    Exploding means many times the running mean both per positive and per sample: a batch of empty scenes is high in the
    first alone, a crowded one in the second alone.
    """

    exploding_factor: float
    means: list[float] = field(default_factory=lambda: [0.0, 0.0])
    count: int = 0

    def judge(self, per_positive: float, per_sample: float, gradient_norm: float | None) -> Finding | None:
        """What is wrong with a step, or ``None``; a healthy step enters the running means."""
        if not (math.isfinite(per_positive) and math.isfinite(per_sample)):
            return Finding("nan", f"the loss is {per_positive}")
        if gradient_norm is not None and not math.isfinite(gradient_norm):
            return Finding("nan", f"the gradient norm is {gradient_norm}")
        values = (per_positive, per_sample)
        if self.count >= WATCH_AFTER_STEPS and all(
            value > self.exploding_factor * mean for value, mean in zip(values, self.means, strict=True)
        ):
            times = per_positive / self.means[0] if self.means[0] else math.inf
            why = f"the loss {per_positive:.4g} is {times:.0f} times its running mean {self.means[0]:.4g}"
            return Finding("exploding", why)
        self.count += 1
        self.means = _smooth(self.means, values, self.count)
        return None


@dataclass
class DivergenceWatch:
    """Judges the smoothed loss: it left its minimum far behind and has not come back for ``patience`` updates (0: off).

    Far: more than ``factor`` times the minimum, with half of what was gained since the beginning lost again, both per
    positive and per sample. A loss that is falling again, as after a learning rate that restarts, gets the same time
    anew. A loss whose minimum is not above 0 has no factor and is not judged.
    """

    factor: float
    patience: int
    count: int = 0
    smoothed: list[float] = field(default_factory=lambda: [0.0, 0.0])
    start: list[float] = field(default_factory=lambda: [0.0, 0.0])
    lowest: list[float] = field(default_factory=lambda: [0.0, 0.0])
    peak: list[float] = field(default_factory=lambda: [0.0, 0.0])
    above: int = 0
    """Updates since the loss went far above its minimum and stayed there."""

    def judge(self, per_positive: float, per_sample: float) -> Finding | None:
        """Take in a step's (finite) loss; what is wrong with the way it goes, or ``None``."""
        if not self.patience:
            return None
        self.count += 1
        self.smoothed = _smooth(self.smoothed, (per_positive, per_sample), self.count)
        if self.count < WATCH_AFTER_STEPS:
            return None
        if self.count == WATCH_AFTER_STEPS:
            self.start, self.lowest = list(self.smoothed), list(self.smoothed)
        self.lowest = [min(pair) for pair in zip(self.lowest, self.smoothed, strict=True)]
        if not all(map(self._is_far, self.smoothed, self.lowest, self.start)):
            self.above, self.peak = 0, [0.0, 0.0]
            return None
        self.above += 1
        self.peak = [max(pair) for pair in zip(self.peak, self.smoothed, strict=True)]
        if self.above < self.patience:
            return None
        if any(now < RECOVERING * peak for now, peak in zip(self.smoothed, self.peak, strict=True)):
            # Judged from the new, lower peak, so that a slow way back has to keep falling.
            self.above, self.peak = 0, list(self.smoothed)
            return None
        now, lowest = self.smoothed[0], self.lowest[0]
        why = f"the loss, smoothed, is {now:.4g}: {now / lowest:.1f} times its minimum {lowest:.4g}"
        return Finding("diverged", f"{why}, for {self.above} updates")

    def _is_far(self, now: float, lowest: float, start: float) -> bool:
        return lowest > 0 and now > self.factor * lowest and now - lowest > GIVEN_BACK * (start - lowest)


@dataclass
class CollapseWatch:
    """Judges whether the network still learns and finds anything.

    Collapsed: ``evaluations`` in a row without any success after there was some, or ``steps`` updates in a row whose
    gradient is exactly 0 (0: off).
    """

    evaluations: int
    steps: int
    dark: int = 0
    still: int = 0

    def judge_gradient(self, norm: float | None) -> Finding | None:
        """Take in a step's gradient norm (``None``: not known)."""
        self.still = self.still + 1 if norm == 0.0 else 0
        if not 0 < self.steps <= self.still:
            return None
        return Finding("collapsed", f"the gradient is exactly 0 for {self.still} updates: nothing is learned any more")

    def judge_score(self, name: str, score: float, best: float | None) -> Finding | None:
        """Take in an evaluation's metric ``name`` and the best one before it."""
        lost = best is not None and best >= NOTHING and not score > NOTHING * best
        self.dark = self.dark + 1 if lost else 0
        if not 0 < self.evaluations <= self.dark:
            return None
        return Finding("collapsed", f"{name} is {score:.4g} in {self.dark} evaluations, after {best:.4g}")


class Guards:
    """The watches of one training, under its settings and with what they remembered at ``position``."""

    def __init__(self, settings: TrainingSettings, position: Position) -> None:
        kept = position.guards
        self.loss = LossWatch(settings.exploding_factor, list(position.loss_means), position.loss_count)
        self.divergence = DivergenceWatch(
            settings.divergence_factor, settings.divergence_steps, **kept.get("divergence", {})
        )
        self.collapse = CollapseWatch(
            settings.collapse_evaluations, settings.collapse_steps, **kept.get("collapse", {})
        )

    def judge_update(self, per_positive: float, per_sample: float, gradient_norm: float | None) -> Finding | None:
        """What is wrong after an update; ``gradient_norm``: ``None`` where a loss scaler judges it."""
        return (
            self.loss.judge(per_positive, per_sample, gradient_norm)
            or self.divergence.judge(per_positive, per_sample)
            or self.collapse.judge_gradient(gradient_norm)
        )

    def remember(self, position: Position) -> None:
        """Write what the watches know into ``position``."""
        position.loss_means, position.loss_count = list(self.loss.means), self.loss.count
        position.guards = {
            "divergence": _memory(self.divergence, "factor", "patience"),
            "collapse": _memory(self.collapse, "evaluations", "steps"),
        }


def score_of(metrics: Mapping[str, float], name: str) -> float:
    """The metric ``name`` of an evaluation; one that is undefined (no number) is worse than any."""
    if name not in metrics:
        raise UserError(f"best_metric {name!r}: the evaluation gave only: {', '.join(metrics)}")
    return -math.inf if math.isnan(metrics[name]) else metrics[name]


def _memory(watch: DivergenceWatch | CollapseWatch, *settings: str) -> Plain:
    # Limits are left out: they change no result, so that a resumed training may be given others.
    return {name: value for name, value in asdict(watch).items() if name not in settings}


def _smooth(means: list[float], values: tuple[float, float], count: int) -> list[float]:
    """Running means after the ``count``-th values: plain means at first, exponential ones then."""
    # Plain means first, since an exponential one that starts at 0 would take dozens of steps to forget it.
    share = max(1 / count, SMOOTHING)
    return [mean + share * (value - mean) for mean, value in zip(means, values, strict=True)]


def check_sanity(task: Task, model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Train copies of ``model`` on one repeated batch: everything finite, and the loss falls at some learning rate.

    Weights that are trained already need smaller rates than random ones. Returns the first and the lowest loss. Raises
    ``TrainingFailure`` of kind ``sanity`` with what to look at otherwise.
    """
    losses: list[float] = []
    for learning_rate in SANITY_RATES:
        losses = _losses_on_one_batch(task, model, batch, learning_rate)
        if min(losses[1:]) < losses[0]:
            return losses[0], min(losses)
    raise TrainingFailure(
        f"sanity check: the loss did not fall on one repeated batch ({losses[0]:.4g} to {min(losses[1:]):.4g} "
        f"in {SANITY_STEPS} steps); check the labels (`marauder data check`) and the loss weights",
        "sanity",
    )


def _losses_on_one_batch(task: Task, model: nn.Module, batch: Batch, learning_rate: float) -> list[float]:
    # A copy: a training that was looked at must start from the same weights as one that was not.
    trial = copy.deepcopy(model).train()
    criterion = task.criterion(trial)
    optimizer = torch.optim.AdamW(trial.parameters(), lr=learning_rate)
    losses: list[float] = []
    for _ in range(SANITY_STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(*criterion(trial(task.inputs(batch)), batch))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trial.parameters(), 10.0)
        losses.append(loss.item())
        if not (math.isfinite(losses[-1]) and math.isfinite(norm.item())):
            raise TrainingFailure(
                f"sanity check: loss {losses[-1]:.4g}, gradient norm {norm.item():.4g} on the first batch; "
                "check the labels (`marauder data check`) and lower the learning rate",
                "sanity",
            )
        # Enough is seen once it fell; the first of the losses is from before any update.
        if len(losses) > 3 and min(losses[1:]) < losses[0]:
            break
        optimizer.step()
    return losses
