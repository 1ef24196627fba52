"""Whether a group that lost a process starts again, and what happened to it, in words."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.files import DamagedFileError, read_json
from marauder.core.plain import Plain, PlainMapping
from marauder.engine.failures import EXIT_HUNG, name_some

TOGETHER = ("update", "agreement")
"""Phases in which a process waits for the others."""


@dataclass(frozen=True)
class Death:
    """A process that ended as it should not: ``status`` as ``subprocess`` gives it, minus the signal's number."""

    rank: int
    status: int

    @property
    def is_final(self) -> bool:
        """Whether a signal ended it, so that it cannot have left word."""
        return self.status < 0


@dataclass(frozen=True)
class Saved:
    """The whole checkpoints in a folder, by name and time of writing."""

    files: frozenset[tuple[str, int]]

    @classmethod
    def look(cls, folder: Path) -> Saved:
        """What lies in ``folder`` now."""
        found = set()
        for path in folder.glob("checkpoint_0*.json"):
            try:
                # With the time: a step may be saved a second time, after going back to an earlier one.
                found.add((path.stem, path.stat().st_mtime_ns))
            except FileNotFoundError:
                continue  # an older one, removed for a newer one meanwhile
        return cls(frozenset(found))

    @property
    def step(self) -> int | None:
        """The newest one's step."""
        return max((int(name.removeprefix("checkpoint_")) for name, _ in self.files), default=None)

    def is_newer_than(self, before: Saved) -> bool:
        """Whether something was saved since."""
        return bool(self.files - before.files)


@dataclass
class RestartPolicy:
    """At most ``max_restarts`` restarts in a row without a new checkpoint between them.

    An error of the program that comes back without one is not tried a third time: it will not go away.
    """

    max_restarts: int
    used: int = 0

    def allows(self, progressed: bool, crashed: bool) -> bool:
        """Count a restart, if one is left. ``progressed``: a checkpoint was saved since the last; ``crashed``: the
        process ended by an error of its own and not by a signal or a hang."""
        if progressed:
            self.used = 0
        # An error of its own comes back; a signal or a hang may have come from outside.
        if self.used >= (min(self.max_restarts, 1) if crashed else self.max_restarts):
            return False
        self.used += 1
        return True


def read_reports(output: Path) -> list[Plain]:
    """What the workers that ended left word of, by rank."""
    reports = [read_json(path) for path in output.glob(".outcome_rank*.json")]
    return sorted(reports, key=lambda report: int(report["rank"]))


def describe_status(death: Death) -> str:
    """How a process ended, in words."""
    who = f"the process of rank {death.rank}"
    if death.status == EXIT_HUNG:
        return f"{who} hung"
    if death.status > 0:
        return f"{who} ended by an error (status {death.status}; its messages are above)"
    try:
        name = signal.Signals(-death.status).name
    except ValueError:
        name = f"signal {-death.status}"
    hint = ": the system does that when memory is short" if name == "SIGKILL" else ""
    return f"{who} was killed by {name}{hint}"


def describe_hang(output: Path, processes: int, since: float) -> str | None:
    """Which rank hung where, from the evidence written after ``since`` (seconds since 1970); ``None`` without any."""
    found: list[PlainMapping] = []
    for path in sorted(output.glob("hang_rank*.json")):
        try:
            evidence = read_json(path)
        except DamagedFileError:
            continue
        if evidence["time"] >= since:
            found.append(evidence)
    if not found:
        return None
    # The one that others wait for is in a phase of its own, or a step behind.
    culprit = min(found, key=lambda evidence: (evidence["phase"] in TOGETHER, evidence.get("step", 0)))
    silent = sorted(set(range(processes)) - {int(evidence["rank"]) for evidence in found})
    words = f"rank {culprit['rank']} made no progress for {culprit['seconds']:.0f} s in the phase {culprit['phase']!r}"
    if "step" in culprit:
        words += f" of step {culprit['step']} ({name_some(culprit['pictures'])})"
    words += f"; its stack is in {output / 'hang_rank'}{culprit['rank']}.json"
    if silent and culprit["phase"] in TOGETHER:
        words += f"; it seems to wait for {_ranks(silent)}"
    return words


def _ranks(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(str(rank) for rank in ranks)
