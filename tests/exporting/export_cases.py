"""Small detectors with boxes to find, saved as a user has them, for the tests of the export."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from lively_detectors import lively_detector
from marauder.exporting.base import GraphOptions
from marauder.exporting.inputs import make_batches, pattern
from marauder.models.files import LoadedDetector, load_detector, save_detector

NAMES = ("fish", "jelly's fish", "starfish")
SIZE = 160


def write_pictures(folder: Path, count: int = 4) -> Path:
    """Generated pictures of differing shape as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture = pattern(1, index)[: 480 - 60 * (index % 3), : 640 - 100 * (index % 2)]
        cv2.imwrite(str(folder / f"{index}.png"), picture[:, :, ::-1])
    return folder


def save_lively(
    stem: Path, name: str = "yolov8t", seed: int = 0, size: int = SIZE, branch_width: int | None = None
) -> LoadedDetector:
    """Save a detector and open it again."""
    inputs = np.concatenate(make_batches([pattern(1, index) for index in range(4)], GraphOptions(size, size), 32))
    stem.parent.mkdir(parents=True, exist_ok=True)
    save_detector(lively_detector(name, NAMES, inputs, seed, branch_width), stem, size, {})
    return load_detector(stem.with_suffix(".pt"))
