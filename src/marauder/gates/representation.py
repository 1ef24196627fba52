"""Gate: a pretrained backbone still tells pictures apart, and the probe does not say that it got worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

Helped = Literal["yes", "no", "unclear"]


@dataclass(frozen=True)
class RepresentationEvidence:
    """What the finished backbone shows.

    ``signs``: of collapse, by name, and ``limits``: what each has to reach; ``collapsed``: why the features are taken
    for collapsed (empty: they are not). ``unjudged``: why nothing can be said of collapse (empty: it can).
    ``helped``: the verdict of the probe, ``words``: the same as a sentence.
    ``gain``, ``low``, ``high``: what the probe gained and its interval (``None``: nothing was probed).
    """

    signs: Mapping[str, float]
    limits: Mapping[str, float]
    collapsed: str = ""
    helped: Helped = "unclear"
    words: str = ""
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    unjudged: str = ""


class RepresentationGate(Gate[GateSettings, RepresentationEvidence]):
    """Fails a backbone whose features collapsed; warns of one that the probe finds worse than its starting point."""

    name = "representation"
    phase = "end"
    title = "The backbone distinguishes pictures"
    settings_model = GateSettings
    evidence_model = RepresentationEvidence

    def judge(self, evidence: RepresentationEvidence) -> Verdict:
        """``fail`` on collapse, ``warn`` where collapse cannot be judged or the probe says no, ``pass`` otherwise, also
        when the probe is unclear."""
        facts = {
            "signs": dict(evidence.signs),
            "limits": dict(evidence.limits),
            "probe": evidence.helped,
            "gain": evidence.gain,
            "interval": [evidence.low, evidence.high],
            **evidence.facts,
        }
        if evidence.collapsed:
            worst = self._worst_sign(evidence)
            value, limit = (evidence.signs.get(worst), evidence.limits.get(worst)) if worst else (None, None)
            return self.verdict(self.broken(), evidence.collapsed, value, limit, **facts)
        told = evidence.words or f"the probe is {evidence.helped}"
        if evidence.unjudged:
            return self.verdict("warn", f"not judged: {evidence.unjudged}; {told}", evidence.gain, None, **facts)
        if evidence.helped == "no":
            why = f"{evidence.words or 'the probe finds no gain'}; see docs/step1_pretraining.md"
            return self.verdict("warn", why, evidence.gain, 0.0, **facts)
        return self.verdict("pass", f"no sign of collapse; {told}", evidence.gain, None, **facts)

    @staticmethod
    def _worst_sign(evidence: RepresentationEvidence) -> str:
        """The sign that is furthest below its limit."""
        shares = {
            name: evidence.signs[name] / limit
            for name, limit in evidence.limits.items()
            if name in evidence.signs and limit > 0
        }
        return min(shares, key=lambda name: shares[name], default="")
