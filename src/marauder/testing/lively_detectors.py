"""Untrained detectors that nevertheless find boxes, and pictures for them to look at.

Freshly built detectors answer the same to every picture, which would make every comparison of answers pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from marauder.exporting.base import GraphOptions
from marauder.exporting.inputs import make_batches, pattern
from marauder.models.files import LoadedDetector, load_detector, save_detector
from marauder.models.ultralytics_adapter import DetectionModel, build_detector

NAMES = ("fish", "jelly's fish", "starfish")
"""Classes of the detectors that are saved."""
SIZE = 160
"""Pixels of the side of the pictures that they are made for."""
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
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_var is not None
                # Blowing up nearly dead channels would blow up rounding errors.
                module.running_var.clamp_(min=float(module.running_var.mean()))
        layers: Any = model.model
        head = layers[-1]
        outputs = [list(branch)[-1] for branch in head.cv3]
        seen: list[torch.Tensor] = []
        hooks = [layer.register_forward_hook(lambda _m, _i, out: seen.append(out)) for layer in outputs]
        model(pictures)
        for hook in hooks:
            hook.remove()
        for layer, logits in zip(outputs, seen):
            spread = (logits - layer.bias[:, None, None]) * (SHARPNESS / logits.std())
            layer.weight *= SHARPNESS / logits.std()
            layer.bias[:] = -torch.quantile(spread.transpose(0, 1).flatten(1)[:, ::7], 1 - FOUND_SHARE, dim=1)
        for branch in head.cv2:
            list(branch)[-1].weight *= 2
    return model


def save_lively(
    stem: Path,
    name: str = "yolov8t",
    seed: int = 0,
    size: int = SIZE,
    branch_width: int | None = None,
    class_names: Sequence[str] = NAMES,
) -> LoadedDetector:
    """Save a detector of ``class_names`` as ``stem`` with the suffixes ``.pt`` and ``.safetensors``, and open it again.

    ``name``: the architecture. ``size``: pixels of the side of its pictures.
    """
    inputs = np.concatenate(make_batches([pattern(1, index) for index in range(4)], GraphOptions(size, size), 32))
    stem.parent.mkdir(parents=True, exist_ok=True)
    save_detector(lively_detector(name, class_names, inputs, seed, branch_width), stem, size, {})
    return load_detector(stem.with_suffix(".pt"))


def write_pictures(folder: Path, count: int = 4) -> Path:
    """Generated pictures of differing shape as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture = pattern(1, index)[: 480 - 60 * (index % 3), : 640 - 100 * (index % 2)]
        cv2.imwrite(str(folder / f"{index}.png"), picture[:, :, ::-1])
    return folder
