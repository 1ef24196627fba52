"""Does an exported file answer as the model it was made from does? Judged on raw boxes and scores, before suppression.

Both answers also go through the same suppression, and boxes of one class are paired one to one, best overlap first.
Boxes that suppression keeps on one side only are counted and reported, but are no fault of the file: an unsure detector
gives many boxes nearly the same score, and rounding alone decides which of them stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from marauder.core.clock import Clock
from marauder.core.plain import Plain
from marauder.data.boxes import iou_matrix
from marauder.exporting.base import Run
from marauder.exporting.settings import ParitySettings
from marauder.models.ultralytics_adapter import suppress

LEAST_CONFIDENCE = 1e-5
BELOW = 0.98
"""A lowered confidence stays this much below a score, so that rounding does not decide who reaches it."""
SAME_OBJECT_IOU = 0.5
"""Two boxes that overlap less are not taken for the same detection moved, but for two that have no counterpart."""
ALIKE = 1e-4
"""Scores that vary less than this from picture to picture say that the model hardly looks at them."""


@dataclass(frozen=True)
class Reference:
    """The PyTorch model's raw answers to all batches, and the confidence at which its boxes are compared.

    ``score_limit``: how far raw scores may differ.
    """

    batches: tuple[np.ndarray, ...] = field(repr=False)
    raw: tuple[np.ndarray, ...] = field(repr=False)
    kept: tuple[tuple[np.ndarray, ...], ...] = field(repr=False)
    confidence: float
    boxes: int
    score_limit: float
    score_spread: float


@dataclass(frozen=True)
class Parity:
    """The verdict on one exported file with its figures.

    ``raw_box_difference``: pixels of the input; ``raw_score_difference``, ``score_difference``: greatest absolute
    differences before and after suppression; ``score_limit``: what the raw one may be at most; ``least_iou``: of paired
    boxes; ``unmatched``: boxes of either side with no counterpart; ``near_ties``: boxes that both sides computed alike
    but that suppression chose on one side only. ``reasons``: why it failed; ``remarks``: what to know of a verdict that
    holds.
    """

    passed: bool
    pictures: int
    boxes: int
    confidence: float
    raw_box_difference: float | None
    raw_score_difference: float | None
    score_limit: float
    least_iou: float | None
    score_difference: float | None
    unmatched: int
    near_ties: int
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]

    def plain(self) -> Plain:
        """The fields as plain values, the verdict as ``pass`` or ``fail``."""
        return {"verdict": "pass" if self.passed else "fail", **asdict(self)}


@dataclass
class _Tally:
    pairs: list[tuple[float, float]] = field(default_factory=list)
    unmatched: int = 0
    near_ties: int = 0


def make_reference(model: Run, batches: Sequence[np.ndarray], settings: ParitySettings, clock: Clock) -> Reference:
    """Run the model as evaluation runs it; with too few boxes, lower the confidence until there are enough."""
    raw = []
    for batch in batches:
        clock.check()
        raw.append(model(batch))
    confidence = settings.confidence
    kept = [_suppress(answer, confidence, settings) for answer in raw]
    # Suppression keeps a few of the scores that reach a confidence, hence ten for each box wanted.
    candidates = 10 * settings.least_boxes
    while _count(kept) < settings.least_boxes and confidence > LEAST_CONFIDENCE:
        confidence = max(LEAST_CONFIDENCE, min(confidence / 2, BELOW * _highest_score(raw, candidates)))
        candidates *= 10
        kept = [_suppress(answer, confidence, settings) for answer in raw]
    limit = _score_limit(raw, settings)
    return Reference(tuple(batches), tuple(raw), tuple(kept), confidence, _count(kept), limit, _score_spread(raw))


def check_parity(reference: Reference, run: Run, settings: ParitySettings, clock: Clock) -> Parity:
    """Compare an exported file's answers with the reference's; asks the clock before every batch."""
    tally = _Tally()
    box_difference = score_difference = 0.0
    for batch, expected, kept in zip(reference.batches, reference.raw, reference.kept, strict=True):
        clock.check()
        answer = run(batch)
        if answer.shape != expected.shape:
            return _broken(reference, f"answers {answer.shape}, the model {expected.shape}")
        if not np.isfinite(expected).all():
            return _broken(reference, "the model itself answers with numbers that are not finite")
        if not np.isfinite(answer).all():
            return _broken(reference, "answers with numbers that are not finite")
        difference = np.abs(answer - expected)
        box_difference = max(box_difference, float(difference[:, :4].max()))
        score_difference = max(score_difference, float(difference[:, 4:].max()))
        found = _suppress(answer, reference.confidence, settings)
        for index, (ours, theirs) in enumerate(zip(kept, found, strict=True)):
            _compare(ours, theirs, expected[index], answer[index], reference.score_limit, settings.box_iou, tally)
    return _judge(reference, tally, box_difference, score_difference, settings)


def pairs_by_overlap(first: np.ndarray, second: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Pair rows (x0 y0 x1 y1 score class) of equal class one to one, best overlap first; also the overlaps (M, N)."""
    overlaps = iou_matrix(first[:, :4], second[:, :4]) * (first[:, None, 5] == second[None, :, 5])
    pairs: list[tuple[int, int]] = []
    free_first, free_second = np.ones(len(first), bool), np.ones(len(second), bool)
    rows, columns = np.nonzero(overlaps >= SAME_OBJECT_IOU)
    for best in np.argsort(-overlaps[rows, columns], kind="stable"):
        row, column = int(rows[best]), int(columns[best])
        if free_first[row] and free_second[column]:
            free_first[row] = free_second[column] = False
            pairs.append((row, column))
    return pairs, overlaps


def _compare(
    ours: np.ndarray,
    theirs: np.ndarray,
    our_raw: np.ndarray,
    their_raw: np.ndarray,
    score_limit: float,
    box_iou: float,
    tally: _Tally,
) -> None:
    """Add one picture: kept boxes (M, 6) of both sides and their raw answers (4 + classes, A)."""

    def in_both(box: np.ndarray, other_raw: np.ndarray) -> bool:
        return _has_candidate(box, other_raw, score_limit, box_iou)

    pairs, overlaps = pairs_by_overlap(ours, theirs)
    for row, column in pairs:
        overlap, difference = float(overlaps[row, column]), abs(float(ours[row, 4] - theirs[column, 4]))
        apart = overlap < box_iou or difference > score_limit
        if apart and in_both(ours[row], their_raw) and in_both(theirs[column], our_raw):
            tally.near_ties += 2  # not one box moved, but two boxes of which each side kept another
        else:
            tally.pairs.append((overlap, difference))
    left_over = [
        (np.delete(ours, [row for row, _ in pairs], axis=0), their_raw),
        (np.delete(theirs, [column for _, column in pairs], axis=0), our_raw),
    ]
    for boxes, other_raw in left_over:
        for box in boxes:
            if in_both(box, other_raw):
                tally.near_ties += 1
            else:
                tally.unmatched += 1


def _has_candidate(box: np.ndarray, raw: np.ndarray, score_limit: float, box_iou: float) -> bool:
    """Whether the raw answer (4 + classes, A) holds the same box with the same score, suppressed or under the limit."""
    near = np.abs(raw[4 + int(box[5])] - box[4]) <= score_limit
    centres, sizes = raw[:2, near].T, raw[2:4, near].T
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return bool((iou_matrix(box[None, :4], corners) >= box_iou).any())


def _judge(reference: Reference, tally: _Tally, raw_box: float, raw_score: float, settings: ParitySettings) -> Parity:
    reasons = []
    if raw_box > settings.raw_box_tolerance:
        reasons.append(f"raw boxes differ by up to {raw_box:.3g} pixels (limit {settings.raw_box_tolerance:g})")
    if raw_score > reference.score_limit:
        reasons.append(f"raw scores differ by up to {raw_score:.3g} (limit {reference.score_limit:.3g})")
    return Parity(
        passed=not reasons,
        pictures=_pictures(reference),
        boxes=reference.boxes,
        confidence=reference.confidence,
        raw_box_difference=raw_box,
        raw_score_difference=raw_score,
        score_limit=reference.score_limit,
        least_iou=min((iou for iou, _ in tally.pairs), default=None),
        score_difference=max((difference for _, difference in tally.pairs), default=None),
        unmatched=tally.unmatched,
        near_ties=tally.near_ties,
        reasons=tuple(reasons),
        remarks=_remarks(reference, settings),
    )


def _remarks(reference: Reference, settings: ParitySettings) -> tuple[str, ...]:
    """What to know of the model: the same for all its exported files."""
    remarks = []
    if reference.boxes == 0:
        remarks.append("the model finds no box on these pictures at any confidence: only raw numbers were compared")
    elif reference.confidence < settings.confidence:
        remarks.append(
            f"the model is unsure on these pictures: boxes were compared from a score of {reference.confidence:.2g} "
            f"instead of {settings.confidence:g}"
        )
    if _pictures(reference) > 1 and reference.score_spread < ALIKE:
        remarks.append("the model gives nearly the same scores for every picture (untrained?): the check shows little")
    return tuple(remarks)


def _broken(reference: Reference, reason: str) -> Parity:
    return Parity(
        passed=False,
        pictures=_pictures(reference),
        boxes=reference.boxes,
        confidence=reference.confidence,
        raw_box_difference=None,
        raw_score_difference=None,
        score_limit=reference.score_limit,
        least_iou=None,
        score_difference=None,
        unmatched=0,
        near_ties=0,
        reasons=(reason,),
        remarks=(),
    )


def _score_limit(raw: Sequence[np.ndarray], settings: ParitySettings) -> float:
    """The tolerance; a share of it for a model whose highest score stays below ``confidence``.

    All scores of a detector that has learned little lie below the tolerance itself, and even a graph that answers
    zeros would be within it.
    """
    highest = max(float(answer[:, 4:].max()) for answer in raw)
    return settings.score_tolerance * min(1.0, highest / settings.confidence)


def _suppress(raw: np.ndarray, confidence: float, settings: ParitySettings) -> tuple[np.ndarray, ...]:
    # Suppression changes the tensor it is given.
    rows = suppress(torch.from_numpy(raw.copy()), confidence, settings.suppression_iou)
    return tuple(picture.numpy() for picture in rows)


def _count(kept: Sequence[tuple[np.ndarray, ...]]) -> int:
    return sum(len(rows) for pictures in kept for rows in pictures)


def _highest_score(raw: Sequence[np.ndarray], rank: int) -> float:
    """The score of rank ``rank`` (from 1) over all pictures and classes; the lowest where there are fewer."""
    scores = np.concatenate([answer[:, 4:].ravel() for answer in raw])
    return float(np.sort(scores)[-min(rank, len(scores))])


def _pictures(reference: Reference) -> int:
    return sum(len(batch) for batch in reference.batches)


def _score_spread(raw: Sequence[np.ndarray]) -> float:
    """Greatest range over pictures of the highest score that each class gets in a picture."""
    highest = np.concatenate([answer[:, 4:].max(axis=2) for answer in raw])
    return float(np.ptp(highest, axis=0).max())
