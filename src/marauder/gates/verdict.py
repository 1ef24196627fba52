"""What a gate answers: pass, warn, fail or off, with the value, the limit, the evidence and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

from marauder.core.plain import Plain, PlainMapping

Answer = Literal["pass", "warn", "fail", "off"]
Phase = Literal["before", "during", "epoch", "end"]
SEVERITY: dict[Answer, int] = {"off": 0, "pass": 1, "warn": 2, "fail": 3}


@dataclass(frozen=True)
class Verdict:
    """The answer of one gate. ``evidence`` holds plain values only; ``why`` is one or two sentences in plain words.

    ``essential``: a model is offered for production only where this gate passes or is off.
    """

    gate: str
    phase: Phase
    answer: Answer
    why: str
    value: float | str | None = None
    limit: float | str | None = None
    evidence: Plain = field(default_factory=dict)
    essential: bool = False

    def to_json(self) -> Plain:
        """The fields as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: PlainMapping) -> Verdict:
        """The verdict that ``to_json`` wrote."""
        return cls(**content)


def worst(verdicts: Iterable[Verdict]) -> Answer:
    """The most severe answer; ``off`` without verdicts, or where no gate was asked anything."""
    return max((verdict.answer for verdict in verdicts), key=SEVERITY.__getitem__, default="off")
