"""Gate: no protected slice lost anything that noise does not explain, against the model in production."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

from pydantic import Field

from marauder.evaluation.comparison import Comparison, SliceDelta
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

NAMED = 3


class RegressionSettings(GateSettings):
    """How a loss against production is told from noise. Losses are in the metric's units: 0.01 is one AP point."""

    metric: str | None = Field(None, description="what is compared; default: the metric that sums up the task's runs")
    draws: int = Field(2000, ge=200, description="bootstrap draws")
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="chance that this gate fails a run although nothing is lost on any slice"
    )
    least_loss: float = Field(
        0.01, ge=0, lt=1, description="a smaller measured loss never fails, however significant it is"
    )
    margin: float = Field(0.0, ge=0, lt=1, description="a tolerated loss: only a significantly larger one fails")
    protected_only: bool = Field(
        True, description="only protected slices and the whole can fail; a loss on another slice warns"
    )
    least_groups: int = Field(8, ge=2, description="with fewer groups (clips) that have boxes a slice is not judged")
    least_boxes: int = Field(30, ge=1, description="with fewer boxes a slice is not judged")

    def for_task(self, headline: str, comparable: Sequence[str]) -> Self:
        """With a metric: the headline where none is named."""
        metric = self.metric or headline
        if metric not in comparable:
            raise ValueError(f"metric: {metric!r} cannot be compared here; choose one of: {', '.join(comparable)}")
        return self.changed({"metric": metric})


@dataclass(frozen=True)
class RegressionEvidence:
    """The comparison, or why there is none. ``expected``: a model is in production, so there should be one."""

    comparison: Comparison | None
    reason: str = "no model is in production yet"
    expected: bool = False


class RegressionGate(Gate[RegressionSettings, RegressionEvidence]):
    """Fails when it is sure, in spite of the many slices looked at, that a protected slice or the whole got worse."""

    name = "regression"
    phase = "end"
    title = "No slice is worse than production"
    settings_model = RegressionSettings
    evidence_model = RegressionEvidence

    def judge(self, evidence: RegressionEvidence) -> Verdict:
        """Fail on a sure loss of a protected slice; warn of one elsewhere, and of protected slices too small."""
        found = evidence.comparison
        if found is None:
            if evidence.expected:
                return self.verdict("warn", f"could not be compared with production: {evidence.reason}")
            return self.verdict("off", f"nothing to compare with: {evidence.reason}")
        lost = [delta for delta in found.everything if self._is_lost(delta)]
        failing = [delta for delta in lost if delta.protected or not self.settings.protected_only]
        small = [delta for delta in found.everything if delta.protected and not delta.enough]
        facts = {
            "metric": found.metric,
            "draws": found.draws,
            "slices": [self._row(delta, found) for delta in found.everything],
            "lost": [delta.name for delta in lost],
            "not_judged": [delta.name for delta in found.everything if not delta.enough],
        }
        # Slices that are not judged have p = 1 and so come last.
        worst = min(failing or lost or found.everything, key=lambda delta: (self._p(delta), delta.delta))
        limit = f"a loss of {100 * self.settings.least_loss:g} points with an adjusted p under {self.settings.alpha:g}"
        value = f"{worst.name}: {_points(worst.delta)} ({_probability(self._p(worst))})"
        if failing:
            named = self._named(failing)
            why = (
                f"{found.metric} is worse than production's on {named}, by more than noise; look at the worst "
                "pictures of these slices in the report before promoting or tuning anything"
            )
            return self.verdict(self.broken(), why, value, limit, **facts)
        if lost:
            why = f"{found.metric} is worse than production's on {self._named(lost)}, slices that are not protected"
            return self.verdict("warn", why, value, limit, **facts)
        if small:
            why = (
                f"too few groups or boxes to compare {', '.join(delta.name for delta in small)} with production: add "
                f"pictures until there are {self.settings.least_groups} groups and {self.settings.least_boxes} boxes"
            )
            return self.verdict("warn", why, value, limit, **facts)
        judged = sum(delta.enough for delta in found.slices)
        blind = max(
            (delta for delta in found.everything if delta.protected), key=lambda one: self._detectable(one, found)
        )
        why = (
            f"no loss against production beyond noise, overall and on {judged} slices; a loss of "
            f"{100 * self._detectable(blind, found):.1f} points on {blind.name} would have been found nine times "
            f"out of ten"
        )
        return self.verdict("pass", why, value, limit, **facts)

    def _is_lost(self, delta: SliceDelta) -> bool:
        return delta.enough and self._p(delta) < self.settings.alpha and -delta.delta >= self.settings.least_loss

    def _p(self, delta: SliceDelta) -> float:
        """The p value that counts: adjusted for all slices that could fail the run together with this one."""
        value = delta.p_protected if self._among_protected(delta) else delta.p_all
        return value if value is not None and not math.isnan(value) else 1.0

    def _named(self, deltas: Sequence[SliceDelta]) -> str:
        surest = sorted(deltas, key=self._p)
        more = f" and {len(surest) - NAMED} more" if len(surest) > NAMED else ""
        return (
            ", ".join(f"{one.name} ({_points(one.delta)}, {_probability(self._p(one))})" for one in surest[:NAMED])
            + more
        )

    def _detectable(self, delta: SliceDelta, found: Comparison) -> float:
        """About the loss that would be found nine times in ten, by Bonferroni's bound for normal differences."""
        rivals = sum(one.enough and (one.protected or not self._among_protected(delta)) for one in found.everything)
        normal = NormalDist()
        # To be found, the loss must pass the test's threshold and lie beyond it in nine cases of ten.
        sure = normal.inv_cdf(1 - self.settings.alpha / max(1, rivals)) + normal.inv_cdf(0.9)
        return max(self.settings.least_loss, found.margin + sure * delta.error)

    def _among_protected(self, delta: SliceDelta) -> bool:
        """Whether the slice is judged among the protected ones alone."""
        return self.settings.protected_only and delta.protected

    def _row(self, delta: SliceDelta, found: Comparison) -> dict[str, object]:
        return {
            "name": delta.name,
            "protected": delta.protected,
            "pictures": delta.pictures,
            "boxes": delta.boxes,
            "groups": delta.groups,
            "candidate": delta.candidate,
            "production": delta.production,
            "delta": delta.delta,
            "low": delta.low,
            "high": delta.high,
            "p_adjusted": self._p(delta) if delta.enough else None,
            "detectable": self._detectable(delta, found) if delta.enough else None,
            "judged": delta.enough,
        }


def _points(delta: float) -> str:
    return f"{100 * delta:+.1f} points" if not math.isnan(delta) else "undefined"


def _probability(value: float) -> str:
    return f"adjusted p {value:.3f}"
