"""Settings of the places that checkpoints are mirrored to."""

from __future__ import annotations

from pydantic import Field

from marauder.core.settings import Settings


class TierSettings(Settings):
    """One place beyond the local disk."""

    address: str = Field(min_length=1, description="a folder, file:///folder or s3://bucket/prefix")
    seconds: float = Field(600.0, ge=0, description="least time between the starts of two copies")
    keep: int = Field(2, ge=1, description="how many checkpoints stay there")


class CheckpointTiers(Settings):
    """Where checkpoints go from the local disk. ``None``: not there."""

    volume: TierSettings | None = Field(None, description="a fast volume that outlives the machine")
    store: TierSettings | None = Field(None, description="an object store that outlives the volume")
