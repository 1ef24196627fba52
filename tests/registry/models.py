"""Registries as small as can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marauder.registry.opening import open_registry
from marauder.registry.settings import RegistrySettings


def made(folder: Path, kind: str, **options: Any) -> Any:
    """A registry of a kind, for runs in ``folder/runs``."""
    registry = open_registry(RegistrySettings(kind=kind, options=options), folder / "runs")
    assert registry is not None
    return registry
