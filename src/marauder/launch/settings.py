"""Settings of interruption notices: which sources are asked whether this machine is about to be taken away."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from marauder.core.settings import Settings


class NoticeSettings(Settings):
    """``sources``: of file, ec2; ``options`` by source; ``seconds`` between two questions."""

    sources: tuple[str, ...] = ()
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seconds: float = Field(5.0, gt=0)
