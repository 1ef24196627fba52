"""Settings of launching: which notices of an interruption ahead a run listens to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from marauder.core.plain import Plain
from marauder.core.plugins import known_as
from marauder.core.settings import Settings


class NoticeSettings(Settings):
    """``sources``: of file, ec2; ``options``: by source's name, what it alone needs (see ``docs/interruptions.md``)."""

    sources: Annotated[tuple[str, ...], known_as("notice", "notice")] = ()
    options: dict[str, Plain] = Field(default_factory=dict)
    seconds: float = Field(5.0, gt=0, description="between two checks; a spot instance gets two minutes' notice")

    @model_validator(mode="after")
    def _no_options_for_nothing(self) -> NoticeSettings:
        for name in self.options:
            if name not in self.sources:
                raise ValueError(
                    f"options for {name!r}, which is not among sources: {', '.join(self.sources) or 'none'}"
                )
        return self
