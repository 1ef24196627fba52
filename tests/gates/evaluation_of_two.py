"""A small real evaluation for tests of evidence: four pictures of two clips, two classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.matching import match
from marauder.evaluation.metrics import Metrics, aggregate

_BOXES = np.array([[10.0, 10.0, 50.0, 50.0], [60.0, 60.0, 90.0, 90.0]])
RECORDS = [
    Record(str(index), Path(f"{index}.jpg"), 100, 100, _BOXES, np.array([0, 1]), group=f"clip{index // 2}")
    for index in range(4)
]


def metrics(found: bool = True) -> Metrics:
    """Every fish is found and half of the crabs; nothing at all without ``found``."""
    counts = [1 + index % 2 if found else 0 for index in range(len(RECORDS))]
    detections = [Detections(_BOXES[:count], np.full(count, 0.8), np.arange(count)) for count in counts]
    return aggregate(match(RECORDS, detections, ("fish", "crab")))
