"""Gate: an ensemble needs no more energy a day than its device has, on the duty cycle that was declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from marauder.core.plain import Plain
from marauder.core.wording import joined
from marauder.deployment.affordable import affordable
from marauder.deployment.profile import Profile
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict


class EnergySettings(GateSettings):
    """The budget of a day."""

    budget: float | None = Field(
        40.0, gt=0, description="watt-hours a day for inference and wake time; idle and off are counted beside it"
    )


@dataclass(frozen=True)
class EnergyEvidence:
    """``profile``: of the ensemble on its device; ``contributions``: what each member adds, where that is known."""

    profile: Profile
    contributions: Mapping[str, float] = field(default_factory=dict)


class EnergyGate(Gate[EnergySettings, EnergyEvidence]):
    """Fails an ensemble over its budget, and names the members that fit; warns of members that the device cannot run.

    It judges published figures and assumptions, not measurements, and says so.
    """

    name = "energy"
    phase = "end"
    title = "Affordable on its device"
    settings_model = EnergySettings
    evidence_model = EnergyEvidence

    def judge(self, evidence: EnergyEvidence) -> Verdict:
        """Hold inference and wake time to the budget."""
        profile, budget = evidence.profile, self.settings.budget
        day = profile.day
        facts: Plain = {
            "device": profile.device,
            "watt_hours": dict(day.watt_hours),
            "latency": profile.latency,
            "megabytes": profile.megabytes,
            "not_running": [one.name for one in profile.members if not one.runs],
            "estimated": [one.name for one in profile.members if one.estimated],
            "fitting": [],
        }
        if budget is None:
            return self.verdict("off", "no budget is set; give watt-hours a day in gates.yaml", **facts)
        told = (
            f"{day.budgeted:.1f} Wh a day for inference and wake time on {profile.title}, and "
            f"{day.watt_hours['idle'] + day.watt_hours['off']:.1f} Wh idle and off (by published figures)"
        )
        if day.budgeted > budget or not day.fits:
            fitting = affordable(profile, budget, evidence.contributions)
            facts["fitting"] = list(fitting)
            over = [f"over the budget of {budget:g}"] if day.budgeted > budget else []
            if not day.fits:
                over.append(f"and {day.seconds['inference'] / 3600:.1f} hours of inference do not fit into the day")
            why = f"{told}, {', '.join(over)}; {_remedy(fitting)}"
            return self.verdict(self.broken(), why, day.budgeted, budget, **facts)
        troubles = _troubles(profile)
        if troubles:
            return self.verdict("warn", f"{told}; but {joined(troubles)}", day.budgeted, budget, **facts)
        return self.verdict("pass", f"{told}, within the budget of {budget:g}", day.budgeted, budget, **facts)


def _remedy(fitting: tuple[str, ...]) -> str:
    if fitting:
        return f"these fit: {joined(fitting)}"
    return "not one member fits: give smaller models or pictures, or watch less (deployment.*)"


def _troubles(profile: Profile) -> list[str]:
    """Why the figures say less than they seem to: members that do not run, memory that is not there."""
    found = [f"{one.name} ({one.model}): {one.why}" for one in profile.members if not one.runs]
    if profile.megabytes > profile.memory:
        found.append(f"it needs about {profile.megabytes:.0f} MB of {profile.memory:.0f}")
    return found
