"""Settings of tracking: which trackers follow a run, and where they write."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from marauder.core.plain import Plain
from marauder.core.plugins import known_as
from marauder.core.settings import Settings


class TrackingSettings(Settings):
    """``trackers``: of files, mlflow, wandb; ``options``: by tracker's name, what it alone needs."""

    trackers: Annotated[tuple[str, ...], known_as("tracker", "tracker")] = ("files", "mlflow")
    options: dict[str, Plain] = Field(default_factory=dict)
    finish_seconds: float = Field(60.0, ge=0, description="how long the end of a run waits for slow trackers")
