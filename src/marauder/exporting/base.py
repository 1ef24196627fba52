"""What an exporter is: it turns a detector into one deployable file, which a predictor (``prediction``) opens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from marauder.core.plain import Plain
from marauder.core.plugins import Plugin
from marauder.core.settings import Settings
from marauder.models.files import LoadedDetector
from marauder.prediction.predictor import Predictor

Run = Callable[[np.ndarray], np.ndarray]
"""Pictures float32 (B, 3, H, W) in 0..1, red first, to predictions float32 (B, 4 + classes, A): boxes as centre and
size in pixels of the input, then scores in 0..1."""


@dataclass(frozen=True)
class GraphOptions:
    """What the exported graph accepts.

    ``height``, ``width``: pixels of the input, multiples of the detector's stride. ``batch``: pictures a call.
    ``dynamic``: batch, height and width may differ from call to call; the numbers here are then those of the example.
    ``opset``, ``simplify``: ONNX only.
    """

    height: int
    width: int
    batch: int = 1
    dynamic: bool = False
    opset: int = 13
    simplify: bool = True

    def plain(self) -> Plain:
        """The fields as a dict of plain values."""
        return asdict(self)


class Exporter(Plugin[Settings], ABC):
    """One format. Two exports of the same detector with the same options give the same bytes.

    ``suffix``: of the file, chosen so that Ultralytics recognises it.
    ``packages``: those whose version the bytes depend on.
    """

    suffix: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    @abstractmethod
    def export(self, detector: LoadedDetector, options: GraphOptions, metadata: Plain, target: Path) -> Plain:
        """Write ``target`` (atomically) with ``metadata`` inside; returns facts about the graph for the report."""


def run_of(predictor: Predictor) -> Run:
    """What ``predictor`` puts out, from arrays to arrays."""

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return predictor.run(torch.from_numpy(pictures)).numpy()

    return run
