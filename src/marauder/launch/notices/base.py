"""The notice plug point: asked now and then whether this machine is about to be taken away."""

from __future__ import annotations

from abc import ABC, abstractmethod

from marauder.core.plugins import Plugin
from marauder.core.settings import Settings


class NoticeSource(Plugin[Settings], ABC):
    """One place that tells of an interruption ahead."""

    @abstractmethod
    def poll(self) -> str | None:
        """Why this machine is about to go away, or ``None``. Takes a second at most; out of reach: ``None``."""
