"""A gate: settings in ``gates.yaml``, evidence collected by the run, a verdict. Judging is pure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import ConfigDict, Field

from marauder.core.metrics import Metric
from marauder.core.plugins import Plugin
from marauder.core.settings import PLAIN_OFF, Settings
from marauder.gates.verdict import Answer, Phase, Verdict


class GateSettings(Settings):
    """What ``gates.yaml`` can set for every gate. Numbers are finite: nothing is ever beyond a limit that is NaN."""

    model_config = ConfigDict(allow_inf_nan=False)

    severity: Annotated[Literal["fail", "warn", "off"], PLAIN_OFF] = Field(
        "fail", description="what a broken limit does: fail the run, only warn, or off: not checked"
    )

    def for_task(self, headline: str, comparable: Sequence[str]) -> Self:
        """These settings with what they leave to the kind of run.

        ``headline``: the metric that sums up such a run; ``comparable``: those that can be compared with production's.
        Raises ``ValueError``, which begins with the setting's name, for what such a run does not have.
        """
        return self

    def for_floor(self, floor: Metric) -> Self:
        """These settings for a kind of run in which the figure ``floor`` says whether a model has learned anything; not
        called where none does. Raises ``ValueError``, which begins with the setting's name, for what does not fit it.
        """
        return self


SettingsType = TypeVar("SettingsType", bound=GateSettings)
EvidenceType = TypeVar("EvidenceType")


class Gate(Plugin[SettingsType], ABC, Generic[SettingsType, EvidenceType]):
    """One question about a run.

    ``settings_model``: its section of ``gates.yaml``. ``evidence_model``: the frozen dataclass that the run hands in;
    it lives in the gate's own file. ``judge`` reads no files, keeps no state and uses no time.
    """

    phase: ClassVar[Phase]
    settings_model: ClassVar[type[Settings]] = GateSettings
    evidence_model: ClassVar[type[Any]]
    essential: ClassVar[bool] = False
    """Whether its warning, too, keeps a model from being offered for production."""

    @abstractmethod
    def judge(self, evidence: EvidenceType) -> Verdict:
        """The verdict on ``evidence``. ``off`` only where nothing was asked of the gate: no limit, nothing to compare
        with yet. What was asked and could not be answered is at least ``warn``.
        """

    def broken(self) -> Answer:
        """The answer to a broken limit at this gate's severity."""
        return "warn" if self.settings.severity == "warn" else "fail"

    def verdict(self, answer: Answer, why: str, value: Any = None, limit: Any = None, **evidence: Any) -> Verdict:
        """A verdict in this gate's name. Numbers that are not finite become ``None``: JSON has none of them."""
        plain = (_finite(value), _finite(limit), _finite(evidence))
        return Verdict(self.name, self.phase, answer, why, *plain, essential=self.essential)

    @classmethod
    def off(cls, why: str = "switched off in gates.yaml") -> Verdict:
        """What the report shows for a gate that was asked nothing."""
        return Verdict(cls.name, cls.phase, "off", why, essential=cls.essential)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
