"""Does an exported file answer as the model it was made from does? Raw numbers, and boxes and scores after suppression.

Both answers go through the same suppression. Boxes of one class are then paired one to one, best overlap first.
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
    """The PyTorch model's raw answers to all batches, and the confidence at which its boxes are compared."""

    batches: tuple[np.ndarray, ...] = field(repr=False)
    raw: tuple[np.ndarray, ...] = field(repr=False)
    kept: tuple[tuple[np.ndarray, ...], ...] = field(repr=False)
    confidence: float
    boxes: int
    score_spread: float


@dataclass(frozen=True)
class Parity:
    """The verdict on one exported file with its figures.

    ``raw_box_difference``: pixels of the input; ``raw_score_difference``, ``score_difference``: greatest absolute
    differences before and after suppression; ``least_iou``: of paired boxes; ``unmatched``: boxes of either side with
    no counterpart; ``near_ties``: boxes that both sides computed alike but that suppression chose on one side only.
    ``reasons``: why it failed; ``remarks``: what to know of a verdict that holds.
    """

    passed: bool
    pictures: int
    boxes: int
    confidence: float
    raw_box_difference: float | None
    raw_score_difference: float | None
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
    return Reference(tuple(batches), tuple(raw), tuple(kept), confidence, _count(kept), _score_spread(raw))


def check_parity(reference: Reference, run: Run, settings: ParitySettings, clock: Clock) -> Parity:
    """Compare an exported file's answers with the reference's; asks the clock before every batch."""
    tally = _Tally()
    box_difference = score_difference = 0.0
    for batch, expected, kept in zip(reference.batches, reference.raw, reference.kept, strict=True):
        clock.check()
        answer = run(batch)
        if answer.shape != expected.shape:
            return _broken(reference, f"answers {answer.shape}, the model {expected.shape}")
        if not np.isfinite(answer).all():
            return _broken(reference, "answers with numbers that are not finite")
        difference = np.abs(answer - expected)
        box_difference = max(box_difference, float(difference[:, :4].max()))
        score_difference = max(score_difference, float(difference[:, 4:].max()))
        found = _suppress(answer, reference.confidence, settings)
        for index, (ours, theirs) in enumerate(zip(kept, found, strict=True)):
            _compare(ours, theirs, expected[index], answer[index], settings, tally)
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
    settings: ParitySettings,
    tally: _Tally,
) -> None:
    """Add one picture: kept boxes (M, 6) of both sides and their raw answers (4 + classes, A)."""
    pairs, overlaps = pairs_by_overlap(ours, theirs)
    for row, column in pairs:
        overlap, difference = float(overlaps[row, column]), abs(float(ours[row, 4] - theirs[column, 4]))
        apart = overlap < settings.box_iou or difference > settings.score_tolerance
        if (
            apart
            and _has_candidate(ours[row], their_raw, settings)
            and _has_candidate(theirs[column], our_raw, settings)
        ):
            tally.near_ties += 2  # not one box moved, but two boxes of which each side kept another
        else:
            tally.pairs.append((overlap, difference))
    left_over = [
        (np.delete(ours, [row for row, _ in pairs], axis=0), their_raw),
        (np.delete(theirs, [column for _, column in pairs], axis=0), our_raw),
    ]
    for boxes, other_raw in left_over:
        for box in boxes:
            if _has_candidate(box, other_raw, settings):
                tally.near_ties += 1
            else:
                tally.unmatched += 1


def _has_candidate(box: np.ndarray, raw: np.ndarray, settings: ParitySettings) -> bool:
    """Whether the raw answer (4 + classes, A) holds the same box with the same score, suppressed or under the limit."""
    near = np.abs(raw[4 + int(box[5])] - box[4]) <= settings.score_tolerance
    centres, sizes = raw[:2, near].T, raw[2:4, near].T
    corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    return bool((iou_matrix(box[None, :4], corners) >= settings.box_iou).any())


def _judge(reference: Reference, tally: _Tally, raw_box: float, raw_score: float, settings: ParitySettings) -> Parity:
    least_iou = min((iou for iou, _ in tally.pairs), default=None)
    score = max((difference for _, difference in tally.pairs), default=None)
    reasons = []
    if raw_box > settings.raw_box_tolerance:
        reasons.append(f"raw boxes differ by up to {raw_box:.3g} pixels (limit {settings.raw_box_tolerance:g})")
    if raw_score > settings.score_tolerance:
        reasons.append(f"raw scores differ by up to {raw_score:.3g} (limit {settings.score_tolerance:g})")
    if least_iou is not None and least_iou < settings.box_iou:
        reasons.append(f"a box overlaps its counterpart by only {least_iou:.4f} (limit {settings.box_iou:g})")
    if score is not None and score > settings.score_tolerance:
        reasons.append(f"scores after suppression differ by up to {score:.3g} (limit {settings.score_tolerance:g})")
    if tally.unmatched:
        reasons.append(f"{tally.unmatched} boxes have no counterpart")
    allowed = settings.near_tie_share * reference.boxes
    if tally.near_ties > max(2.0, allowed):  # one swap of two equal boxes counts once on either side
        reasons.append(f"suppression chose {tally.near_ties} boxes differently (limit {max(2.0, allowed):.0f})")
    return Parity(
        passed=not reasons,
        pictures=_pictures(reference),
        boxes=reference.boxes,
        confidence=reference.confidence,
        raw_box_difference=raw_box,
        raw_score_difference=raw_score,
        least_iou=least_iou,
        score_difference=score,
        unmatched=tally.unmatched,
        near_ties=tally.near_ties,
        reasons=tuple(reasons),
        remarks=_remarks(reference, settings),
    )


def _remarks(reference: Reference, settings: ParitySettings) -> tuple[str, ...]:
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
        False, _pictures(reference), reference.boxes, reference.confidence, None, None, None, None, 0, 0, (reason,), ()
    )


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
