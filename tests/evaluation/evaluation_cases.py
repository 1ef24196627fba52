"""Cases for the evaluation tests: random pictures with awkward boxes, and a detector that errs in known ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from marauder.data.records import Detections, Record


def random_case(
    seed: int,
    pictures: int = 6,
    count: int = 3,
    most_boxes: int = 8,
    most_detections: int = 20,
    crowds: float = 0.1,
    steps: int = 12,
) -> tuple[list[Record], list[Detections]]:
    """Boxes on a coarse grid (so that overlaps hit thresholds and tie), scores of few values (so that they tie)."""
    random = np.random.default_rng(seed)
    records, detections = [], []
    for index in range(pictures):
        boxes = _boxes(random, int(random.integers(0, most_boxes + 1)), steps)
        records.append(
            Record(
                key=f"picture{index}",
                picture=Path(f"picture{index}.png"),
                width=400,
                height=400,
                boxes=boxes,
                classes=random.integers(0, count, len(boxes)),
                ignored=random.random(len(boxes)) < crowds,
                group=f"clip{index % 4}",
                attributes={"site": ("reef", "wreck")[index % 2], "depth": float(index)},
            )
        )
        detections.append(_detections(random, boxes, records[-1].classes, count, most_detections, steps))
    return records, detections


def _boxes(random: np.random.Generator, number: int, steps: int) -> np.ndarray:
    scale = float(random.choice([2.0, 10.0, 33.0]))
    corner = random.integers(0, steps, (number, 2))
    size = random.integers(1, steps, (number, 2))
    return np.concatenate([corner, corner + size], axis=1) * scale


def _detections(
    random: np.random.Generator,
    boxes: np.ndarray,
    classes: np.ndarray,
    count: int,
    most: int,
    steps: int,
) -> Detections:
    number = int(random.integers(0, most + 1))
    found = _boxes(random, number, steps)
    kinds = random.integers(0, count, number)
    if len(boxes):
        copied = random.random(number) < 0.7
        source = random.integers(0, len(boxes), number)
        shift = random.choice([0.0, 0.0, 1.0, 5.0], (number, 4))
        found[copied] = boxes[source[copied]] + shift[copied]
        same = copied & (random.random(number) < 0.8)
        kinds[same] = classes[source[same]]
    scores = random.choice(np.array([0.1, 0.3, 0.5, 0.5, 0.9, 0.987654321]), number)
    return Detections(found, scores, kinds)


def perturbed_detections(records: Sequence[Record], count: int, seed: int = 0) -> list[Detections]:
    """What a middling detector would say: shifted boxes, some missed, some of another class, some from nowhere."""
    random = np.random.default_rng(seed)
    result = []
    for record in records:
        boxes, classes = record.boxes, record.classes
        kept = random.random(len(boxes)) < 0.8
        boxes, classes = boxes[kept], classes[kept]
        size = boxes[:, 2:] - boxes[:, :2]
        boxes = boxes + random.normal(0, 0.08, boxes.shape) * np.concatenate([size, size], axis=1)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        classes = np.where(random.random(len(classes)) < 0.1, random.integers(0, count, len(classes)), classes)
        extra = int(random.poisson(2))
        corner = random.random((extra, 2)) * (record.width, record.height)
        ghosts = np.concatenate([corner, corner + random.uniform(4, 150, (extra, 2))], axis=1)
        scores = np.concatenate([random.beta(4, 2, len(boxes)), random.beta(2, 5, extra)])
        result.append(
            Detections(
                np.concatenate([boxes, ghosts]),
                np.round(scores, 3),
                np.concatenate([classes, random.integers(0, count, extra)]),
            )
        )
    return result


def read_yolo_labels(folder: Path, limit: int | None = None) -> list[Record]:
    """Records of a folder with ``images/`` and ``labels/`` (YOLO text); sizes are read from the pictures."""
    from PIL import Image

    records = []
    for picture in sorted((folder / "images").iterdir())[:limit]:
        with Image.open(picture) as opened:
            width, height = opened.size
        text = (folder / "labels" / f"{picture.stem}.txt").read_text(encoding="utf-8")
        rows = np.array([line.split() for line in text.splitlines() if line.strip()], np.float64).reshape(-1, 5)
        centre, size = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height)
        records.append(
            Record(
                key=picture.stem,
                picture=picture,
                width=width,
                height=height,
                boxes=np.concatenate([centre - size / 2, centre + size / 2], axis=1),
                classes=rows[:, 0].astype(np.int64),
                group=picture.stem.split("-")[0].split("_f")[0],
            )
        )
    return records


def with_ignored(records: Sequence[Record], share: float, seed: int = 1) -> list[Record]:
    """The same records with a share of the boxes ignored."""
    random = np.random.default_rng(seed)
    return [replace(record, ignored=random.random(len(record.boxes)) < share) for record in records]
