"""Gate: two short runs with one seed agree, bit for bit on a CPU and within a tolerance elsewhere."""

from __future__ import annotations

import math
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
        0.05, ge=0, description="difference allowed on a GPU, as a share of what the updates changed; on a CPU it is 0"
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
    share_of_change: float = 0.0

    @classmethod
    def of(cls, result: SmokeResult, device: str) -> DeterminismEvidence:
        """The evidence in what ``two_short_runs`` found on ``device`` (``cpu`` or ``cuda``)."""
        return cls(device, **vars(result))


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
            "largest_difference": evidence.largest_difference,
        }
        share = evidence.share_of_change
        # First, since other samples explain any difference of the weights.
        if not evidence.same_batches:
            why = (
                "the same seed gave other samples the second time: something in loading or augmentation draws random "
                "numbers that are not keyed by the sample (core.randomness.stream)"
            )
            return self.verdict(self.broken(), why, share, limit, **facts)
        if evidence.exact:
            why = f"two runs of {evidence.steps} updates with one seed agree bit for bit"
            return self.verdict("pass", why, share, limit, **facts)
        words = (
            f"two runs of {evidence.steps} updates with one seed end {share:.2%} of the size of the updates apart "
            f"(at most "
            f"{evidence.largest_difference:.3g} in a number); {limit:.2%} is allowed on {evidence.device}"
        )
        if evidence.device != "cpu" and math.isfinite(evidence.largest_difference) and share <= limit:
            return self.verdict("pass", words, share, limit, **facts)
        why = (
            f"{words}. Look for randomness in the model or loss that no seed sets, or for a different number of "
            "threads the second time"
        )
        return self.verdict(self.broken(), why, share, limit, **facts)
