"""How sure a metric is: its interval over groups of pictures (clips), of all pictures and by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.data.records import Record
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.group_draws import Draws, draw_groups, percentiles
from marauder.evaluation.matching import Matches
from marauder.evaluation.metrics import aggregate
from marauder.evaluation.resampling import check_metric, resample
from marauder.evaluation.slice_pairs import restrict

OVERALL = "overall"
"""The name under which all pictures stand beside the slices."""
LEVEL = 0.95
"""Share of the draws that lies within an interval's bounds."""


@dataclass(frozen=True)
class Interval:
    """``value`` on the pictures as they are, and the bounds that hold ``level`` of the draws (NaN if undefined)."""

    value: float
    low: float
    high: float
    level: float
    groups: int
    draws: int


def bootstrap(
    matches: Matches,
    records: Sequence[Record],
    metric: str = "map50",
    draws: int = 200,
) -> Interval:
    """Interval of one metric (of ``resampling.METRICS``), drawing groups of ``records`` with replacement."""
    check_metric(metric)
    return _interval(matches, draw_groups(records, draws, seed=0), metric, aggregate(matches).confidence)


def intervals_by_slice(
    matches: Matches,
    records: Sequence[Record],
    masks: Sequence[SliceMask],
    metric: str = "map50",
    draws: int = 1000,
) -> dict[str, Interval]:
    """The intervals of all pictures, under ``OVERALL``, and of every slice by its name, all from the same draws.

    ``groups`` is the number of groups that the slice has; with few of them (a handful) an interval says more than is
    known. Metrics of the operating point are counted at the confidence of the whole. Raises ``ValueError`` for a metric
    that cannot be resampled.
    """
    check_metric(metric)
    drawn = draw_groups(records, draws, seed=0)
    confidence = aggregate(matches).confidence
    result = {OVERALL: _interval(matches, drawn, metric, confidence)}
    for mask in masks:
        result[mask.name] = _interval(restrict(matches, records, mask), drawn, metric, confidence)
    return result


def _interval(matches: Matches, draws: Draws, metric: str, confidence: float) -> Interval:
    """The operating point stays that of all pictures; a draw is no occasion to choose another."""
    value = float(getattr(aggregate(matches, confidence=confidence), metric))
    low, high = percentiles(resample(matches, draws, metric, confidence=confidence), LEVEL)
    return Interval(value, low, high, LEVEL, len(np.unique(draws.group[matches.counted])), draws.number)
