"""What an ensemble is worth, and each member in it: intervals over groups, on pictures that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from marauder.core.plain import Plain
from marauder.data.records import Detections, Record
from marauder.ensembles.fitting import CrossFitted
from marauder.evaluation.comparison import compare
from marauder.evaluation.intervals import Interval, bootstrap
from marauder.evaluation.likeness import box_scores, correlation_of_errors, disagreement
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import Metrics, aggregate

FEWEST = 2
"""Members that an ensemble keeps, whatever they add."""


@dataclass(frozen=True)
class Difference:
    """One detector less another one on the same pictures. ``delta``: of the metric, 0..1; ``low``, ``high``: the bounds
    that hold 95 % of the draws of groups; ``groups``: those with a box; ``enough``: whether there are enough groups and
    boxes to say anything."""

    delta: float
    low: float
    high: float
    groups: int
    enough: bool

    @property
    def better(self) -> bool:
        """Whether the first one is shown to be better."""
        return self.enough and self.low > 0

    @property
    def worse(self) -> bool:
        """Whether it is shown to be worse."""
        return self.enough and self.high < 0

    def to_json(self) -> Plain:
        """Plain values, with the verdict in a word."""
        verdict = "better" if self.better else "worse" if self.worse else "not shown"
        return {**asdict(self), "verdict": verdict}


@dataclass(frozen=True, eq=False)
class Judge:
    """Pictures with labels, and how detectors are compared on them."""

    records: Sequence[Record]
    names: tuple[str, ...]
    metric: str
    draws: int
    seed: int

    def matches(self, found: Sequence[Detections]) -> Matches:
        """The pairs of what a detector found with labels."""
        return match(self.records, found, self.names)

    def interval(self, matches: Matches) -> Interval:
        """The metric with its bounds."""
        return bootstrap(matches, self.records, self.metric, self.draws)

    def difference(self, first: Matches, second: Matches) -> Difference:
        """What the first is worth more than the second."""
        found = compare(first, second, self.records, (), self.metric, self.draws, self.seed).overall
        return Difference(found.delta, found.low, found.high, found.groups, found.enough)


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each member adds on the pictures for fitting: ``of[k]``, the ensemble less the one without member k.
    ``removed``: members that can be left out, one after the other, each with what it added among those that were left
    by then."""

    of: tuple[Difference, ...]
    removed: tuple[tuple[int, Difference], ...]


def contributions(crossed: CrossFitted, judge: Judge, check: Callable[[], None]) -> Contributions:
    """What each member adds, and which can be left out, ``FEWEST`` staying.

    Of all that are not shown to add anything, the one that adds least goes first; then the others are judged anew, for
    two that are alike add nothing each while the other one is there.
    """
    left = list(range(len(crossed.looked.found)))
    first: tuple[Difference, ...] | None = None
    removed: list[tuple[int, Difference]] = []
    while True:
        adds = _each(crossed.of(left), judge, check)
        first = adds if first is None else first
        idle = [place for place, one in enumerate(adds) if not one.better]
        if len(left) <= FEWEST or not idle:
            return Contributions(first, tuple(removed))
        least = min(idle, key=lambda place: (adds[place].delta, place))
        removed.append((left[least], adds[least]))
        del left[least]


def _each(crossed: CrossFitted, judge: Judge, check: Callable[[], None]) -> tuple[Difference, ...]:
    whole = judge.matches(crossed.fused())
    adds = []
    for place in range(len(crossed.looked.found)):
        check()
        adds.append(judge.difference(whole, judge.matches(crossed.without(place).fused())))
    return tuple(adds)


@dataclass(frozen=True, eq=False)
class Measured:
    """Detectors on the measured pictures. ``ensemble``, ``members``: their metrics with the interval of the one that is
    compared by. ``against_best``: the ensemble less ``best``, the member that was best on the pictures for fitting;
    ``adds``: less the one without each member; ``weights_add``: less the one with equal weights, ``None`` where they
    are. ``disagreement``, ``correlation``: float64 (K, K), of what members report and of their errors."""

    records: tuple[Record, ...]
    ensemble: tuple[Metrics, Interval]
    members: tuple[tuple[Metrics, Interval], ...]
    best: int
    against_best: Difference
    adds: tuple[Difference, ...]
    weights_add: Difference | None
    disagreement: np.ndarray
    correlation: np.ndarray


def measured(
    judge: Judge,
    fused: Sequence[Detections],
    alone: Sequence[Sequence[Detections]],
    without: Sequence[Sequence[Detections]],
    equal: Sequence[Detections] | None,
    best: int,
) -> Measured:
    """Judge an ensemble. ``fused``: what it finds; ``alone[k]``: member k; ``without[k]``: the ensemble without it;
    ``equal``: with equal weights; ``best``: member to compare with."""
    matches, own = judge.matches(fused), [judge.matches(one) for one in alone]
    figures = [(aggregate(one), judge.interval(one)) for one in own]
    pairs = [(first, second) for first in range(len(own)) for second in range(first)]
    differing, alike = np.zeros((len(own), len(own))), np.eye(len(own))
    sure = [
        [one.above(metrics.confidence) for one in found] for found, (metrics, _) in zip(alone, figures, strict=True)
    ]
    scores = [box_scores(one) for one in own]
    for first, second in pairs:
        differing[first, second] = disagreement(judge.records, sure[first], sure[second], judge.names)
        alike[first, second] = correlation_of_errors(scores[first], scores[second])
        differing[second, first], alike[second, first] = differing[first, second], alike[first, second]
    return Measured(
        records=tuple(judge.records),
        ensemble=(aggregate(matches), judge.interval(matches)),
        members=tuple(figures),
        best=best,
        against_best=judge.difference(matches, own[best]),
        adds=tuple(judge.difference(matches, judge.matches(one)) for one in without),
        weights_add=None if equal is None else judge.difference(matches, judge.matches(equal)),
        disagreement=differing,
        correlation=alike,
    )
