"""A small detector as the graphs of a bundle, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from marauder.bundles.half_precision import to_half
from marauder.bundles.quantising import quantise
from marauder.core.plugins import make
from marauder.exporting.base import GraphOptions
from marauder.exporting.graph import describe_graph
from marauder.exporting.inputs import make_batches, pattern
from marauder.models.files import load_detector, save_detector
from marauder.models.ultralytics_adapter import DetectionModel, build_detector

SIZE = 96


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector whose scores differ from picture to picture, as one that has learned something has them."""
    model = lively(build_detector("yolov8t", ("crab", "ray", "fish"), seed=3))
    folder = tmp_path_factory.mktemp("detector")
    save_detector(model, folder / "reef", SIZE, {})
    return folder / "reef.pt"


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    """Generated patterns, uint8 (480, 640, 3)."""
    return [pattern(7, index) for index in range(12)]


@pytest.fixture(scope="session")
def graphs(weights: Path, pictures: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The ONNX files by precision."""
    folder = tmp_path_factory.mktemp("graphs")
    detector, options = load_detector(weights), GraphOptions(SIZE, SIZE)
    found = {one: folder / f"{one}.onnx" for one in ("fp32", "fp16", "int8")}
    make("exporter", "onnx").export(detector, options, describe_graph(detector, options, "0" * 64), found["fp32"])
    to_half(found["fp32"], found["fp16"])
    quantise(found["fp32"], found["int8"], make_batches(pictures, options, 32))
    return found


def lively(model: DetectionModel) -> DetectionModel:
    """Random weights, every layer normalised on pictures, and lifted scores: some places see animals."""
    draw = torch.Generator().manual_seed(5)
    inputs = make_batches([pattern(1, index) for index in range(8)], GraphOptions(SIZE, SIZE, batch=8), 32)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(inputs[0]))
        model.eval()
        for branch in model.model[-1].cv3:
            width = branch[-1].weight.shape[1]
            branch[-1].weight.copy_(torch.randn(branch[-1].weight.shape, generator=draw) * 3 / width**0.5)
            branch[-1].bias.fill_(-4.0)
    return model
