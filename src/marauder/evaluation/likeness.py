"""How alike two detectors are on the same pictures: in the boxes they miss or doubt, and in what they report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.matching import Matches, match


def box_scores(matches: Matches) -> np.ndarray:
    """The score that each box that counts got from its own detection at IoU 0.5, 0 where none found it: (B,)."""
    # Segments of all sizes and the first threshold come first, one a class.
    found = (matches.pair_segment < len(matches.names)) & matches.pair_true
    scores = np.zeros(len(matches.box_class))
    scores[matches.pair_box[found]] = matches.detection_score[matches.pair_detection[found]]
    return scores[~matches.box_ignored[0]]


def correlation_of_errors(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of two normal variables with the rank correlation of ``first`` and ``second``, (B,) each: the
    ``box_scores`` of two detectors, on whatever scales. NaN where one of them scores all boxes alike.

    1: what is hard for one is as hard for the other; 0: each has its own difficulties.
    """
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    from scipy.stats import spearmanr

    # Pearson, "On further methods of determining correlation" (1907); scores may be on any scale.
    return 2 * math.sin(math.pi / 6 * float(spearmanr(first, second).statistic))


def disagreement(
    records: Sequence[Record], first: Sequence[Detections], second: Sequence[Detections], names: Sequence[str]
) -> float:
    """The share, 0..1, of the boxes of two detectors that the other one has no box for (IoU 0.5, its class).

    ``first[i]``, ``second[i]``: what each reports in ``records[i]``, from its operating point up; only their pictures
    count, not their labels. NaN where neither reports a box.
    """
    said = [
        replace(
            record,
            boxes=boxes.boxes,
            classes=boxes.classes,
            ignored=np.zeros(len(boxes), bool),
            box_attributes={},
            labelled=True,
        )
        for record, boxes in zip(records, first, strict=True)
    ]
    reported = sum(map(len, first)) + sum(map(len, second))
    if not reported:
        return float("nan")
    matches = match(said, second, names)
    pairs = int(((matches.pair_segment < len(matches.names)) & matches.pair_true).sum())
    return 1.0 - 2.0 * pairs / reported
