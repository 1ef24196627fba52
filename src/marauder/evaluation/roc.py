"""Is an animal in the picture at all: for each class the ROC of telling pictures with it from pictures without.

A picture's score for a class is the confidence of its best detection there, 0 without one. The area under the curve is
the chance that a picture with the class scores above one without (ties count half): the rank statistic of Mann and
Whitney (1947), see Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27 (2006).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from marauder.core.plain import Plain
from marauder.evaluation.matching import Matches
from marauder.evaluation.outcomes import judge_detections


@dataclass(frozen=True, eq=False)
class PresenceCurve:
    """One class. ``present``, ``absent``: how many pictures; ``auc``: 0..1, NaN if there are none of a kind.

    ``false_rate``, ``true_rate``: (N,), share of the pictures without and with the class that score at least
    ``threshold`` (N,), from (0, 0) at infinity to (1, 1).
    """

    name: str
    present: int
    absent: int
    auc: float
    false_rate: np.ndarray = field(repr=False)
    true_rate: np.ndarray = field(repr=False)
    threshold: np.ndarray = field(repr=False)

    def to_json(self) -> Plain:
        """The numbers without the curve; NaN stays NaN and is written as ``null``."""
        return {"name": self.name, "present": self.present, "absent": self.absent, "auc": self.auc}


def presence_curves(matches: Matches) -> tuple[PresenceCurve, ...]:
    """The curve of every class over the pictures that count.

    A picture whose only boxes of a class are ignored (or outside the slice) may or may not hold it: it takes no part
    for that class. Nor do excused detections.
    """
    shape = (len(matches.names), matches.pictures)
    true, false, _ = judge_detections(matches)
    used = np.flatnonzero(true | false)
    scores = np.zeros(shape)
    # Not an assignment: a picture and class come up once for each detection, and the highest score is to stay.
    np.maximum.at(
        scores, (matches.detection_class[used], matches.detection_picture[used]), matches.detection_score[used]
    )
    present, uncertain = np.zeros((2, *shape), bool)
    counting = ~matches.box_ignored[0]
    present[matches.box_class[counting], matches.box_picture[counting]] = True
    uncertain[matches.box_class[~counting], matches.box_picture[~counting]] = True
    known = matches.counted & (present | ~uncertain)
    return tuple(
        presence_curve(name, scores[index][known[index]], present[index][known[index]])
        for index, name in enumerate(matches.names)
    )


def presence_curve(name: str, scores: np.ndarray, present: np.ndarray) -> PresenceCurve:
    """The curve of pictures (N,) with ``scores`` and whether the class is ``present``."""
    order = np.argsort(-scores, kind="stable")
    falling, truth = scores[order], present[order]
    ends = np.flatnonzero(np.diff(falling, append=-np.inf))
    positives, negatives = int(truth.sum()), int((~truth).sum())
    true = np.concatenate(([0], np.cumsum(truth)[ends]))
    false = np.concatenate(([0], np.cumsum(~truth)[ends]))
    pairs = positives * negatives
    # Each step sideways, over pictures without the class, lies above those with it that scored more; ties count half.
    above = float((np.diff(false) * (true[1:] + true[:-1])).sum()) / 2
    return PresenceCurve(
        name=name,
        present=positives,
        absent=negatives,
        auc=above / pairs if pairs else float("nan"),
        false_rate=false / negatives if negatives else np.full(len(false), np.nan),
        true_rate=true / positives if positives else np.full(len(true), np.nan),
        threshold=np.concatenate(([np.inf], falling[ends])),
    )
