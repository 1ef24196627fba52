"""A detector of any kind of file as safetensors alone: the same boxes, foreign architectures found out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from marauder.models.files import load_detector, save_safetensors
from marauder.testing.lively_detectors import save_lively


def answers_alike(first: Path, second: Path) -> bool:
    """Whether both files answer a picture alike, but for rounding."""
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (load_detector(path).model(picture)[0] for path in (first, second))
    return bool(torch.allclose(one, two, atol=1e-3, rtol=1e-4))


def test_a_detector_of_ours_keeps_its_bytes(tmp_path: Path) -> None:
    save_lively(tmp_path / "best", "yolov8t", size=64)
    digest = save_safetensors(load_detector(tmp_path / "best.pt"), tmp_path / "alone.safetensors")
    assert digest is not None and list(tmp_path.glob("alone*")) == [tmp_path / "alone.safetensors"]
    assert (tmp_path / "alone.safetensors").read_bytes() == (tmp_path / "best.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n"])
def test_the_architecture_of_a_foreign_detector_is_found_out(name: str, shared_data: Path, tmp_path: Path) -> None:
    foreign = load_detector(shared_data / "weights" / f"{name}_coco.pt")
    assert "architecture" not in foreign.metadata
    assert save_safetensors(foreign, tmp_path / "alone.safetensors") is not None
    written = load_detector(tmp_path / "alone.safetensors")
    assert written.metadata["architecture"] == name and written.names == foreign.names
    assert answers_alike(foreign.path, tmp_path / "alone.safetensors")


def test_what_is_built_nowhere_is_not_written(tmp_path: Path) -> None:
    save_lively(tmp_path / "best", "yolov8t", size=64)
    detector = load_detector(tmp_path / "best.pt")
    detector.metadata.pop("architecture")
    detector.model.model[0].conv = torch.nn.Conv2d(3, 5, 3)  # type: ignore[index,union-attr]
    assert save_safetensors(detector, tmp_path / "alone.safetensors") is None
    assert not (tmp_path / "alone.safetensors").exists()
