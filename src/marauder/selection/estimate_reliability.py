"""Whether a detector's doubts and estimates mean anything on a pool, and what stands for its estimates where not.

A detector that sees nothing has no doubts, and those of one that is nearly always wrong are noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marauder.data.records import Record
from marauder.selection.pool_scores import PoolScores
from marauder.selection.price import boxes_of_a_picture
from marauder.selection.settings import SelectionSettings


def why_distrust(scores: PoolScores, settings: SelectionSettings) -> str:
    """Why the detector's doubts mean nothing on this pool, in words; empty where they can be trusted."""
    reasons = []
    unseen = float((scores.box_counts == 0).mean()) if len(scores) else 0.0
    if unseen > settings.max_unseen_share:
        reasons.append(
            f"in {100 * unseen:.0f} % of the pool it sees no box at all with a score of {settings.confidence:g} or "
            f"more (the limit is {100 * settings.max_unseen_share:g} %; max_unseen_share=1 switches this off)"
        )
    if scores.map50 is not None and scores.map50 < settings.min_map50:
        reasons.append(
            f"its mAP50 on validation pictures is {scores.map50:.3f} (at least {settings.min_map50:g} is required; "
            "min_map50=0 switches this off)"
        )
    return ", and ".join(reasons)


def expected_boxes(
    scores: PoolScores, labelled: Sequence[Record], settings: SelectionSettings, notes: list[str]
) -> np.ndarray | None:
    """Boxes to expect in each picture, float64 (M,); ``None``: nothing says how many.

    Those that the detector estimates, corrected by what it misses in validation pictures; where it is not to be
    trusted, what ``boxes_of_a_picture`` says: for pictures in which it sees nothing, and for all where its mAP50 is too
    low. ``notes`` say so.
    """
    estimated = scores.estimated_boxes.astype(np.float64)
    if not why_distrust(scores, settings):
        if scores.box_line is None:
            return estimated
        intercept, slope = scores.box_line
        corrected = intercept + slope * estimated
        notes.append(
            f"expected boxes are corrected by what the detector misses and invents in validation pictures: "
            f"{corrected.mean():.1f} a picture instead of {estimated.mean():.1f}"
        )
        return corrected
    # A detector that is blind to much of the pool may still count well where it sees; a poor one counts well nowhere.
    poor = scores.map50 is not None and scores.map50 < settings.min_map50
    guessed = np.full(len(scores), True) if poor else scores.box_counts == 0
    mean = boxes_of_a_picture(labelled, settings.price)
    told = f"in {int(guessed.sum()):,} pictures the detector's estimate of the boxes means nothing"
    if mean is None:
        notes.append(f"{told}, and there are no labelled pictures to estimate from; name some with --labeled")
        return None
    stated = settings.price.boxes_per_picture is not None
    source = "price.boxes_per_picture" if stated else f"the mean of the {len(labelled):,} labelled pictures"
    notes.append(f"{told}: {mean:.1f}, {source}, is used instead, in the price, too")
    return np.where(guessed, mean, estimated)


def fit_box_line(expected: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Intercept and slope, at least 0, by which ``expected`` boxes (N,) come nearest to ``true`` ones (N,) by squares.

    The mean stays right where one of them is held at 0.
    """
    mean, mean_true = float(expected.mean()), float(true.mean())
    spread = float(((expected - mean) ** 2).sum())
    slope = float(((expected - mean) * (true - mean_true)).sum()) / spread if spread > 0 else 0.0
    intercept = mean_true - slope * mean
    if slope < 0 or spread <= 0:
        return mean_true, 0.0
    return (0.0, mean_true / mean) if intercept < 0 else (intercept, slope)
