"""Gate: the training ended healthy, by what the engine saw while it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from marauder.core.plain import Plain
from marauder.core.wording import counted
from marauder.engine.failures import FailureKind
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

NAMES: dict[str, str] = {
    "nan": "the loss was not a number",
    "exploding": "the loss exploded",
    "diverged": "the training diverged",
    "collapsed": "the model collapsed",
    "dead_loader": "no more data arrived",
    "out_of_memory": "it ran out of memory",
    "sanity": "one batch did not train",
    "died": "a process died",
    "hung": "a process hung",
}


@dataclass(frozen=True)
class HealthEvidence:
    """What the engine reported. ``kind``: what ended the training, ``None`` if it finished normally; ``step`` and
    ``batch``: where; ``why``: the engine's own words. ``counts``: what happened on the way (skipped batches, restarts)
    by kind. ``finished``: all epochs ran, or it stopped early because nothing got better.
    """

    finished: bool
    kind: FailureKind | None = None
    step: int | None = None
    batch: str = ""
    why: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class HealthGate(Gate[GateSettings, HealthEvidence]):
    """Passes a training that finished normally; lists what happened on the way."""

    name = "health"
    phase = "during"
    title = "The training stayed healthy"
    evidence_model = HealthEvidence

    def judge(self, evidence: HealthEvidence) -> Verdict:
        """Fail when something ended the training before its time."""
        facts: Plain = {
            "kind": evidence.kind,
            "step": evidence.step,
            "batch": evidence.batch,
            "counts": dict(evidence.counts),
        }
        if evidence.kind is not None:
            where = f" at step {evidence.step}" if evidence.step is not None else ""
            batch = f" (batch: {evidence.batch})" if evidence.batch else ""
            why = f"{NAMES[evidence.kind]}{where}{batch}: {evidence.why}"
            return self.verdict(self.broken(), why, evidence.kind, "none", **facts)
        if not evidence.finished:
            why = evidence.why or "the training has not finished; run the same command again to resume it"
            return self.verdict(self.broken(), why, "unfinished", "none", **facts)
        times = {kind: counted(count, "time") for kind, count in evidence.counts.items() if count}
        lived = ", ".join(f"{kind.replace('_', ' ')} {often}" for kind, often in times.items())
        why = "training finished normally" + (f"; on the way: {lived}" if lived else "")
        return self.verdict("pass", why, "none", "none", **facts)
