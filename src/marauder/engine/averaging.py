"""The exponential moving average of a model's weights, which is what gets evaluated and shipped.

Source: Polyak & Juditsky, 1992; the ramp of the decay, decay · (1 − exp(−updates / ramp)), is YOLO training's.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from marauder.core.plain import Plain


class AveragedModel:
    """Keeps ``model``: average ← decay · average + (1 − decay) · current, over parameters and float buffers."""

    def __init__(self, model: nn.Module, decay: float, ramp: float) -> None:
        # In evaluation mode for good: a forward pass of the average must not move its statistics.
        self.model = copy.deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.decay, self.ramp, self.updates = decay, ramp, 0
        # Views of the model's own tensors; they stay valid because load_state_dict copies in place.
        self._averaged, self._copied = _split(self.model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the current weights."""
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / self.ramp))
        current, counters = _split(model)
        torch._foreach_lerp_(self._averaged, current, 1 - decay)
        # Counters (batches seen by a normalisation) are whole numbers: a mean of them means nothing.
        for mine, theirs in zip(self._copied, counters, strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> Plain:
        """Weights and the number of updates."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Plain) -> None:
        """Restore what ``state_dict`` returned."""
        self.model.load_state_dict(state["model"])
        self.updates = int(state["updates"])


def _split(model: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    tensors = [tensor.detach() for tensor in model.state_dict().values()]
    return (
        [tensor for tensor in tensors if tensor.is_floating_point()],
        [tensor for tensor in tensors if not tensor.is_floating_point()],
    )
