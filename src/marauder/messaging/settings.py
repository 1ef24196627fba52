"""Settings of events: which sinks get a run's CloudEvents."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from marauder.core.plain import Plain
from marauder.core.plugins import known_as, make
from marauder.core.settings import Settings


class EventSettings(Settings):
    """The JSONL outbox of a run is always written; ``sinks`` deliver from it. ``options`` by sink's name."""

    sinks: Annotated[tuple[str, ...], known_as("sink", "sink")] = ()
    options: dict[str, Plain] = Field(default_factory=dict)
    source: str = Field("marauder", description="the CloudEvents source: who speaks")
    finish_seconds: float = Field(20.0, ge=0, description="how long the end of a run waits for slow sinks")

    def make_sink(self, name: str) -> Any:
        """The sink ``name``. Raises ``UserError`` where its options do not fit, or its secret is missing."""
        return make("sink", name, self.options.get(name), f"events.options.{name}")
