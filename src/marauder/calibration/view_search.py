"""Which views are worth their time: added one by one, the one that gains most first, as long as a gain shows.

A view is added where the mean gain of the metric, less the price of its looks, lies above 0 with its whole interval;
the draws of groups are the same for both, and an interval is as wide as it must be for the number of views that are
tried at once (Bonferroni). Views are fused after suppression within each, which one look could have, too, and which
raises the metric by itself: gains are counted from the plain look with it, where that is better. "No view helps" is a
result. Cost is counted in pixels of the input, so that the choice is the same on every machine; the time that was
measured is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from marauder.calibration.settings import ViewSettings
from marauder.core.plain import Plain
from marauder.data.records import Detections, Record
from marauder.evaluation.group_draws import Draws, draw_groups, percentiles
from marauder.evaluation.intervals import LEVEL
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import aggregate
from marauder.evaluation.resampling import resample
from marauder.prediction.fusing.base import Fusion
from marauder.prediction.view_fusion import fuse_views, taking_part, view_fusion
from marauder.prediction.view_names import PLAIN, PictureView


@dataclass(frozen=True)
class Trial:
    """A view, tried beside those that were kept before. ``value``: the metric with it; ``gain``, ``low``, ``high``: how
    much more than without, ``cost``: plain looks that it takes, ``milliseconds``: a picture, ``kept``."""

    round: int
    view: str
    value: float
    gain: float
    low: float
    high: float
    cost: float
    milliseconds: float
    kept: bool

    def to_json(self) -> Plain:
        """Plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class ViewSearch:
    """``kept``: names of the views, ``plain`` first. ``plain``: the metric with the plain look alone, which takes
    ``plain_milliseconds`` a picture; ``suppressed``: the same after the suppression that comes before fusing; gains
    are counted from the better. ``groups``: how many there were to draw from."""

    kept: tuple[str, ...]
    metric: str
    plain: float
    suppressed: float
    plain_milliseconds: float
    groups: int
    trials: tuple[Trial, ...]

    @property
    def helps(self) -> bool:
        """Whether any view is kept beside the plain one."""
        return len(self.kept) > 1

    def words(self) -> str:
        """The result in a line."""
        if not self.trials:
            return "views: none were tried"
        if not self.helps:
            best = max(self.trials, key=lambda one: one.gain)
            return (
                f"views: none helps beyond doubt and its price; the best, {best.view}: {best.gain:+.3f} {self.metric} "
                f"({best.low:+.3f} to {best.high:+.3f}) for {best.cost:.2g} looks more"
            )
        kept = [one for one in self.trials if one.kept]
        parts = ", ".join(f"{one.view} {one.gain:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in kept)
        times = (self.plain_milliseconds + sum(one.milliseconds for one in kept)) / self.plain_milliseconds
        return f"views: {parts} {self.metric}; measured {times:.1f} times the time of one look"

    def to_json(self) -> Plain:
        """Plain values."""
        names = ("kept", "metric", "plain", "suppressed", "plain_milliseconds", "groups")
        return {**{name: getattr(self, name) for name in names}, "trials": [one.to_json() for one in self.trials]}


def search_views(
    records: Sequence[Record],
    seen: Mapping[str, Sequence[Detections]],
    seconds: Mapping[str, float],
    views: Sequence[PictureView],
    names: Sequence[str],
    settings: ViewSettings,
    seed: int,
) -> ViewSearch:
    """Choose among ``views``. ``seen[name][i]``: what a view shows of ``records[i]``; ``seconds``: of all its looks."""
    drawn, way = draw_groups(records, settings.draws, seed), view_fusion(settings.fusion)
    each = 1000 / max(1, len(records))
    kept, trials = [PLAIN], list[Trial]()

    def measured(chosen: Sequence[str]) -> _Measured:
        return _Measured.of(
            match(records, fused_views([seen[one] for one in chosen], way), names), settings.metric, drawn
        )

    plain = measured(kept)
    alone = _Measured.of(match(records, [taking_part(one, way) for one in seen[PLAIN]], names), settings.metric, drawn)
    current = max(plain, alone, key=lambda one: one.value)
    waiting = {view.name: view for view in views if view.name != PLAIN}
    while waiting and len(kept) <= settings.most:
        tried: list[tuple[Trial, _Measured]] = []
        # As many bounds as there are views to choose from: the best of several is flattered by chance.
        level = 1 - (1 - LEVEL) / len(waiting)
        for name, view in waiting.items():
            fused = measured((*kept, name))
            low, high = percentiles(fused.draws - current.draws, level)
            gain = fused.value - current.value
            milliseconds = each * seconds[name]
            trial = Trial(len(kept), name, fused.value, gain, low, high, view.cost, milliseconds, False)
            tried.append((trial, fused))
        worth = [one for one in tried if one[0].low > settings.price * one[0].cost]
        best = max(worth, key=lambda one: one[0].gain - settings.price * one[0].cost, default=None)
        trials += [replace(one, kept=best is not None and one is best[0]) for one, _ in tried]
        if best is None:
            break
        kept.append(best[0].view)
        current = best[1]
        del waiting[best[0].view]
    groups = len(np.unique(drawn.group[drawn.group >= 0]))
    return ViewSearch(
        tuple(kept), settings.metric, plain.value, alone.value, each * seconds[PLAIN], groups, tuple(trials)
    )


@dataclass(frozen=True)
class Confirmation:
    """What the views that were kept gain on pictures on which they were not chosen; ``low``, ``high``: its interval."""

    metric: str
    plain: float
    value: float
    low: float
    high: float

    def words(self) -> str:
        """The result in a line."""
        gain = self.value - self.plain
        return (
            f"{gain:+.3f} {self.metric} ({self.low:+.3f} to {self.high:+.3f}) on pictures on which they were not chosen"
        )

    def to_json(self) -> Plain:
        """Plain values."""
        return dict(vars(self))


def confirm(
    records: Sequence[Record],
    plain: Sequence[Detections],
    fused: Sequence[Detections],
    names: Sequence[str],
    settings: ViewSettings,
    seed: int,
) -> Confirmation:
    """The views' gain on other ``records``: ``plain`` and ``fused`` are what is found there without and with them."""
    drawn, metric, way = draw_groups(records, settings.draws, seed), settings.metric, view_fusion(settings.fusion)
    alone = [taking_part(one, way) for one in plain]
    before, suppressed, after = (
        _Measured.of(match(records, one, names), metric, drawn) for one in (plain, alone, fused)
    )
    before = max(before, suppressed, key=lambda one: one.value)
    low, high = percentiles(after.draws - before.draws, LEVEL)
    return Confirmation(settings.metric, before.value, after.value, low, high)


@dataclass(frozen=True, eq=False)
class _Measured:
    """The metric with some views, and in each draw of groups."""

    value: float
    draws: np.ndarray

    @classmethod
    def of(cls, matches: Matches, metric: str, drawn: Draws) -> _Measured:
        # Not at the operating point: any confidence does.
        return cls(float(getattr(aggregate(matches, confidence=0.25), metric)), resample(matches, drawn, metric))


def fused_views(seen: Sequence[Sequence[Detections]], way: Fusion[Any]) -> list[Detections]:
    """What several views show together: ``seen[v][i]`` of view v and picture i."""
    return [fuse_views(views, way) for views in zip(*seen, strict=True)]
