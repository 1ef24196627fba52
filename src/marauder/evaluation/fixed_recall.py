"""Two detectors at the same recall: how precise each is, and how often each sees what is not there.

The precision at a recall is the highest at that recall or more, as average precision reads it (Everingham et al., "The
PASCAL Visual Object Classes Challenge", IJCV 88, 2010, section 4.2). The recall is the one that the first detector has
where it is best at the class (highest F1). Intervals are those of the paired cluster bootstrap: groups of pictures are
drawn, the same for both, and everything, the recall among it, is counted anew in each draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from marauder.core.plain import Plain
from marauder.data.records import Record
from marauder.evaluation.group_draws import draw_groups, percentiles
from marauder.evaluation.matching import Matches
from marauder.evaluation.metrics import defined_mean
from marauder.evaluation.outcomes import judge_detections

LEVEL = 0.95
DRAWS_AT_ONCE = 100


@dataclass(frozen=True)
class Change:
    """A number before and after, their difference, and the bounds that hold 95 % of the draws of the difference. NaN:
    undefined."""

    before: float
    after: float
    delta: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassAtRecall:
    """One class, or the mean of several. ``recall``: the first detector's at ``confidence``; ``reached``: whether the
    second comes to it (where not, its precision there is 0). ``empty``, ``without``: false detections per thousand
    pictures that show no animal at all, or not this one, at the confidences where both have this recall."""

    name: str
    boxes: int
    confidence: float
    recall: float
    reached: bool
    precision: Change
    empty: Change
    without: Change


@dataclass(frozen=True)
class AtFixedRecall:
    """``classes`` by name, ``tier``: their mean; ``empty_pictures``: how many show nothing; ``draws``: how many."""

    classes: tuple[ClassAtRecall, ...]
    tier: ClassAtRecall
    empty_pictures: int
    draws: int

    def to_json(self) -> Plain:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Curve:
    """Detections of a class that are right or wrong, by falling score: whether right, place of the picture, score."""

    right: np.ndarray
    picture: np.ndarray
    score: np.ndarray


def at_fixed_recall(
    before: Matches,
    after: Matches,
    records: Sequence[Record],
    classes: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
    confidence: float | None = None,
) -> AtFixedRecall:
    """Compare two detectors, matched with the same ``records``, on some classes.

    ``confidence``: where the recall of ``before`` is read; default: for each class where its F1 is highest. Raises
    ``ValueError`` for matches of other pictures or classes.
    """
    if before.names != after.names or not (before.pictures == after.pictures == len(records)):
        raise ValueError("both detectors must be matched with the same pictures and the same classes")
    weights = draw_groups(records, draws, seed).weights_from_original()
    shows = _shown(before)
    nothing = before.counted & ~shows.any(axis=1)
    rows = [
        _of_class(
            (before, after), before.names.index(name), confidence, weights, nothing, before.counted & ~shows[:, number]
        )
        for name in classes
        for number in [before.names.index(name)]
    ]
    return AtFixedRecall(tuple(row.summary for row in rows), _mean(rows), int(nothing.sum()), draws)


def _shown(matches: Matches) -> np.ndarray:
    """Which pictures show which classes, in boxes of any kind: bool (P, K)."""
    shown = np.zeros((matches.pictures, len(matches.names)), bool)
    shown[matches.box_picture, matches.box_class] = True
    return shown


@dataclass(frozen=True, eq=False)
class _Row:
    """A class in all draws: (3, 2, 1 + draws), what ``Change`` is of, before and after."""

    summary: ClassAtRecall
    values: np.ndarray


def _of_class(
    pair: tuple[Matches, Matches],
    number: int,
    confidence: float | None,
    weights: np.ndarray,
    nothing: np.ndarray,
    without: np.ndarray,
) -> _Row:
    curves = [_curve(matches, number) for matches in pair]
    counts = (pair[0].box_class == number) & ~pair[0].box_ignored[0] & pair[0].counted[pair[0].box_picture]
    boxes = weights[pair[0].box_picture[counts]].sum(axis=0)
    at = _best_confidence(curves[0], int(boxes[0])) if confidence is None else confidence
    sure = curves[0].score >= at
    wanted = weights[curves[0].picture[sure & curves[0].right]].sum(axis=0)
    values = np.full((3, 2, weights.shape[1]), np.nan)
    for side, curve in enumerate(curves):
        # Block by block: each needs arrays of detections times draws.
        for start in range(0, weights.shape[1], DRAWS_AT_ONCE):
            block = slice(start, start + DRAWS_AT_ONCE)
            precision, score = _at_count(curve, weights[:, block], wanted[block])
            defined = (boxes[block] > 0) & (wanted[block] > 0)
            values[0, side, block] = np.where(defined, precision, np.nan)
            for row, pictures in ((1, nothing), (2, without)):
                rate = _false_rate(curve, weights[:, block], pictures, score)
                values[row, side, block] = np.where(defined, rate, np.nan)
    recall = float(wanted[0] / boxes[0]) if boxes[0] else float("nan")
    reached = bool(wanted[0] and curves[1].right.sum() >= wanted[0])
    return _Row(_summary(pair[0].names[number], int(boxes[0]), at, recall, reached, values), values)


def _best_confidence(curve: _Curve, boxes: int) -> float:
    """The score at which F1 is highest (the highest of equal ones); infinite where nothing is right."""
    if not curve.right.any():
        return float("inf")
    whole = np.append(curve.score[1:] != curve.score[:-1], True)  # equal scores come together or not at all
    f1 = 2 * np.cumsum(curve.right) / (np.arange(1, len(curve.right) + 1) + boxes)
    return float(curve.score[int(np.where(whole, f1, 0.0).argmax())])


def _curve(matches: Matches, number: int) -> _Curve:
    true, false, _ = judge_detections(matches)
    chosen = (matches.detection_class == number) & (true | false) & matches.counted[matches.detection_picture]
    return _Curve(true[chosen], matches.detection_picture[chosen], matches.detection_score[chosen])


def _at_count(curve: _Curve, weights: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest precision with at least ``wanted`` (N,) right detections, and the score there: two (N,); 0 and
    -infinity where so many are never right."""
    if not len(curve.right):
        return np.zeros(len(wanted)), np.full(len(wanted), -np.inf)
    times = weights[curve.picture]
    seen = np.cumsum(times, axis=0)
    right = np.cumsum(times * curve.right[:, None], axis=0)
    # -1 is below any precision: argmax takes it only where the recall is never reached.
    precision = np.where(right >= wanted, right / np.maximum(seen, 1), -1.0)
    best = precision.argmax(axis=0)
    highest = np.take_along_axis(precision, best[None], axis=0)[0]
    return np.maximum(highest, 0.0), np.where(highest >= 0, curve.score[best], -np.inf)


def _false_rate(curve: _Curve, weights: np.ndarray, pictures: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Detections at ``score`` (N,) or more per thousand of ``pictures`` (bool (P,)), in each draw: (N,); NaN where no
    such picture was drawn or the recall is not reached."""
    there = pictures[curve.picture]
    counted = weights[curve.picture[there]] * (curve.score[there][:, None] >= score)
    total = weights[pictures].sum(axis=0)
    rate = np.divide(1000.0 * counted.sum(axis=0), total, out=np.full(len(score), np.nan), where=total > 0)
    return np.where(np.isfinite(score), rate, np.nan)


def _summary(
    name: str, boxes: int, confidence: float, recall: float, reached: bool, values: np.ndarray
) -> ClassAtRecall:
    changes = []
    for before, after in values:
        low, high = percentiles((after - before)[1:], LEVEL)
        changes.append(Change(float(before[0]), float(after[0]), float(after[0] - before[0]), low, high))
    return ClassAtRecall(name, boxes, confidence, recall, reached, *changes)


def _mean(rows: Sequence[_Row]) -> ClassAtRecall:
    """The mean over classes, draw by draw, of those that are defined before and after."""
    stacked = np.stack([row.values for row in rows])
    stacked = np.where(np.isnan(stacked).any(axis=2, keepdims=True), np.nan, stacked)
    known = ~np.isnan(stacked)
    total, count = np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0)
    values = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    summaries = [row.summary for row in rows]
    return _summary(
        "critical",
        sum(one.boxes for one in summaries),
        float("nan"),
        defined_mean(np.array([one.recall for one in summaries])),
        all(one.reached for one in summaries if one.recall > 0),
        values,
    )


def tier_masks(records: Sequence[Record], names: Sequence[str], critical: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Boxes of the critical classes, of the others, and of each class, over the records' boxes one after the other:
    bool (B,) by name; what has no box is left out. Classes come under ``class <name>``."""
    of_box = np.concatenate([record.classes for record in records]) if records else np.zeros(0, np.int64)
    chosen = np.isin(of_box, [list(names).index(name) for name in critical])
    masks = {"critical": chosen, "others": ~chosen}
    masks |= {f"class {name}": of_box == number for number, name in enumerate(names)}
    return {name: mask for name, mask in masks.items() if mask.any()}
