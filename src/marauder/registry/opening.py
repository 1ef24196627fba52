"""From settings to a registry."""

from __future__ import annotations

from pathlib import Path

from marauder.core.plugins import make
from marauder.registry.base import Registry
from marauder.registry.settings import RegistrySettings


def open_registry(settings: RegistrySettings, runs_folder: Path) -> Registry | None:
    """The registry that ``settings`` name, or ``None`` where the kind is ``none``.

    ``runs_folder``: registries without an address of their own lie in it. Raises ``UserError`` for a wrong option.
    """
    if settings.kind == "none":
        return None
    registry: Registry = make("registry", settings.kind, settings.options, "registry.options")
    registry.open(runs_folder)
    return registry
