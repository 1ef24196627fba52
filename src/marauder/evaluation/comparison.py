"""Two detectors on the same pictures, slice by slice: what changed, how sure that is, and what survives many looks.

The paired cluster bootstrap: whole groups of pictures are drawn with replacement, the same for both detectors and for
all slices, so that what makes pictures hard for both cancels. The test is one-sided (is the candidate worse?) on the
difference over its standard error. Looking at many slices is paid for by the step-down maximum statistic of Romano and
Wolf, "Exact and approximate stepdown methods for multiple hypothesis testing" (JASA 100, 2005; after Westfall and
Young, 1993), which uses that slices overlap. With few groups a standard error is itself uncertain: as a t statistic
with the effective number of groups (Carter, Schnepel and Steigerwald, Review of Economics and Statistics 99, 2017; Kish
1965) less one degrees of freedom is wider than a normal one, so are the draws made wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from marauder.core.plain import Plain
from marauder.core.randomness import stream
from marauder.data.records import Record
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.group_draws import Draws, draw_groups, percentiles
from marauder.evaluation.intervals import OVERALL
from marauder.evaluation.matching import Matches
from marauder.evaluation.metrics import aggregate
from marauder.evaluation.resampling import check_metric, resample
from marauder.evaluation.slice_pairs import restrict

LEVEL = 0.95


@dataclass(frozen=True)
class SliceDelta:
    """A slice under both detectors. ``delta``: candidate less production, in the metric's units (0..1), NaN where the
    metric is undefined; ``low``, ``high``: the bounds that hold 95 % of the draws; ``error``: its standard error.

    ``groups``: groups with a box that counts; ``effective_groups``: as many equally large ones would say as much.
    ``p``: how often so large a loss would be seen if there were none beyond the margin, for this slice alone;
    ``p_all``: adjusted for all slices; ``p_protected``: adjusted for the protected ones and the whole, None for others.
    NaN where ``enough`` is False: too few groups or boxes to tell, so that the slice takes no part.
    """

    name: str
    protected: bool
    pictures: int
    boxes: int
    groups: int
    effective_groups: float
    candidate: float
    production: float
    delta: float
    low: float
    high: float
    error: float
    p: float
    p_all: float
    p_protected: float | None
    enough: bool


@dataclass(frozen=True)
class Comparison:
    """A candidate against production. ``overall``: all pictures; ``slices``: in the order they were given.

    ``margin``: the loss that the tests allow; the metric's units.
    """

    metric: str
    draws: int
    seed: int
    margin: float
    overall: SliceDelta
    slices: tuple[SliceDelta, ...]

    @property
    def everything(self) -> tuple[SliceDelta, ...]:
        """All pictures first, then the slices."""
        return (self.overall, *self.slices)

    def to_json(self) -> Plain:
        """Plain values; NaN stays NaN and is written as ``null`` by ``core.files.write_json``."""
        return asdict(self)


def compare(
    candidate: Matches,
    production: Matches,
    records: Sequence[Record],
    slices: Sequence[SliceMask],
    metric: str = "map50",
    draws: int = 2000,
    seed: int = 0,
    margin: float = 0.0,
    least_groups: int = 8,
    least_boxes: int = 30,
    confidences: tuple[float, float] | None = None,
) -> Comparison:
    """Compare two detectors matched with the same ``records``, overall and on each slice.

    ``metric``: one of ``resampling.METRICS``; precision, recall and F1 are counted at ``confidences``, by default each
    detector's own best on all pictures. Slices with fewer than ``least_groups`` groups or ``least_boxes`` boxes take no
    part. All pictures count as protected. Raises ``ValueError`` for matches of different pictures or classes, or an
    unknown metric.
    """
    check_metric(metric)
    same = candidate.names == production.names and len(records) == candidate.pictures
    if not (same and np.array_equal(candidate.counted, production.counted)):
        raise ValueError("both detectors must be matched with the same pictures and the same classes")
    drawn = draw_groups(records, draws, seed)
    everything = SliceMask(OVERALL, np.ones(len(records), bool), protected=True)
    if confidences is None:
        confidences = (aggregate(candidate).confidence, aggregate(production).confidence)
    looks = []
    for mask in (everything, *slices):
        pair = (restrict(candidate, records, mask), restrict(production, records, mask))
        looks.append(_look(pair, confidences, mask, metric, drawn, (least_groups, least_boxes)))
    tests = [_test(look, margin, seed) for look in looks]
    p_all = adjusted_p_values([test for test in tests if test is not None])
    guarded = [test is not None and look.mask.protected for look, test in zip(looks, tests)]
    p_protected = adjusted_p_values([test for test, one in zip(tests, guarded) if one and test is not None])
    overall, *rest = _deltas(looks, tests, guarded, p_all, p_protected)
    return Comparison(metric, draws, seed, margin, overall, tuple(rest))


@dataclass(frozen=True, eq=False)
class Statistic:
    """A test statistic (small: the candidate is worse) and what it would be in each draw (N,) if nothing were lost."""

    value: float
    null: np.ndarray

    @property
    def p(self) -> float:
        """Share of draws at least as small, this one counted among them (so it is never 0)."""
        return _share(self.null, self.value)


def adjusted_p_values(tests: Sequence[Statistic]) -> np.ndarray:
    """P values that hold the chance of any false alarm among all ``tests``: float64 (M,).

    Step-down: the most extreme statistic is judged by the most extreme of all tests in each draw, the next by that of
    the tests that are left, and none may come out surer than one before it (Romano and Wolf 2005, algorithm 4.1).
    """
    result = np.zeros(len(tests))
    # Stable, so that equal statistics are adjusted in the same order everywhere.
    order = np.argsort([test.value for test in tests], kind="stable")
    floor = 0.0
    for place, index in enumerate(order):
        most_extreme = np.min([tests[other].null for other in order[place:]], axis=0)
        floor = max(floor, _share(most_extreme, tests[index].value))
        result[index] = floor
    return result


def _share(null: np.ndarray, statistic: float) -> float:
    return float((1 + (null <= statistic).sum()) / (1 + len(null)))


@dataclass(frozen=True, eq=False)
class _Look:
    """A slice under both detectors: how much of it there is, the metric of each, the difference in each draw (N,)."""

    mask: SliceMask
    pictures: int
    boxes: int
    groups: int
    effective_groups: float
    candidate: float
    production: float
    deltas: np.ndarray
    enough: bool

    @property
    def delta(self) -> float:
        return self.candidate - self.production

    @property
    def error(self) -> float:
        """Standard error of the difference: the spread of the draws, corrected for a finite number of groups."""
        return float(np.nanstd(self.deltas) * np.sqrt(self.groups / (self.groups - 1)))


def _look(
    pair: tuple[Matches, Matches],
    confidences: tuple[float, float],
    mask: SliceMask,
    metric: str,
    drawn: Draws,
    least: tuple[int, int],
) -> _Look:
    metrics = [aggregate(one, confidence=confidence) for one, confidence in zip(pair, confidences)]
    candidate, production = (float(getattr(one, metric)) for one in metrics)
    in_draws = [resample(one, drawn, metric, confidence=confidence) for one, confidence in zip(pair, confidences)]
    groups, effective_groups = _count_groups(pair[0], drawn)
    return _Look(
        mask=mask,
        pictures=metrics[0].pictures,
        boxes=metrics[0].boxes,
        groups=groups,
        effective_groups=effective_groups,
        candidate=candidate,
        production=production,
        deltas=in_draws[0] - in_draws[1],
        # Two at least, whatever is asked: the standard error divides by groups - 1.
        enough=groups >= max(2, least[0])
        and metrics[0].boxes >= least[1]
        and bool(np.isfinite(candidate - production)),
    )


def _count_groups(matches: Matches, drawn: Draws) -> tuple[int, float]:
    """Groups that hold a box which counts, and their effective number by boxes: (sum n)² / sum n²."""
    # The first K segments are those of all sizes.
    segment, picture = matches.targets
    boxes = np.bincount(drawn.group[picture[segment < len(matches.names)]], minlength=len(drawn.counts)).astype(
        np.float64
    )
    squares = float((boxes**2).sum())
    return int((boxes > 0).sum()), float(boxes.sum() ** 2 / squares) if squares else 0.0


def _test(look: _Look, margin: float, seed: int) -> Statistic | None:
    """The studentised difference and its draws around it, widened to a t distribution; None without enough."""
    if not look.enough:
        return None
    error, lost = look.error, look.delta + margin
    if error == 0.0:  # no draw differs from another: nothing is uncertain
        return Statistic(-np.inf if lost < 0 else np.inf, np.zeros(len(look.deltas)))
    freedom = max(1.0, look.effective_groups - 1)
    # A normal number divided by the root of (chi-square over its degrees of freedom) is t distributed.
    wider = np.sqrt(stream(seed, "t", look.mask.name).chisquare(freedom, len(look.deltas)) / freedom)
    # Around the draws' own mean: pictures that are drawn twice tie with themselves, which shifts average precision.
    # A draw without a box of the slice says nothing: it is taken for one without a change.
    null = np.where(np.isnan(look.deltas), 0.0, (look.deltas - np.nanmean(look.deltas)) / error / wider)
    return Statistic(lost / error, null)


def _deltas(
    looks: Sequence[_Look],
    tests: Sequence[Statistic | None],
    guarded: Sequence[bool],
    p_all: np.ndarray,
    p_protected: np.ndarray,
) -> list[SliceDelta]:
    of_all, of_protected = iter(p_all.tolist()), iter(p_protected.tolist())
    result = []
    for look, test, guard in zip(looks, tests, guarded):
        low, high = percentiles(look.deltas, LEVEL)
        result.append(
            SliceDelta(
                name=look.mask.name,
                protected=look.mask.protected,
                pictures=look.pictures,
                boxes=look.boxes,
                groups=look.groups,
                effective_groups=look.effective_groups,
                candidate=look.candidate,
                production=look.production,
                delta=look.delta,
                low=low,
                high=high,
                error=look.error if test is not None else float("nan"),
                p=test.p if test is not None else float("nan"),
                p_all=next(of_all) if test is not None else float("nan"),
                p_protected=next(of_protected) if guard else (float("nan") if look.mask.protected else None),
                enough=look.enough,
            )
        )
    return result
