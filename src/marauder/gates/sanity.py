"""Gate: one batch trains. Forward and backward give finite numbers, the loss falls, every parameter gets a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

if TYPE_CHECKING:
    from marauder.engine.smoke import OneBatch  # brings torch, which reading settings must not

SHOWN = 5


class SanitySettings(GateSettings):
    """How the sanity check judges."""

    allow_without_gradient: int = Field(
        0, ge=0, description="trainable parameters that may get no gradient before the gate warns"
    )


@dataclass(frozen=True)
class SanityEvidence:
    """What one batch showed (``marauder.engine.smoke.OneBatch`` as plain values); ``error``: why it does not train."""

    first_loss: float
    lowest_loss: float
    gradient_norm: float
    without_gradient: tuple[str, ...] = ()
    parameters: int = 0
    error: str | None = None

    @classmethod
    def of(cls, result: OneBatch) -> SanityEvidence:
        """The evidence in what ``look_at_one_batch`` found."""
        return cls(**vars(result))


class SanityGate(Gate[SanitySettings, SanityEvidence]):
    """Stops a run that cannot learn before it costs anything."""

    name = "sanity"
    phase = "before"
    title = "One batch trains"
    settings_model = SanitySettings
    evidence_model = SanityEvidence

    def judge(self, evidence: SanityEvidence) -> Verdict:
        """Fails when one repeated batch does not train; warns of parameters that nothing trains."""
        facts = {
            "first_loss": evidence.first_loss,
            "lowest_loss": evidence.lowest_loss,
            "gradient_norm": evidence.gradient_norm,
            "without_gradient": list(evidence.without_gradient),
            "parameters": evidence.parameters,
        }
        if evidence.error is not None:
            return self.verdict(self.broken(), evidence.error, evidence.lowest_loss, **facts)
        # Turned round so that NaN fails.
        if not evidence.lowest_loss < evidence.first_loss:
            why = (
                f"the loss did not fall on one repeated batch ({evidence.first_loss:.4g} to "
                f"{evidence.lowest_loss:.4g}); check the labels (`marauder data check`) and the loss weights"
            )
            return self.verdict(self.broken(), why, evidence.lowest_loss, evidence.first_loss, **facts)
        fell = f"the loss fell from {evidence.first_loss:.4g} to {evidence.lowest_loss:.4g} on one repeated batch"
        missing = evidence.without_gradient
        if len(missing) > self.settings.allow_without_gradient:
            named = ", ".join(missing[:SHOWN]) + (" and others" if len(missing) > SHOWN else "")
            why = (
                f"{fell}, but {len(missing)} of {evidence.parameters} parameters get no gradient and will not learn "
                f"({named}); freeze them on purpose, or see whether the loss reaches that part of the model"
            )
            return self.verdict("warn", why, len(missing), self.settings.allow_without_gradient, **facts)
        return self.verdict("pass", fell, evidence.lowest_loss, evidence.first_loss, **facts)
