"""Settings of tracking: which trackers follow a run, and where they write."""

from __future__ import annotations

from pydantic import Field, field_validator

from marauder.core.plain import Plain
from marauder.core.plugins import check_names
from marauder.core.settings import Settings


class TrackingSettings(Settings):
    """``trackers``: of files, mlflow, wandb; ``options``: by tracker's name, what it alone needs."""

    trackers: tuple[str, ...] = ("files", "mlflow")
    options: dict[str, Plain] = Field(default_factory=dict)
    finish_seconds: float = Field(60.0, ge=0, description="how long the end of a run waits for slow trackers")

    @field_validator("trackers")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return check_names("tracker", "tracker", value)
