"""The notice plug point: asked now and then whether this machine is about to be taken away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from marauder.core.settings import AnySettings, load_settings


class NoticeSource(ABC):
    """One place that tells of an interruption ahead."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @abstractmethod
    def poll(self) -> str | None:
        """Why this machine goes away soon, or ``None``. Takes a second at most; a source out of reach says ``None``."""


def read_options(model: type[AnySettings], name: str, options: Mapping[str, Any]) -> AnySettings:
    """The options of the source ``name`` as ``model``. Raises ``UserError`` that lists every mistake."""
    places = {key: f"notices.options.{name}.{key}" for key in [*model.model_fields, *options]}
    return load_settings(model, None, (), places, **options)
