"""What scoring says of a pool: a number a picture and measure, its features, and the boxes expected in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class PoolScores:
    """The M pictures of a pool that could be read, in the order of the records.

    ``indices``: int64 (M,), places in the records that were scored. ``measures``: by name float32 (M,), larger is more
    uncertain. ``features``: float32 (M, D) of unit length, the pooled end of the first model's backbone.
    ``class_counts``: float32 (M, C), calibrated expected number of boxes of each class; ``estimated_boxes``: float32
    (M,), their sum. ``box_counts``: int64 (M,), boxes in which some class has a score above ``confidence``. ``map50``:
    AP at IoU 0.5 on labelled validation pictures, the mean over classes, of the best model; ``None``: not measured.
    ``box_line``: intercept and slope by which ``estimated_boxes`` of labelled validation pictures become their true
    ones, both at least 0; ``None``: not measured.
    ``set_aside``: record key to why its picture could not be used. ``notes``: plain sentences on how
    scores were made (which calibration, which committee) that belong in the report. ``seconds``: time spent on
    scoring in this call; what was read back from an earlier one costs nothing.
    """

    indices: np.ndarray
    measures: dict[str, np.ndarray]
    features: np.ndarray
    class_counts: np.ndarray
    estimated_boxes: np.ndarray
    box_counts: np.ndarray
    map50: float | None = None
    box_line: tuple[float, float] | None = None
    set_aside: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.indices)
