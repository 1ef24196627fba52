"""A small YOLO data set of drawn shapes, for tests of mechanics: discs, squares and crosses on noise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

NAMES = ("disc", "square", "cross")
PLAIN = (
    "gate.contract=off", "gate.drift=off", "gate.sanity=off", "gate.determinism=off", "tracking.trackers=[]",
    "registry.kind=none", "export.formats=[]",
)  # fmt: skip
"""Settings of a run that only trains and measures."""
SETTINGS = [
    "--model", "yolov8t", "--imgsz", "64", "--epochs", "10", "--batch-size", "4", "--device", "cpu",
    "training.checkpoint_steps=3", "training.close_mosaic_epochs=2", "training.optimizer.warmup_epochs=1",
    "training.threads=1", *PLAIN,
]  # fmt: skip
"""Words of a `marauder baseline` on it that takes seconds."""
COLOURS = ((220, 60, 60), (60, 200, 80), (70, 90, 220))


def write_small_reef(folder: Path, train: int = 12, val: int = 6, test: int = 0, size: int = 96) -> Path:
    """Write the data set and return its data.yaml. The same arguments give the same files."""
    number = 0
    for split, count in (("train", train), ("val", val), ("test", test)):
        for _ in range(count):
            _write_picture(folder, split, number, size)
            number += 1
    lines = [f"path: {folder}", "train: images/train", "val: images/val"]
    lines += ["test: images/test"] if test else []
    lines += ["names:", *(f"  {index}: {name}" for index, name in enumerate(NAMES))]
    path = folder / "data.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _write_picture(folder: Path, split: str, number: int, size: int) -> None:
    random = np.random.default_rng(number)
    picture = random.integers(80, 120, (size, size, 3)).astype(np.uint8)
    labels = []
    for _ in range(random.integers(1, 4)):
        kind = int(random.integers(3))
        radius = int(random.integers(size // 8, size // 5))
        x, y = (int(value) for value in random.integers(radius, size - radius, 2))
        _draw(picture, kind, x, y, radius)
        labels.append(f"{kind} {x / size:.5f} {y / size:.5f} {2 * radius / size:.5f} {2 * radius / size:.5f}")
    for kind, name in (("images", f"{number:03d}.png"), ("labels", f"{number:03d}.txt")):
        place = folder / kind / split
        place.mkdir(parents=True, exist_ok=True)
        if kind == "images":
            cv2.imwrite(str(place / name), picture)
        else:
            (place / name).write_text("\n".join(labels) + "\n", encoding="utf-8")


def _draw(picture: np.ndarray, kind: int, x: int, y: int, radius: int) -> None:
    colour = COLOURS[kind]
    if kind == 0:
        cv2.circle(picture, (x, y), radius, colour, -1)
    elif kind == 1:
        cv2.rectangle(picture, (x - radius, y - radius), (x + radius, y + radius), colour, -1)
    else:
        cv2.line(picture, (x - radius, y), (x + radius, y), colour, radius // 2)
        cv2.line(picture, (x, y - radius), (x, y + radius), colour, radius // 2)
