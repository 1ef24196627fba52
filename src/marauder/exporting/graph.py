"""A detector made ready for tracing, and the metadata that Ultralytics' loaders look for inside an exported file."""

from __future__ import annotations

import copy
from typing import Any

import torch

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.version import __version__
from marauder.exporting.base import GraphOptions
from marauder.models.files import LoadedDetector, operating_confidence
from marauder.models.ultralytics_adapter import DetectionModel, input_stride


def deployable(detector: LoadedDetector, dynamic: bool = False) -> DetectionModel:
    """A copy that returns the decoded predictions (B, 4 + classes, A) alone: batch normalisation is folded into the
    convolutions, gradients are off, float32 on the processor.

    ``dynamic``: anchor points are computed inside the graph, for inputs whose size differs from call to call.
    Raises ``UserError`` for a detector whose head picks its boxes itself.
    """
    if getattr(detector.model, "end2end", False):
        raise UserError(
            f"{detector.path}: its head picks boxes without suppression; only detectors of the YOLOv8 and YOLO11 "
            "kind can be exported"
        )
    model = copy.deepcopy(detector.model).cpu().float().eval()
    model.criterion = None
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model = model.fuse(verbose=False)
    head = model.model[-1]
    # Without a remembered shape the head makes its anchors anew while it is traced.
    head.export, head.dynamic, head.shape = True, dynamic, None
    for module in model.modules():
        if hasattr(module, "forward_split"):
            module.forward = module.forward_split  # the same numbers from fewer operators than with chunk
    return model


def example_input(options: GraphOptions) -> torch.Tensor:
    """The input that a graph is traced with."""
    return torch.zeros(options.batch, 3, options.height, options.width)


def describe_graph(detector: LoadedDetector, options: GraphOptions, weights_hash: str) -> Plain:
    """Metadata as Ultralytics' loaders expect it (8.4: ``stride``, ``task``, ``batch``, ``imgsz``, ``names``, ``args``,
    ``channels``, ``end2end``), who made it, the SHA-256 of the weights it was made from, and their
    operating point. Holds no date, so that the same detector gives the same bytes.
    """
    architecture = getattr(detector.model, "marauder_architecture", "") or "YOLO"
    layers: Any = detector.model.model
    point = operating_confidence(detector.metadata.get("metrics"))
    return {
        "description": f"Marauder {architecture} detector, {len(detector.names)} classes",
        "author": "Marauder",
        "version": __version__,
        "license": "AGPL-3.0-or-later",
        "stride": input_stride(detector.model),
        "task": "detect",
        "head": type(layers[-1]).__name__,
        "batch": options.batch,
        "imgsz": [options.height, options.width],
        "names": dict(enumerate(detector.names)),
        "args": {"batch": options.batch, "dynamic": options.dynamic, "nms": False},
        "channels": 3,
        "end2end": False,
        "weights_sha256": weights_hash,
        **({"confidence": point} if point is not None else {}),
    }
