"""Untrained detectors that nevertheless find boxes: freshly built ones answer the same to every picture, which would
make every comparison of answers pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from marauder.models.ultralytics_adapter import DetectionModel, build_detector

FOUND_SHARE = 0.004
"""Share of anchor points whose score reaches one half."""
SHARPNESS = 1.2
"""Standard deviation of the logits: scores differ without saturating."""


def lively_detector(
    name: str, class_names: Sequence[str], inputs: np.ndarray, seed: int = 0, branch_width: int | None = None
) -> DetectionModel:
    """A detector whose activations have unit variance on ``inputs`` (float32 (B, 3, H, W)) and whose scores spread."""
    model = build_detector(name, class_names, seed, branch_width)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    pictures = torch.from_numpy(inputs)
    with torch.no_grad():
        model.train()(pictures)
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # blowing up nearly dead channels would blow up rounding errors
                module.running_var.clamp_(min=float(module.running_var.mean()))
        head = model.model[-1]
        outputs = [list(layers)[-1] for layers in head.cv3]
        seen: list[torch.Tensor] = []
        hooks = [layer.register_forward_hook(lambda _m, _i, out: seen.append(out)) for layer in outputs]
        model(pictures)
        for hook in hooks:
            hook.remove()
        for layer, logits in zip(outputs, seen):
            spread = (logits - layer.bias[:, None, None]) * (SHARPNESS / logits.std())
            layer.weight *= SHARPNESS / logits.std()
            layer.bias[:] = -torch.quantile(spread.transpose(0, 1).flatten(1)[:, ::7], 1 - FOUND_SHARE, dim=1)
        for layers in head.cv2:
            list(layers)[-1].weight *= 2
    return model
