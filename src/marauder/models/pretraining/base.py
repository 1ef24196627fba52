"""Plug point of self-supervised methods: what the engine, the probe and the report need of one, and how one is built.

A method holds a student (the backbone that detection trains, and heads) and a teacher (its moving average). Signal goes
directly to P3, P4 and P5: each level has a global term (whole views) and a dense term (the same place in two views).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from marauder.core.plugins import resolve
from marauder.models.pretraining.settings import MethodSettings

Outputs = dict[str, torch.Tensor]

LEVELS = ("p3", "p4", "p5")
"""The maps of stride 8, 16 and 32 that the detector's neck takes from the backbone."""


class PretrainingMethod(nn.Module, ABC):
    """A self-supervised method around a detector's backbone.

    Everything that decides how training continues is in ``state_dict``: student, teacher, queues or centres. Teacher
    parameters never have gradients. All trainable parameters take part in every ``forward``, so that
    ``DistributedDataParallel`` finds none unused; ``loss`` uses no parameters, only outputs and buffers.

    It is the network itself, so that it is made of more than its settings, see ``build_method``.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    settings_model: ClassVar[type[MethodSettings]] = MethodSettings

    loss_names: tuple[str, ...]
    """Names of the parts of the loss, k of them: ``global_p3`` ... ``dense_p5``."""

    @abstractmethod
    def forward(self, views: torch.Tensor) -> Outputs:
        """Student and teacher vectors of ``views``: float (B, V, 3, S, S) in 0..1, V >= 2, S a multiple of 32.

        Every value has the batch as its first axis. Runs under autocast; the loss does not.
        """

    @abstractmethod
    def loss(self, outputs: Outputs, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Parts of the loss summed over samples, weighted (k,), and the number of samples ().

        ``batch["matrices"]``: float (B, V, 3, 3), each maps homogeneous pixel coordinates (x, y, 1) of a view to those
        of the source picture; the upper left corner of a picture is (0, 0), the centre of its first pixel (0.5, 0.5).
        Sums over the parts of a batch that is cut add up to those of the whole batch, given the same outputs.
        """

    @abstractmethod
    def updated(self, step: int, steps: int) -> None:
        """To be called on every rank after each optimiser update: ``step`` of ``steps`` (from 0) is done.

        Moves the teacher towards the student, and takes what this update's teacher saw (on all ranks) into the queues
        or centres. Deterministic, and the same on every rank.
        """

    @abstractmethod
    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Student maps of P3, P4 and P5, (B, C, S/8, S/8), (B, C', S/16, S/16), ... of float (B, 3, S, S) in 0..1.

        In the mode the module is in: call ``eval()`` first where features are wanted.
        """

    @abstractmethod
    def backbone_state(self) -> dict[str, torch.Tensor]:
        """The student's backbone layers (up to and with the last one before the neck), contiguous, on the CPU.

        Named as in the detector (``model.0.conv.weight``), so that ``models.transfer.load_matching`` with
        ``backbone_only`` takes every one. No layers of the neck are trained.
        """

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Student features of whole pictures, float32 (B, D): means of P3, P4 and P5 one after another.

        ``images``: float (B, 3, H, W) in 0..1, sides multiples of 32. In the mode the module is in, see ``maps``.
        """
        return torch.cat([level.float().mean(dim=(2, 3)) for level in self.maps(images)], dim=1)


def build_method(
    name: str, architecture: str, settings: MethodSettings, seed: int, init: Path | None = None
) -> PretrainingMethod:
    """The method ``name`` (``moco``, ``distillation``) around the backbone of ``architecture`` (``yolov8n``, ...).

    Weights are a function of ``seed``, and of ``init``: a detector (``.pt``, ``.safetensors``) or a plain backbone
    state to start the backbone from, with a logged account of every tensor taken. Raises ``UserError`` for unknown
    names, weights that do not fit, and when the package behind a method is missing.
    """
    implementation: Any = resolve("pretraining_method", name)
    method: PretrainingMethod = implementation(architecture, settings, seed, init)
    return method
