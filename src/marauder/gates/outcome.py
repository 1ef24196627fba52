"""What the verdicts make of a run: its answer and the exit status of its command. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from marauder.gates.verdict import Verdict, worst

EXIT_GATES_FAILED = 3
"""Exit status of a run that finished and that a gate failed; 0 also for warnings."""


@dataclass(frozen=True)
class Outcome:
    """``failed``, ``warned``: names of the gates, in the order of the verdicts. A run of whose gates none
    was asked anything continues like one that passed; its verdict (``worst``) says ``off``.
    """

    answer: Literal["pass", "warn", "fail"]
    exit_status: int
    failed: tuple[str, ...]
    warned: tuple[str, ...]


def withheld(verdicts: Iterable[Verdict]) -> str:
    """Why a model is not offered for production though no gate failed it, in the words of the essential gates that
    warned; empty: it is offered."""
    return "; ".join(f"{one.gate}: {one.why}" for one in verdicts if one.essential and one.answer == "warn")


def decide(verdicts: Iterable[Verdict]) -> Outcome:
    """The outcome of a run with these verdicts."""
    given = list(verdicts)
    answer = worst(given)
    return Outcome(
        answer="pass" if answer == "off" else answer,
        exit_status=EXIT_GATES_FAILED if answer == "fail" else 0,
        failed=tuple(verdict.gate for verdict in given if verdict.answer == "fail"),
        warned=tuple(verdict.gate for verdict in given if verdict.answer == "warn"),
    )
