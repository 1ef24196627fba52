"""Gate: two short runs with one seed agree, bit for bit on a CPU and within a tolerance elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

if TYPE_CHECKING:
    from marauder.engine.smoke import SmokeResult  # brings torch, which reading settings must not


class DeterminismSettings(GateSettings):
    """How far two runs with one seed may lie apart."""

    tolerance: float = Field(
        1e-2, ge=0, description="largest difference of any weight that is let pass on a GPU; on a CPU it is 0"
    )
    steps: int = Field(3, ge=1, le=100, description="updates of each of the two runs")
    samples: int = Field(8, ge=1, description="samples of an update")


@dataclass(frozen=True)
class DeterminismEvidence:
    """What two short runs showed (``marauder.engine.smoke.SmokeResult`` with the kind of device)."""

    device: str
    largest_difference: float
    exact: bool
    steps: int
    seconds: float
    same_batches: bool = True

    @classmethod
    def of(cls, result: SmokeResult, device: str) -> DeterminismEvidence:
        """The evidence in what ``two_short_runs`` found on ``device`` (``cpu`` or ``cuda``)."""
        return cls(
            device, result.largest_difference, result.exact, result.steps, result.seconds, result.same_batches
        )  # fmt: skip


class DeterminismGate(Gate[DeterminismSettings, DeterminismEvidence]):
    """A run that cannot be repeated cannot be explained, resumed exactly, or compared fairly."""

    name = "determinism"
    phase = "before"
    title = "Two short runs agree"
    settings_model = DeterminismSettings
    evidence_model = DeterminismEvidence

    def judge(self, evidence: DeterminismEvidence) -> Verdict:
        """Exactly equal on a CPU, within ``tolerance`` elsewhere; the samples are the same everywhere."""
        limit = 0.0 if evidence.device == "cpu" else self.settings.tolerance
        facts = {
            "device": evidence.device,
            "exact": evidence.exact,
            "steps": evidence.steps,
            "seconds": round(evidence.seconds, 2),
            "same_batches": evidence.same_batches,
        }
        difference = evidence.largest_difference
        if not evidence.same_batches:
            why = (
                "the same seed gave other samples the second time: something in loading or augmentation draws random "
                "numbers that are not keyed by the sample (core.randomness.stream)"
            )
            return self.verdict(self.broken(), why, difference, limit, **facts)
        if evidence.exact or (evidence.device != "cpu" and difference <= limit):
            words = (
                "agree bit for bit" if evidence.exact else f"differ by {difference:.3g}, at most {limit:g} is allowed"
            )
            why = f"two runs of {evidence.steps} updates with one seed {words}"
            return self.verdict("pass", why, difference, limit, **facts)
        why = (
            f"two runs of {evidence.steps} updates with one seed differ by {difference:.3g} ({limit:g} allowed on "
            f"{evidence.device}); look for randomness in the model or loss that no seed sets, or for another number of "
            "threads the second time"
        )
        return self.verdict(self.broken(), why, difference, limit, **facts)
