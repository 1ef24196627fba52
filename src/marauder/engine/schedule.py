"""Learning rate and momentum as pure functions of the step, so that a resumed run needs no schedule state.

Source of the cosine: Loshchilov & Hutter, "SGDR", ICLR 2017, without restarts; warm-up as in YOLO training: linear,
biases falling from a high rate, momentum rising.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from marauder.engine.settings import OptimizerSettings


@dataclass(frozen=True, slots=True)
class StepValues:
    """What the optimiser uses at one step."""

    learning_rate: float
    bias_learning_rate: float
    momentum: float


@dataclass(frozen=True)
class Schedule:
    """The schedule of a training of ``total_steps`` steps, ``steps_per_epoch`` an epoch.

    Where its settings say ``begins_at`` and ``ends_at`` it is that part of a longer one.
    """

    settings: OptimizerSettings
    total_steps: int
    steps_per_epoch: int

    def values(self, step: int) -> StepValues:
        """Values for the update number ``step`` (from 0)."""
        settings = self.settings
        rate = settings.learning_rate * self._decay(step)
        warmup = self.warmup_steps()
        if step >= warmup:
            return StepValues(rate, rate, settings.momentum)
        share = step / warmup
        return StepValues(
            rate * share,
            settings.warmup_bias_rate + (rate - settings.warmup_bias_rate) * share,
            settings.warmup_momentum + (settings.momentum - settings.warmup_momentum) * share,
        )

    def warmup_steps(self) -> int:
        """Steps of warm-up: the configured epochs, but never more than half of the training."""
        # A short training would otherwise end before its learning rate is reached.
        return min(round(self.settings.warmup_epochs * self.steps_per_epoch), self.total_steps // 2)

    def _decay(self, step: int) -> float:
        if self.settings.decay_each == "epoch":
            step -= step % self.steps_per_epoch
        begins, ends = self.settings.begins_at, self.settings.ends_at
        share = begins + (ends - begins) * min(step / max(self.total_steps, 1), 1.0)
        final = self.settings.final_fraction
        if self.settings.schedule == "cosine":
            return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2
        return final + (1 - final) * (1 - share)
