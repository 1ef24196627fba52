"""Some of the pictures of a set of matches, each perhaps several times: what every aggregation starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marauder.evaluation.matching import AREA_NAMES, Matches


@dataclass(frozen=True, eq=False)
class Selection:
    """The pairs of the selected pictures, and counts of their detections and boxes.

    ``repeats``: int (P,), how often each picture counts. ``pairs``: which pairs belong to them (an index of the
    matches' pair arrays), with ``segment``, ``true``, ``inside`` and ``times`` (how often each counts, or None:
    once), all (F,). ``predicted``: running count of the detections in ``matches.inside_detection``, with a leading 0.
    ``boxes_of``: (A, K), boxes that count.
    """

    matches: Matches
    repeats: np.ndarray
    pairs: slice | np.ndarray
    segment: np.ndarray
    true: np.ndarray
    inside: np.ndarray
    times: np.ndarray | None
    predicted: np.ndarray
    boxes_of: np.ndarray

    def counted(self, flags: np.ndarray, pairs: slice | np.ndarray = slice(None)) -> np.ndarray:
        """0 where a flag is off, else how often the pair counts; ``pairs``: which of the selected ones are meant."""
        return flags if self.times is None else flags * self.times[pairs]


def select(matches: Matches, subset: np.ndarray | None = None, weights: np.ndarray | None = None) -> Selection:
    """Select pictures by a mask, by how often each counts, or both; labelled ones only."""
    repeats = picture_weights(matches, subset, weights)
    chosen = repeats.astype(bool)
    pairs: slice | np.ndarray = slice(None)
    # A slice of everything leaves views below; an index would copy every array of pairs.
    if not chosen.all():
        pairs = np.flatnonzero(chosen.take(matches.pair_picture))
    segment = gather(matches.pair_segment, pairs)
    times = None if weights is None else repeats.take(gather(matches.pair_picture, pairs))
    predicted = np.zeros(len(matches.inside_picture) + 1, repeats.dtype)
    np.cumsum(repeats.take(matches.inside_picture), dtype=repeats.dtype, out=predicted[1:])
    return Selection(
        matches=matches,
        repeats=repeats,
        pairs=pairs,
        segment=segment,
        true=gather(matches.pair_true, pairs),
        inside=gather(matches.pair_inside, pairs),
        times=times,
        predicted=predicted,
        boxes_of=_count_boxes(matches, repeats),
    )


def gather(values: np.ndarray, pairs: slice | np.ndarray, last: int | None = None) -> np.ndarray:
    """The values of the selected pairs, or of the first ``last``; ``take`` is twice as fast as indexing."""
    return values[:last] if isinstance(pairs, slice) else values.take(pairs[:last])


def picture_weights(matches: Matches, subset: np.ndarray | None, weights: np.ndarray | None) -> np.ndarray:
    """How often each picture counts: int (P,); 0 for pictures left out or not labelled."""
    result = matches.counted.astype(np.int64)
    if subset is not None:
        mask = np.asarray(subset)
        if mask.dtype != bool or mask.shape != result.shape:
            raise ValueError(f"a subset is a boolean mask over {len(result)} pictures, not {mask.dtype} {mask.shape}")
        result *= mask
    if weights is not None:
        counts = np.asarray(weights)
        if counts.dtype.kind not in "iu" or counts.shape != result.shape or (counts < 0).any():
            raise ValueError(f"weights are {len(result)} whole numbers of at least 0, one a picture")
        result *= counts.astype(np.int64)
    # Running counts are twice as fast in 32 bits, where they fit.
    fits = int(result.max(initial=0)) * max(len(matches.inside_detection), len(matches.pair_segment)) < 2**31
    return result.astype(np.int32) if fits else result


def _count_boxes(matches: Matches, repeats: np.ndarray) -> np.ndarray:
    segment, picture = matches.targets
    shape = (len(AREA_NAMES), len(matches.names))
    counts = np.bincount(segment, weights=repeats.take(picture), minlength=shape[0] * shape[1])
    return counts.astype(np.int64).reshape(shape)
