"""A metric under many bootstrap draws of groups at once: what ``aggregate(weights=...)`` says of each, much faster.

The draws stand side by side as columns, so that one running sum over a class's detections serves a block of them, and
only the thresholds that a metric asks for are computed. Drawing whole groups of pictures (clips) is the cluster
bootstrap; for average precision over pictures: Everingham et al., "Assessing the significance of performance
differences on the PASCAL VOC challenges via bootstrapping" (2013).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from marauder.evaluation.group_draws import Draws
from marauder.evaluation.matching import IOU_THRESHOLDS, Matches
from marauder.evaluation.metrics import RECALL_POINTS, last_point_reached
from marauder.evaluation.pairing import run_starts

_EVERY = tuple(range(len(IOU_THRESHOLDS)))
PRECISION_METRICS: dict[str, tuple[int, tuple[int, ...]]] = {
    "map50": (0, (0,)),
    "map75": (0, (5,)),
    "map50_95": (0, _EVERY),
    "map_small": (1, _EVERY),
    "map_medium": (2, _EVERY),
    "map_large": (3, _EVERY),
}
"""Metrics that are means of average precisions: the area range and the IoU thresholds they are taken over."""
POINT_METRICS = ("precision", "recall", "f1")
"""Metrics at the operating point."""
METRICS = (*PRECISION_METRICS, *POINT_METRICS)
NUMBERS_AT_ONCE = 400_000
"""Detections times draws in a block: small enough to stay in the processor's cache."""


def resample(matches: Matches, draws: Draws, metric: str, confidence: float | None = None) -> np.ndarray:
    """The metric in every draw: float64 (N,). For a slice, give its ``slice_pairs.restrict``.

    ``metric``: one of ``METRICS``. ``confidence``: the operating point, needed for ``POINT_METRICS`` alone. NaN where a
    draw has no box of any class. Raises ``ValueError`` for another metric, or where the operating point is missing.
    """
    check_metric(metric)
    if metric in PRECISION_METRICS:
        area, thresholds = PRECISION_METRICS[metric]
        values = _average_precisions(matches, draws, area, thresholds)
    else:
        if confidence is None:
            raise ValueError(f"{metric} is counted at an operating point: give the confidence")
        values = _at_operating_point(matches, draws, metric, confidence)
    defined = ~np.isnan(values)
    counted = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.divide(total, counted, out=np.full(draws.number, np.nan), where=counted > 0)


def check_metric(metric: str) -> None:
    """Raise ``ValueError`` for a metric that cannot be resampled."""
    if metric not in METRICS:
        raise ValueError(f"no metric named {metric!r} that can be resampled; there are: {', '.join(METRICS)}")


@dataclass(frozen=True, eq=False)
class _Segment:
    """The pairs (E,) of one class at one area range and threshold, in order of falling score, and their runs (R,).

    A run continues as long as no false detection comes between. Precision rises within it, in any draw, so that all of
    its true positives are read at the precision of its end: only the ends need care. ``group``: of each pair;
    ``true``: whether it is a true positive; ``surplus``: 1 for a pair that counts among the detections but is none, -1
    for a true positive that does not, else 0. ``starts``: first pair of each run; ``upto``: how many of the class's
    detections come no later than its end.
    """

    group: np.ndarray
    true: np.ndarray
    surplus: np.ndarray
    starts: np.ndarray
    upto: np.ndarray


def _average_precisions(matches: Matches, draws: Draws, area: int, thresholds: Sequence[int]) -> np.ndarray:
    """Average precision of each class and threshold in each draw: (K * T, N); NaN where a draw has no box of it."""
    count = len(matches.names)
    boxes = _count_boxes(matches, draws, area)
    result = np.full((count, len(thresholds), draws.number), np.nan)
    for number in range(count):
        if not boxes[number].any():
            continue
        start, stop = matches.inside_starts[area, number : number + 2]
        detected = draws.group[matches.inside_picture[start:stop]]
        segments = [_segment(matches, draws, area, one, number) for one in thresholds]
        # Detections after the last pair change no precision that is read.
        detected = detected[: max((int(segment.upto.max(initial=0)) for segment in segments), default=0)]
        for block in _blocks(draws.number, len(detected) + 1):
            # Whole rows of it are gathered for every detection below.
            weights = np.ascontiguousarray(draws.counts[:, block])
            running = np.zeros((len(detected) + 1, weights.shape[1]), np.int32)
            np.cumsum(weights[detected], axis=0, out=running[1:])
            for place, segment in enumerate(segments):
                value = _average_precision(segment, weights, running, boxes[number, block])
                result[number, place, block] = np.where(boxes[number, block] > 0, value, np.nan)
    return result.reshape(-1, draws.number)


def _segment(matches: Matches, draws: Draws, area: int, threshold: int, number: int) -> _Segment:
    place = (area * len(IOU_THRESHOLDS) + threshold) * len(matches.names) + number
    pairs = slice(*np.searchsorted(matches.pair_segment, (place, place + 1)))
    true, inside = matches.pair_true[pairs], matches.pair_inside[pairs]
    upto = matches.pair_upto[pairs] - matches.inside_starts[area, number]
    starts = run_starts(upto - np.cumsum(inside))
    return _Segment(
        group=draws.group[matches.pair_picture[pairs]],
        true=true,
        surplus=inside.astype(np.int32) - true,
        starts=starts,
        upto=upto[np.append(starts[1:], len(upto)) - 1] if len(upto) else upto,
    )


def _average_precision(segment: _Segment, weights: np.ndarray, running: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Average precision in each draw of a block: (N,).

    ``weights``: (G, N); ``running``: (D + 1, N), detections so far; ``boxes``: (N,). Each run of true positives is read
    at the recall points that it is the first to reach, at the highest precision from there on.
    """
    if not segment.true.any():
        return np.zeros(len(boxes))
    times = weights[segment.group]
    predicted = running[segment.upto]
    if segment.surplus.any():
        predicted -= _cumulative_runs(times * segment.surplus[:, None], segment.starts)
    if not segment.true.all():
        times *= segment.true[:, None]
    found = _cumulative_runs(times, segment.starts)
    # The same addend as in metrics, so that a draw in which every group comes once gives the same number.
    precision = found / (predicted + np.spacing(1))
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    newly = last_point_reached(found / np.maximum(boxes, 1))
    newly[1:] -= newly[:-1].copy()
    newly[0] += 1  # recall 0, which every draw reaches
    value: np.ndarray = np.einsum("rn,rn->n", highest, newly) / len(RECALL_POINTS)
    return value


def _cumulative_runs(times: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sum of all rows up to the end of each run: int32 (R, N)."""
    result: np.ndarray = np.cumsum(np.add.reduceat(times, starts, axis=0, dtype=np.int32), axis=0, dtype=np.int32)
    return result


def _at_operating_point(matches: Matches, draws: Draws, metric: str, confidence: float) -> np.ndarray:
    """Precision, recall or F1 of each class in each draw: (K, N). Counts are sums over groups, so one product each."""
    last = int(np.searchsorted(matches.pair_segment, len(matches.names)))
    sure = np.flatnonzero(matches.detection_score[matches.pair_detection[:last]] >= confidence)
    of_pair, group = matches.pair_segment[sure], draws.group[matches.pair_picture[sure]]
    shape = (len(matches.names), len(draws.counts))
    found = _table(of_pair[matches.pair_true[sure]], group[matches.pair_true[sure]], shape)
    excused = _table(of_pair[matches.pair_inside[sure]], group[matches.pair_inside[sure]], shape)
    predicted = np.zeros(shape, np.int64)
    for number, (start, stop) in enumerate(zip(matches.inside_starts[0], matches.inside_ends(confidence))):
        predicted[number] = np.bincount(draws.group[matches.inside_picture[start:stop]], minlength=shape[1])
    boxes = _count_boxes(matches, draws, 0)
    true = _in_draws(found, draws)
    false = _in_draws(predicted - excused, draws)
    whole = {"precision": true + false, "recall": boxes, "f1": true + false + boxes}[metric]
    part = 2 * true if metric == "f1" else true
    return np.divide(part, whole, out=np.full(boxes.shape, np.nan), where=(boxes > 0) & (whole > 0))


def _count_boxes(matches: Matches, draws: Draws, area: int) -> np.ndarray:
    """Boxes of each class that count in an area range, in each draw: int64 (K, N)."""
    segment, picture = matches.targets
    of_area = segment // len(matches.names) == area
    table = _table(
        segment[of_area] % len(matches.names), draws.group[picture[of_area]], (len(matches.names), len(draws.counts))
    )
    return _in_draws(table, draws)


def _table(of_class: np.ndarray, group: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How many elements each class and group has: int64 (K, G)."""
    return np.bincount(of_class * shape[1] + group, minlength=shape[0] * shape[1]).reshape(shape)


def _in_draws(table: np.ndarray, draws: Draws) -> np.ndarray:
    """Sums of a (K, G) table over the groups of each draw: int64 (K, N). In floating point, where products are fast
    and whole numbers of this size exact."""
    used = np.flatnonzero(table.any(axis=0))
    return np.rint(table[:, used].astype(np.float64) @ draws.counts[used].astype(np.float64)).astype(np.int64)


def _blocks(number: int, rows: int) -> Iterator[slice]:
    width = max(8, min(number, NUMBERS_AT_ONCE // rows))
    for start, stop in pairwise([*range(0, number, width), number]):
        yield slice(start, stop)
