"""Which run it is: its id and folder, made from what decides its result."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TypeVar

from marauder.core.decides import decided
from marauder.core.files import fingerprint
from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import Decides
from marauder.data.manifests.pinning import DataPin
from marauder.runs.settings import RunSettings

AnyRun = TypeVar("AnyRun", bound=RunSettings)


def with_run_id(settings: AnyRun, pinned: DataPin) -> AnyRun:
    """``settings`` with the run's id and folder made from what decides its result, where none is given."""
    if settings.output is not None:
        return settings.changed({"id": settings.id or run_name(settings.output.resolve().name)})
    if settings.id is not None:
        return settings.changed({"output": settings.runs / settings.id})
    # Neither gates nor places: the same training under other gates is the same run.
    decides = [decided(settings, Decides.RESULT, Decides.LENGTH), pinned.fingerprint]
    stem = Path(settings.recipe).stem if settings.recipe else settings.title
    name = f"{run_name(stem)[:54]}-{fingerprint(decides)[:8]}"
    return settings.changed({"id": name, "output": settings.runs / name})


def run_name(text: str) -> str:
    """A run's id for a folder or a recipe of any name: the name itself where it can be one, else what of it can, and a
    part of its fingerprint, so that two names stay two."""
    if re.fullmatch(NAME_PATTERN, text):
        return text
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-")[:50] or "run"
    return f"{kept}-{fingerprint(text)[:6]}"
