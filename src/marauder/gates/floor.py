"""Gate: the model learned something. Whatever else passed, it says whether the figure is that of an untrained one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from pydantic import Field

from marauder.core.metrics import Metric
from marauder.gates.base import Gate, GateSettings
from marauder.gates.verdict import Verdict

NOT_LEARNED, NOT_KNOWN = "has not learned yet", "too few pictures to tell"
BELOW_LEVEL = "below the level you set"
"""The finding where the model has learned something, but less than the settings ask for."""


class FloorSettings(GateSettings):
    """The level that a model has to reach."""

    level: float | None = Field(
        None, description="least value of the task's figure; default: the task's own (detection: 0.05 of mAP50)"
    )

    def for_floor(self, floor: Metric) -> Self:
        """Raises ``ValueError`` for a level that the figure cannot have."""
        if self.level is not None and floor.share and not 0 <= self.level <= 1:
            raise ValueError(f"level: must be between 0 and 1, as {floor.title} is, not {self.level:g}")
        return self


@dataclass(frozen=True)
class FloorEvidence:
    """``metric``: the figure's title. ``value``: measured (NaN: it was not). ``level``: the task's own.

    ``low``, ``high``: its 95 % interval (NaN: the task draws none), over ``drawn``, such as "12 clips". ``unknown``:
    why nothing can be told from the value; empty: it can. ``useless``: why the model is of no use whatever the value;
    empty: nothing says so.
    """

    metric: str
    value: float
    level: float
    low: float = math.nan
    high: float = math.nan
    drawn: str = ""
    unknown: str = ""
    useless: str = ""


class FloorGate(Gate[FloorSettings, FloorEvidence]):
    """Breaks below the level, or where nothing is found; warns where the interval reaches below it.

    Either way the model is not offered.
    """

    name = "floor"
    phase = "end"
    title = "The model learned something"
    settings_model = FloorSettings
    evidence_model = FloorEvidence
    essential = True

    def judge(self, evidence: FloorEvidence) -> Verdict:
        """Below the level, or of no use: broken. Unknown, or an interval that reaches below: warn."""
        level = self.settings.level if self.settings.level is not None else evidence.level
        value, metric = evidence.value, evidence.metric
        facts = {"metric": metric, "low": evidence.low, "high": evidence.high}
        if evidence.unknown or math.isnan(value):
            why = f"{NOT_KNOWN}: {evidence.unknown or f'{metric} was not measured'}"
            return self.verdict("warn", why, value, level, **facts, finding=NOT_KNOWN)
        if value < level:
            finding = NOT_LEARNED if value < evidence.level else BELOW_LEVEL
            why = f"{finding}: {metric} is {value:.3f}, below {level:g}"
            return self.verdict(self.broken(), why, value, level, **facts, finding=finding)
        # Who sets a lower level than the task's own has said that little is enough.
        if evidence.useless and level >= evidence.level:
            why = f"{NOT_LEARNED}: {evidence.useless} ({metric} is {value:.3f})"
            return self.verdict(self.broken(), why, value, level, **facts, finding=NOT_LEARNED)
        interval = f"{evidence.low:.3f} to {evidence.high:.3f}{f', {evidence.drawn}' if evidence.drawn else ''}"
        if evidence.low < level:
            why = f"{NOT_KNOWN}: {metric} is {value:.3f}, but its 95 % interval ({interval}) reaches below {level:g}"
            return self.verdict("warn", why, value, level, **facts, finding=NOT_KNOWN)
        sure = "no interval was drawn" if math.isnan(evidence.low) else f"95 % interval {interval}"
        return self.verdict("pass", f"{metric} is {value:.3f} ({sure}), above {level:g}", value, level, **facts)
