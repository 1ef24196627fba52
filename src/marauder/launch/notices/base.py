"""The notice plug point: asked now and then whether this machine is about to be taken away."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any


class NoticeSource(ABC):
    """One place that tells of an interruption ahead."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @abstractmethod
    def poll(self) -> str | None:
        """Why this machine goes away soon, or ``None``. Takes a second at most; a source out of reach says ``None``."""
