"""Greedy pairing of detections with boxes, for all pictures, thresholds and box sizes at once; arrays in, arrays out.

The rule is COCO's (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its evaluation code):
detections of a group (a picture and class) choose in order of falling score; each takes the free box with the highest
IoU at or above the threshold, boxes that count before ignored ones, of equal IoU the later box. An ignored box can be
taken by any number of detections. Only pairs above the lowest threshold can matter, and the choices of different
groups are independent; so the r-th choice of every group is made in one vectorised round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs that may match, sorted by detection. ``detection``, ``box``: int64 (C,), flat indices; ``iou``: (C,)."""

    detection: np.ndarray
    box: np.ndarray
    iou: np.ndarray


def run_starts(sorted_values: np.ndarray) -> np.ndarray:
    """Where each run of equal values starts: index array, empty for no values."""
    if not len(sorted_values):
        return np.zeros(0, np.intp)
    return np.flatnonzero(np.concatenate(([True], sorted_values[1:] != sorted_values[:-1])))


def rank_in_group(sorted_groups: np.ndarray) -> np.ndarray:
    """Position (from 0) of each element within its run of equal group numbers."""
    positions = np.arange(len(sorted_groups))
    if not len(sorted_groups):
        return positions
    first = np.concatenate(([True], sorted_groups[1:] != sorted_groups[:-1]))
    return positions - np.maximum.accumulate(np.where(first, positions, 0))


def find_candidates(
    detection_boxes: np.ndarray,
    detection_groups: np.ndarray,
    boxes: np.ndarray,
    box_groups: np.ndarray,
    crowd: np.ndarray,
    minimum_iou: float,
) -> Candidates:
    """All pairs within a group whose IoU is at least ``minimum_iou``.

    ``detection_boxes`` (D, 4) and ``boxes`` (B, 4): x0 y0 x1 y1; both sorted by their group numbers. For a ``crowd``
    box the union is replaced by the area of the detection, as COCO does.
    """
    first = np.searchsorted(box_groups, detection_groups, "left")
    last = np.searchsorted(box_groups, detection_groups, "right")
    detection_edges, box_edges = _edges(detection_boxes), _edges(boxes)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for chunk in _chunks(last - first):
        counts = (last - first)[chunk]
        detection = np.repeat(np.arange(chunk.start, chunk.stop), counts)
        ends = np.cumsum(counts)
        # Boxes of a group stand side by side: a detection's candidates are the run that begins at its `first`.
        box = np.arange(len(detection)) + np.repeat(first[chunk] - (ends - counts), counts)
        iou = _pairwise_iou(detection_edges, detection, box_edges, box, crowd)
        keep = np.flatnonzero(iou >= minimum_iou)
        found.append((detection[keep], box[keep], iou[keep]))
    if not found:
        nothing = np.zeros(0, np.int64)
        return Candidates(nothing, nothing, np.zeros(0))
    detection, box, iou = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Candidates(detection, box, iou)


def _chunks(counts: np.ndarray) -> Iterator[slice]:
    """Cut the detections into runs of about ``PAIRS_AT_ONCE`` pairs, which bounds memory."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        # One detection at least, though it may have more pairs than the bound allows.
        stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS_AT_ONCE, "right")))
        if ends[stop - 1] > done:
            yield slice(start, stop)
        start = stop


def _edges(boxes: np.ndarray) -> np.ndarray:
    """Rows x0, y0, right, bottom, area: (5, N). Right is x0 + width, as COCO's code rounds it, so that ties agree."""
    x0, y0, x1, y1 = boxes.T
    width, height = x1 - x0, y1 - y0
    return np.stack([x0, y0, x0 + width, y0 + height, width * height])


def _pairwise_iou(
    first: np.ndarray, first_index: np.ndarray, second: np.ndarray, second_index: np.ndarray, crowd: np.ndarray
) -> np.ndarray:
    # Not data.boxes.overlap_of: edges and areas are computed once a box, not once a pair, and crowds are COCO's.
    width = np.minimum(first[2][first_index], second[2][second_index])
    width -= np.maximum(first[0][first_index], second[0][second_index])
    height = np.minimum(first[3][first_index], second[3][second_index])
    height -= np.maximum(first[1][first_index], second[1][second_index])
    overlapping = (width > 0) & (height > 0)
    intersection = np.where(overlapping, width * height, 0.0)
    first_area = first[4][first_index]
    union = np.where(crowd[second_index], first_area, first_area + second[4][second_index] - intersection)
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=overlapping)


def pair_greedily(
    candidates: Candidates,
    detection_groups: np.ndarray,
    crowd: np.ndarray,
    ignored: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """Which candidates are chosen, at each threshold, under each set of ignored boxes: bool (C, A, T).

    Detections of a group are in order of choice (falling score). ``crowd``: bool (B,), boxes that are never used up.
    ``ignored``: bool (A, B), which boxes do not count in each of A settings; a crowd box must be ignored in all.
    ``thresholds``: (T,), none below the candidates' minimum.
    """
    ranges, steps = len(ignored), len(thresholds)
    chosen = np.zeros((len(candidates.detection), ranges, steps), bool)
    if not len(chosen):
        return chosen
    # Within a detection: by IoU, then by the box's place; the last possible one wins.
    order = np.lexsort((candidates.box, candidates.iou, candidates.detection))
    detection, box = candidates.detection[order], candidates.box[order]
    holders, holder_of = np.unique(detection, return_inverse=True)
    rounds = rank_in_group(detection_groups[holders])[holder_of]
    by_round = np.argsort(rounds, kind="stable")
    order, detection, box, rounds = order[by_round], detection[by_round], box[by_round], rounds[by_round]
    above = candidates.iou[order][:, None, None] >= thresholds
    counts_more = ~ignored.T[:, :, None]
    usable = ~crowd[:, None, None]
    taken = np.zeros((len(crowd), ranges, steps), bool)
    place = rank_in_group(detection).astype(np.int32)
    most = int(place.max()) + 1
    bounds = np.concatenate(([0], np.cumsum(np.bincount(rounds))))
    for start, stop in pairwise(bounds):
        here = box[start:stop]
        free = above[start:stop] & ~taken[here]
        # Skipped where no detection has a second candidate: there is nothing to choose between.
        if place[start:stop].any():
            free = _last_best(free, counts_more[here], place[start:stop], most)
        chosen[order[start:stop]] = free
        # One detection of a group chooses in a round, so that no box is in `here` twice and no result is lost.
        taken[here] |= free & usable[here]
    return chosen


def _last_best(free: np.ndarray, counts_more: np.ndarray, place: np.ndarray, most: int) -> np.ndarray:
    """Of each detection's free boxes keep the last one that counts, or else the last ignored one: bool (n, A, T)."""
    value = np.where(free, place[:, None, None] + np.where(counts_more, most, 0).astype(np.int32), -1)
    starts = np.flatnonzero(place == 0)
    best = np.maximum.reduceat(value, starts, axis=0)
    lengths = np.diff(np.append(starts, len(place)))
    kept: np.ndarray = free & (value == np.repeat(best, lengths, axis=0))
    return kept
