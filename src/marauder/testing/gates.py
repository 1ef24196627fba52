"""The contract of gates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, get_args

from marauder.core.errors import UserError
from marauder.core.metrics import Metric
from marauder.core.plain import Plain
from marauder.core.plugins import make, resolve
from marauder.gates.base import Gate, GateSettings
from marauder.gates.outcome import decide
from marauder.gates.plan import load_gates
from marauder.gates.verdict import SEVERITY, Phase, Verdict


@dataclass(frozen=True)
class Sample:
    """``make`` gives the evidence anew each time, so that nothing but its content can make two verdicts equal."""

    make: Callable[[], Any]
    settings: Plain = field(default_factory=dict)


class GateContract:
    """What every gate promises. A subclass is parametrized over ``name`` and has the samples by that name."""

    passing: ClassVar[Mapping[str, Sample]]
    """Evidence and settings that pass."""
    broken: ClassVar[Mapping[str, Sample]]
    """Evidence and settings that break a limit."""
    nothing_asked: ClassVar[Mapping[str, Sample]]
    """Settings that ask nothing of the gate; a gate that always has something to judge has no such sample."""

    def gate(self, name: str, sample: Sample, **settings: Any) -> Gate[Any, Any]:
        """The gate, with the sample's settings and these."""
        made: Gate[Any, Any] = make("gate", name, {**sample.settings, **settings})
        return made

    def test_says_what_it_is(self, name: str) -> None:
        kind = resolve("gate", name)
        assert issubclass(kind, Gate)
        assert kind.name == name
        assert kind.phase in get_args(Phase)
        assert kind.title and kind.title[0].isupper()
        assert issubclass(kind.settings_model, GateSettings)
        assert dataclasses.is_dataclass(kind.evidence_model)
        assert getattr(kind.evidence_model, "__dataclass_params__").frozen  # noqa: B009 - typeshed does not know it
        assert kind.settings_model().severity == "fail"

    def test_settings_fit_any_kind_of_run(self, name: str) -> None:
        given = resolve("gate", name).settings_model()
        # In this way and no other, whatever the gate makes of it: every run begins with it.
        fitted = given.for_task("figure", ("figure",))
        assert type(fitted) is type(given) and fitted.severity == given.severity
        for figure in (Metric("figure", "a share", floor=0.05), Metric("figure", "decibels", share=False, floor=18.0)):
            assert type(fitted.for_floor(figure)) is type(given)
            plan = load_gates(overrides=[f"{name}.severity=warn"]).for_task("figure", ("figure",), figure)
            assert plan.settings[name].severity == "warn"

    def test_passes_what_is_right(self, name: str) -> None:
        sample = self.passing[name]
        verdict = self.gate(name, sample).judge(sample.make())
        assert (verdict.gate, verdict.phase, verdict.answer) == (name, resolve("gate", name).phase, "pass")
        assert verdict.why

    def test_fails_what_is_broken_and_says_value_limit_and_why(self, name: str) -> None:
        sample = self.broken[name]
        verdict = self.gate(name, sample).judge(sample.make())
        assert verdict.answer == "fail"
        assert verdict.value is not None
        assert verdict.limit is not None
        assert len(verdict.why) > 20
        assert verdict.evidence
        assert decide([verdict]).exit_status == 3

    def test_never_fails_at_severity_warn(self, name: str) -> None:
        sample = self.broken[name]
        strict, lenient = self.gate(name, sample), self.gate(name, sample, severity="warn")
        verdict = lenient.judge(sample.make())
        assert verdict == dataclasses.replace(strict.judge(sample.make()), answer="warn")
        assert decide([verdict]).exit_status == 0

    def test_is_pure(self, name: str) -> None:
        for sample in (self.passing[name], self.broken[name]):
            gate, given = self.gate(name, sample), sample.make()
            first = gate.judge(given)
            assert given == sample.make()  # the evidence is as it was
            assert first == gate.judge(sample.make()) == self.gate(name, sample).judge(given)

    def test_verdict_survives_json(self, name: str) -> None:
        for sample in (self.passing[name], self.broken[name]):
            verdict = self.gate(name, sample).judge(sample.make())
            assert Verdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict

    def test_is_shown_as_off_when_switched_off(self, name: str, tmp_path: Path) -> None:
        file = tmp_path / "gates.yaml"
        file.write_text(f"{name}: off", encoding="utf-8")
        plan = load_gates(file)
        assert plan.gate(name) is None
        assert name not in plan.names()
        verdict = plan.judge(name, self.broken[name].make())
        assert (verdict.answer, verdict.why) == ("off", "switched off in gates.yaml")
        assert verdict in plan.off_verdicts()
        assert plan.unanswered(name, UserError("the disk is full")).answer == "off"
        assert decide(plan.off_verdicts()).answer == "pass"

    def test_evidence_that_cannot_be_collected_breaks_it(self, name: str) -> None:
        verdict = load_gates(overrides=[f"{name}.severity=fail"]).unanswered(name, UserError("a.csv:3: no number"))
        assert (verdict.answer, verdict.gate) == ("fail", name)
        assert "a.csv:3: no number" in verdict.why
        assert load_gates(overrides=[f"{name}.severity=warn"]).unanswered(name, UserError("no")).answer == "warn"

    def test_answers_are_of_the_allowed_set(self, name: str) -> None:
        for sample in (self.passing[name], self.broken[name]):
            for severity in ("fail", "warn"):
                answer = self.gate(name, sample, severity=severity).judge(sample.make()).answer
                assert answer in SEVERITY and answer != "off"

    def test_does_not_pass_what_it_was_not_asked(self, name: str) -> None:
        sample = self.nothing_asked.get(name)
        if sample is None:
            return
        for severity in ("fail", "warn"):
            verdict = self.gate(name, sample, severity=severity).judge(sample.make())
            assert (verdict.answer, verdict.gate) == ("off", name)
            assert verdict.why
            assert decide([verdict]).exit_status == 0
