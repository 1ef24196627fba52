"""The focal loss for soft targets: what is easy counts less, so that the few animals outweigh all the background.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, weigh cross-entropy by (1 - p_t)^γ, and by α for
positives, 1 - α for the rest. The targets of YOLO's task-aligned assignment are no labels 0 or 1 but qualities in 0..1,
for which 1 - p_t is not defined; the form for them is the quality focal loss of Li et al., "Generalized Focal Loss",
NeurIPS 2020: the distance |t - p| takes the place of 1 - p_t, and equals it where the target is 0 or 1.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

SMALLEST_DISTANCE = 1e-6
"""Below this |t - p| counts as this: the power of an exponent below 1 has no finite slope at 0."""


class FocalLoss(nn.Module):
    """Loss of each score: ``2 (α t + (1 - α)(1 - t)) |t - sigmoid(x)|^γ BCE(x, t)``.

    ``gamma`` γ ≥ 0 (0: no focus). ``alpha`` α in 0..1: weight of positives against background; the factor 2 makes 0.5
    change nothing, so that γ = 0 and α = 0.5 are binary cross-entropy to the last bit.
    """

    def __init__(self, gamma: float, alpha: float = 0.5) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """``scores``: logits; ``targets``: 0..1; both of one shape, which the result has."""
        loss = binary_cross_entropy_with_logits(scores, targets, reduction="none")
        if self.gamma:
            distance = (targets - scores.sigmoid()).abs().clamp(min=SMALLEST_DISTANCE)
            loss = loss * distance**self.gamma
        if self.alpha != 0.5:
            loss = loss * (2 * (self.alpha * targets + (1 - self.alpha) * (1 - targets)))
        return loss
