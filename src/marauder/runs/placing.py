"""Which run it is: its id and folder, made from what decides its result, and the gates it is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marauder.core.files import fingerprint, hash_file
from marauder.data.manifests.pinning import DataPin
from marauder.runs.settings import RunSettings


def placed(settings: RunSettings, pinned: DataPin) -> RunSettings:
    """``settings`` with the run's id and folder made from what decides its result, where none is given."""
    if settings.output is not None:
        name = settings.id or settings.output.resolve().name
        return settings.model_copy(update={"id": name})
    if settings.id is not None:
        return settings.model_copy(update={"output": settings.runs / settings.id})
    decides = [
        settings.described(), settings.training.deciding(), settings.training.epochs, pinned.fingerprint,
        *(hash_file(path) if path and path.is_file() else None for path in settings.starts()),
    ]  # fmt: skip
    stem = Path(settings.recipe).stem if settings.recipe else settings.title
    name = f"{stem}-{fingerprint(decides)[:8]}"
    return settings.model_copy(update={"id": name, "output": settings.runs / name})


def gate_overrides(given: Mapping[str, Any]) -> list[str]:
    """The section ``gate`` of the settings as dotted overrides of gates.yaml."""
    words = []
    for name, value in given.items():
        if isinstance(value, Mapping):
            words += [f"{name}.{key}={json.dumps(inner)}" for key, inner in value.items()]
        else:
            words.append(f"{name}={json.dumps(value)}")
    return words
