"""Gate: every slice keeps to the limits that slices.yaml puts on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from marauder.core.plain import Plain
from marauder.data.records import Record
from marauder.data.slices.mask import Limit, SliceMask
from marauder.evaluation.intervals import Interval
from marauder.evaluation.metrics import Metrics
from marauder.gates.base import Gate, GateSettings
from marauder.gates.limits import broken_bound, found_nothing
from marauder.gates.verdict import Verdict


class SlicesSettings(GateSettings):
    """How the limits of slices.yaml are held against what was measured."""

    by: Literal["value", "surely", "safely"] = Field(
        "value",
        description="what breaks a limit: the value beyond it; surely: the whole 95 % interval beyond it; safely: any "
        "part of the interval beyond it",
    )
    least_groups: int = Field(5, ge=1, description="a slice with fewer groups (clips) only warns")
    least_boxes: int = Field(20, ge=1, description="a slice with fewer boxes only warns")


@dataclass(frozen=True)
class SliceFigures:
    """What was measured on a slice. ``intervals``: low and high by metric, where there are any."""

    name: str
    protected: bool
    pictures: int
    boxes: int
    groups: int
    metrics: Mapping[str, float]
    limits: Mapping[str, Limit] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class SlicesEvidence:
    """The slices, in the order of slices.yaml; those without limits are passed over."""

    slices: tuple[SliceFigures, ...]

    @classmethod
    def of(
        cls,
        masks: Sequence[SliceMask],
        records: Sequence[Record],
        metrics: Mapping[str, Metrics],
        intervals: Mapping[str, Mapping[str, Interval]],
    ) -> SlicesEvidence:
        """``metrics`` by slice; ``intervals`` by metric, then by slice (``intervals_by_slice`` gives one metric's)."""
        figures = []
        for mask in masks:
            found = metrics[mask.name]
            groups = {record.group for record, chosen in zip(records, mask.pictures) if chosen and record.labelled}
            figures.append(
                SliceFigures(
                    name=mask.name,
                    protected=mask.protected,
                    pictures=found.pictures,
                    boxes=found.boxes,
                    groups=len(groups),
                    metrics={name: float(getattr(found, name)) for name in found.scalars()},
                    limits=dict(mask.limits),
                    intervals={
                        metric: (of_slice[mask.name].low, of_slice[mask.name].high)
                        for metric, of_slice in intervals.items()
                        if mask.name in of_slice
                    },
                )
            )
        return cls(tuple(figures))


@dataclass(frozen=True)
class _Finding:
    """A limit that is broken or cannot be judged on one slice."""

    slice: SliceFigures
    metric: str
    text: str
    small: bool
    value: float | str | None = None
    bound: float | None = None


class SlicesGate(Gate[SlicesSettings, SlicesEvidence]):
    """Fails on a protected slice beyond its limit; warns of others, and of slices too small to tell."""

    name = "slices"
    phase = "end"
    title = "Slices meet their limits"
    settings_model = SlicesSettings
    evidence_model = SlicesEvidence

    def judge(self, evidence: SlicesEvidence) -> Verdict:
        """Every limit of every slice."""
        limited = [one for one in evidence.slices if one.limits]
        if not limited:
            return self.verdict("off", "no slice has limits; set some in slices.yaml")
        found = [finding for one in limited for finding in self._findings(one)]
        failing = [finding for finding in found if finding.slice.protected and not finding.small]
        facts: Plain = {
            "by": self.settings.by,
            "slices": [_row(one) for one in limited],
            "broken": [f"{finding.slice.name}: {finding.metric}" for finding in found if finding.bound is not None],
            "too_small": [one.name for one in limited if self._small(one)],
        }
        if failing:
            why = "; ".join(f"{finding.slice.name} (protected): {finding.text}" for finding in failing)
            return self.verdict(self.broken(), why, failing[0].value, failing[0].bound, **facts)
        if found:
            why = "; ".join(f"{finding.slice.name}: {finding.text}" for finding in found)
            return self.verdict("warn", why, found[0].value, found[0].bound, **facts)
        count = sum(len(one.limits) for one in limited)
        return self.verdict("pass", f"all {count} limits of {len(limited)} slices are met", **facts)

    def _small(self, figures: SliceFigures) -> bool:
        return figures.groups < self.settings.least_groups or figures.boxes < self.settings.least_boxes

    def _findings(self, figures: SliceFigures) -> list[_Finding]:
        found = []
        small = self._small(figures)
        # No further: values on so few boxes would fail or pass by chance.
        if small:
            text = f"only {figures.groups} groups and {figures.boxes} boxes, too few to judge its limits"
            return [_Finding(figures, ", ".join(figures.limits), text, True)]
        for metric, limit in figures.limits.items():
            value = figures.metrics.get(metric)
            if value is None:
                text = f"the run reports no {metric}, which slices.yaml limits"
                found.append(_Finding(figures, metric, text, small=False))
            elif math.isnan(value):
                broken = found_nothing(metric, value, figures.boxes > 0, limit.minimum)
                if broken is not None:
                    found.append(_Finding(figures, metric, str(broken), False, "undefined", broken.bound))
                else:
                    text = f"{metric} cannot be judged: no boxes that it is measured on"
                    found.append(_Finding(figures, metric, text, small=True))
            else:
                low, high = self._ends(figures, metric, value)
                broken = broken_bound(metric, low, limit.minimum, None) or broken_bound(
                    metric, high, None, limit.maximum
                )
                if broken is not None:
                    text = f"{metric} is {value:.4g}, {broken.side} {broken.bound:.4g}{self._meant(figures, metric)}"
                    found.append(_Finding(figures, metric, text, False, value, broken.bound))
        return found

    def _ends(self, figures: SliceFigures, metric: str, value: float) -> tuple[float, float]:
        """What is held against the minimum, and what against the maximum."""
        interval = _interval(figures, metric)
        if self.settings.by == "value" or interval is None:
            return value, value
        low, high = interval
        # Safely: the worse end of the interval meets each bound; surely: the better one.
        return (low, high) if self.settings.by == "safely" else (high, low)

    def _meant(self, figures: SliceFigures, metric: str) -> str:
        """How the interval took part."""
        if self.settings.by == "value":
            return ""
        interval = _interval(figures, metric)
        if interval is None:
            return f" (by its value: there is no interval of {metric})"
        low, high = interval
        return f" ({'all' if self.settings.by == 'surely' else 'a part'} of {low:.4g} to {high:.4g} is)"


def _interval(figures: SliceFigures, metric: str) -> tuple[float, float] | None:
    """The metric's interval, if there is one that says something: too few groups leave NaN at its ends."""
    low, high = figures.intervals.get(metric, (math.nan, math.nan))
    return None if math.isnan(low) or math.isnan(high) else (low, high)


def _row(figures: SliceFigures) -> Plain:
    return {
        "name": figures.name,
        "protected": figures.protected,
        "pictures": figures.pictures,
        "boxes": figures.boxes,
        "groups": figures.groups,
        "metrics": {name: figures.metrics.get(name) for name in figures.limits},
        "intervals": {name: list(figures.intervals[name]) for name in figures.limits if name in figures.intervals},
        "limits": {
            name: {"minimum": limit.minimum, "maximum": limit.maximum} for name, limit in figures.limits.items()
        },
    }
