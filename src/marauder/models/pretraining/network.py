"""The backbone of a YOLO detector by itself, giving the maps that the neck takes from it: P3, P4 and P5."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from marauder.models.transfer import load_matching
from marauder.models.ultralytics_adapter import DetectionModel, build_detector, input_stride

log = logging.getLogger("marauder")

STRIDES = (8, 16, 32)
"""Strides of P3, P4 and P5."""


class Backbone(nn.Module):
    """The backbone layers of ``detector``, which is taken apart: its layers are not copied.

    ``channels``: of P3, P4 and P5.
    """

    def __init__(self, detector: DetectionModel) -> None:
        super().__init__()
        description: Any = detector.yaml
        layers: Any = detector.model
        self.layers = nn.ModuleList(layers[: len(description["backbone"])])
        for layer in self.layers:
            if layer.f != -1:
                raise ValueError(f"backbone layer {layer.i} takes more than what the layer before it gives")
        self.taps, self.channels = self._find_taps()

    def _find_taps(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The last layer at each stride, and its channels, by looking at what a blank picture becomes."""
        last: dict[int, tuple[int, int]] = {}
        training = self.training
        # In training mode the blank picture would go into the running statistics of batch normalisation.
        self.eval()
        with torch.no_grad():
            maps = torch.zeros(1, 3, 64, 64)
            for index, layer in enumerate(self.layers):
                maps = layer(maps)
                last[64 // maps.shape[-1]] = (index, maps.shape[1])
        self.train(training)
        return tuple(last[stride][0] for stride in STRIDES), tuple(last[stride][1] for stride in STRIDES)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """P3, P4 and P5 (B, C, H/stride, W/stride) of ``images`` float (B, 3, H, W) in 0..1, sides multiples of 32."""
        maps, found = images, []
        for index, layer in enumerate(self.layers):
            maps = layer(maps)
            if index in self.taps:
                found.append(maps)
        return found

    def detector_state(self) -> dict[str, torch.Tensor]:
        """Weights and running statistics under the detector's names, contiguous, on the CPU."""
        state = self.layers.state_dict()
        return {f"model.{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def build_backbone(architecture: str, seed: int, init: Path | None = None) -> Backbone:
    """The backbone of ``architecture``, its weights a function of ``seed``, and of ``init`` where given.

    ``init``: a detector, or a plain ``.safetensors`` state of its layers; the account of tensors is logged. Raises
    ``UserError`` for names that are unknown and weights that do not fit.
    """
    detector = build_detector(architecture, ["object"], seed)
    if input_stride(detector) != STRIDES[-1]:
        raise ValueError(f"{architecture}: strides other than {STRIDES}")
    if init is not None:
        log.info("%s", load_matching(detector, init, backbone_only=True).describe())
    return Backbone(detector)
