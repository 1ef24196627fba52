"""The sink plug point: delivers CloudEvents somewhere, at least once: receivers have to drop ids they have seen."""

from __future__ import annotations

from abc import ABC, abstractmethod

from marauder.core.plain import PlainMapping
from marauder.core.plugins import Plugin
from marauder.core.settings import Settings


class DeliveryError(Exception):
    """An event was not delivered. ``final``: trying again cannot help (the receiver refuses this very event)."""

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Sink(Plugin[Settings], ABC):
    """A place that events go to."""

    @abstractmethod
    def deliver(self, event: PlainMapping) -> None:
        """Deliver one CloudEvent (structured JSON form). Raises ``DeliveryError``; returns only when it arrived."""
