"""Two figures for detectors that are wanted for one side of the trade: recall where precision keeps a floor, and
precision where recall does.

Both are read from the curve of average precision (IoU 0.5, all sizes; ``evaluation.metrics``), class by class, and are
means over the classes with boxes. Unlike precision and recall at the one operating point they cannot be had by another
threshold. By themselves they are 0 as long as no class reaches the floor, and may fall back to 0: they could not tell
which of two weak detectors is better, and would look like a training that collapsed. So each holds a tenth of mAP50.
"""

from __future__ import annotations

import math

import numpy as np

from marauder.evaluation.matching import Matches
from marauder.evaluation.metrics import RECALL_POINTS, defined_mean, precision_at_recall

SHARE_OF_MAP50 = 0.1


def metrics_at_floors(matches: Matches, precision_floor: float, recall_floor: float) -> dict[str, float]:
    """``recall_at_precision``: the highest recall that is reached with at least ``precision_floor``;
    ``precision_at_recall``: the highest precision with a recall of at least ``recall_floor``. Both 0..1, with their
    tenth of mAP50; NaN without boxes. Recall is read in steps of 0.01."""
    curves = precision_at_recall(matches)
    defined = ~np.isnan(curves).any(axis=1)
    # Precision never rises along the curve: the points that keep the floor are the first ones. That of recall 0 alone
    # says that something is right, not that anything is reached.
    kept = (curves >= precision_floor).sum(axis=1)
    recall = np.where(defined, RECALL_POINTS[np.maximum(kept - 1, 0)], np.nan)
    at = math.ceil(round(recall_floor * (len(RECALL_POINTS) - 1), 9))
    map50 = defined_mean(curves.mean(axis=1))
    return {
        "recall_at_precision": _with_map50(defined_mean(recall), map50),
        "precision_at_recall": _with_map50(defined_mean(curves[:, at]), map50),
    }


def _with_map50(value: float, map50: float) -> float:
    return (1 - SHARE_OF_MAP50) * value + SHARE_OF_MAP50 * map50
