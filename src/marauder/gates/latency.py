"""Gate: the exported model is as fast as its budget asks, on the hardware that the budget was declared for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, model_validator

from marauder.core.plain import Plain, PlainMapping
from marauder.gates.base import Gate, GateSettings
from marauder.gates.limits import broken_bound
from marauder.gates.verdict import Verdict


class LatencySettings(GateSettings):
    """The budget of one call of the exported model."""

    format: str = Field("onnx", description="which exported format is held to the budget")
    hardware: str = Field("", description="part of the name of the machine that the budget is for; any: every machine")
    p50: float | None = Field(None, gt=0, description="milliseconds that the median call may take")
    p95: float | None = Field(None, gt=0, description="milliseconds that 95 % of the calls may take")
    throughput: float | None = Field(None, gt=0, description="pictures per second that it must reach")

    @model_validator(mode="after")
    def _named_hardware(self) -> LatencySettings:
        if self.has_budget and not self.hardware.strip():
            raise ValueError("a budget needs the hardware it is meant for: hardware: Xeon, say, or any")
        return self

    @property
    def has_budget(self) -> bool:
        """Whether there is anything to hold the model to."""
        return any(bound is not None for bound in (self.p50, self.p95, self.throughput))

    def is_meant_for(self, machine: str) -> bool:
        """Whether all words of ``hardware`` are in the machine's name (whatever their case), or it is ``any``."""
        wanted = self.hardware.casefold().split()
        return wanted == ["any"] or all(word in machine.casefold() for word in wanted)


@dataclass(frozen=True)
class FormatTiming:
    """``p50``, ``p95``: milliseconds of one call; ``throughput``: pictures a second at the median."""

    p50: float
    p95: float
    throughput: float


@dataclass(frozen=True)
class LatencyEvidence:
    """What was measured: timings by format, on one machine (its name), with what shape of input."""

    machine: str
    formats: Mapping[str, FormatTiming]
    batch: int
    height: int
    width: int

    @classmethod
    def of(cls, latency: PlainMapping) -> LatencyEvidence:
        """The evidence in what ``exporting.latency.Latency.plain`` gives."""
        batch = int(latency["batch"])
        formats = {
            name: FormatTiming(float(one["p50"]), float(one["p95"]), 1000 * batch / float(one["p50"]))
            for name, one in latency["timings"].items()
        }
        return cls(str(latency["machine"]), formats, batch, int(latency["height"]), int(latency["width"]))


class LatencyGate(Gate[LatencySettings, LatencyEvidence]):
    """Judges on declared hardware only; elsewhere it shows the figures and warns that they prove nothing."""

    name = "latency"
    phase = "end"
    title = "Fast enough on its hardware"
    settings_model = LatencySettings
    evidence_model = LatencyEvidence

    def judge(self, evidence: LatencyEvidence) -> Verdict:
        """Hold the format to its budget."""
        budget = self.settings
        facts: Plain = {
            "machine": evidence.machine,
            "hardware": budget.hardware,
            "format": budget.format,
            "formats": {name: vars(timing) for name, timing in evidence.formats.items()},
            "input": [evidence.batch, 3, evidence.height, evidence.width],
            "judged": False,
        }
        if not budget.has_budget:
            return self.verdict("off", "no budget is set; give p50, p95 or throughput in gates.yaml", **facts)
        timing = evidence.formats.get(budget.format)
        if timing is None:
            there = ", ".join(evidence.formats) or "none"
            why = f"the budget is for {budget.format}, which was not exported and timed (there is: {there})"
            return self.verdict(self.broken(), why, None, budget.format, **facts)
        broken = [
            broken_bound("p50 (ms)", timing.p50, None, budget.p50),
            broken_bound("p95 (ms)", timing.p95, None, budget.p95),
            broken_bound("pictures a second", timing.throughput, budget.throughput, None),
        ]
        found = [one for one in broken if one is not None]
        told = (
            f"{budget.format} takes {timing.p50:.3g} ms (p95 {timing.p95:.3g} ms) a call, "
            f"{timing.throughput:.3g} pictures a second"
        )
        value, limit = (found[0].value, found[0].bound) if found else _figures(timing, budget)
        if not budget.is_meant_for(evidence.machine):
            why = f"{told} on {evidence.machine}; the budget is meant for {budget.hardware}, so this was not judged"
            return self.verdict("warn", why, value, limit, **facts)
        facts["judged"] = True
        if found:
            why = f"{'; '.join(str(one) for one in found)} on {evidence.machine}"
            return self.verdict(self.broken(), why, value, limit, **facts)
        return self.verdict("pass", f"{told}, within its budget", value, limit, **facts)


def _figures(timing: FormatTiming, budget: LatencySettings) -> tuple[float, float | None]:
    """The first figure that the budget limits, and its limit."""
    if budget.p50 is not None:
        return timing.p50, budget.p50
    if budget.p95 is not None:
        return timing.p95, budget.p95
    return timing.throughput, budget.throughput
