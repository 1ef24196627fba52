"""Asks the gates of a run in the order of ``gates.yaml``, keeps their verdicts, and says what follows from them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, read_json, write_json
from marauder.gates.base import GateSettings
from marauder.gates.plan import GatePlan
from marauder.gates.verdict import Phase, Verdict

GATES_FILE = "gates.json"
log = logging.getLogger("marauder")
MARKS = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "off": "off"}


class GateStop(UserError):  # noqa: N818 - it names what happened
    """A gate stopped the run; the message says which, why, and what to do."""

    exit_status = 3


class Gatekeeper:
    """``key`` says what the verdicts rest on: those of an earlier attempt with the same key still hold.

    ``heard`` is called with every new verdict.
    """

    def __init__(self, plan: GatePlan, folder: Path, key: str, heard: Callable[[Verdict], None]) -> None:
        self.plan, self.path, self.key, self.heard = plan, folder / GATES_FILE, key, heard
        self.verdicts: dict[str, Verdict] = {}
        if self.path.is_file():
            content = read_json(self.path)
            # Verdicts on other data, settings or gates say nothing of this run.
            if content.get("key") == key:
                self.verdicts = {one["gate"]: Verdict.from_json(one) for one in content["verdicts"]}

    def names(self, phase: Phase) -> list[str]:
        """The gates of a phase that are on, in the plan's order."""
        return self.plan.names(phase)

    def holds(self, name: str) -> bool:
        """Whether an earlier attempt's verdict still counts; a failure is asked again."""
        return name in self.verdicts and self.verdicts[name].answer != "fail"

    def ask(self, name: str, collect: Callable[[GateSettings], Any]) -> Verdict:
        """Collect a gate's evidence and judge it; what the user has to mend in collecting it is a failure."""
        gate = self.plan.gate(name)
        if gate is None:
            raise ValueError(f"gate {name} is off")
        try:
            evidence = collect(gate.settings)
        # Other exceptions are faults of the program and must not pass for a verdict.
        except (UserError, DamagedFileError) as error:
            verdict = self.plan.unanswered(name, error)
        else:
            verdict = gate.judge(evidence)
        self.add(verdict)
        return verdict

    def add(self, verdict: Verdict) -> None:
        """Keep a verdict, write it down, say it."""
        self.verdicts[verdict.gate] = verdict
        # On disk before anybody hears of it: an event that is out cannot be taken back.
        self.write()
        say = log.warning if verdict.answer in ("warn", "fail") else log.info
        say("gate %s: %s, %s", verdict.gate, MARKS[verdict.answer], verdict.why)
        self.heard(verdict)

    def all(self) -> list[Verdict]:
        """Verdicts in the plan's order, those of gates that are off among them."""
        asked = [self.verdicts[name] for name in self.plan.names() if name in self.verdicts]
        return self.plan.in_order([*asked, *self.plan.off_verdicts()])

    def off(self, name: str, why: str) -> None:
        """Note that a gate has nothing to judge in this run."""
        gate = self.plan.gate(name)
        if gate is not None:
            self.add(gate.off(why))

    def write(self) -> None:
        """``gates.json``."""
        write_json(self.path, {"key": self.key, "verdicts": [verdict.to_json() for verdict in self.all()]})

    def stop_if_failed(self, phase: Phase) -> None:
        """Raise ``GateStop`` when a gate of ``phase`` failed."""
        failed = [one for one in self.verdicts.values() if one.phase == phase and one.answer == "fail"]
        if failed:
            raise GateStop("\n".join(f"gate {one.gate} failed: {one.why}" for one in failed))
