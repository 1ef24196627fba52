"""How sure a metric is: bootstrap intervals over groups of pictures (clips).

The percentile bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; whole groups
are drawn, because frames of one clip are not independent. Matching is not repeated: a draw is a set of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.core.randomness import stream
from marauder.data.records import Record
from marauder.evaluation.matching import Matches
from marauder.evaluation.metrics import Metrics, aggregate


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
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of one number of ``Metrics`` (its attribute's name), drawing groups of ``records`` with replacement."""
    confidence = _confidence(matches, metric)
    values = [
        float(getattr(aggregate(matches, confidence=confidence, weights=weights), metric))
        for weights in draw_weights(records, draws, seed)
    ]
    whole = aggregate(matches, confidence=confidence)
    return _interval(float(getattr(whole, metric)), values, level, records)


def draw_weights(records: Sequence[Record], draws: int, seed: int) -> list[np.ndarray]:
    """How often each picture counts in each draw: ``draws`` arrays int64 (P,)."""
    _, group = np.unique([record.group for record in records], return_inverse=True)
    count = int(group.max()) + 1 if len(group) else 0
    random = [stream(seed, "bootstrap", draw) for draw in range(draws)]
    return [np.bincount(one.integers(0, count, count), minlength=count)[group] for one in random]


def _confidence(matches: Matches, metric: str) -> float:
    """The operating point stays that of all pictures; a draw is no occasion to choose another."""
    if metric not in Metrics.scalars():
        raise ValueError(f"no metric named {metric!r}; there are: {', '.join(Metrics.scalars())}")
    return aggregate(matches).confidence


def _interval(value: float, values: list[float], level: float, records: Sequence[Record]) -> Interval:
    defined = [one for one in values if not np.isnan(one)]
    edges = ((1 - level) / 2, (1 + level) / 2)
    low, high = (float(bound) for bound in np.quantile(defined, edges)) if defined else (float("nan"),) * 2
    return Interval(value, low, high, level, len({record.group for record in records}), len(values))
