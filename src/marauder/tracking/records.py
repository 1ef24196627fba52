"""The records of a run's tracking journal: where it lies, how numbers and paths stand in it, what a start holds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.plain import PlainMapping
from marauder.delivery.journal import Journal
from marauder.tracking.base import TrackedRun

START = "start"
FINISHES = ("finished", "failed", "interrupted")


@dataclass(frozen=True)
class Start:
    """A start record, read back: the run, which trackers follow it with which options.

    ``first`` is the number of the record that its generation begins with.
    """

    run: TrackedRun
    trackers: tuple[str, ...]
    options: Mapping[str, PlainMapping]
    finish_seconds: float
    first: int = 1


def tracking_folder(run_folder: Path) -> Path:
    """Where the journal, cursors and logs of a run's trackers lie."""
    return run_folder / "tracking"


def journal_of(run_folder: Path) -> Path:
    """The tracking journal of a run."""
    return tracking_folder(run_folder) / "journal.jsonl"


def latest_start(journal: Journal, run_folder: Path) -> Start | None:
    """The newest start of a run, ``None`` where it never started; the folder is where the run lies now."""
    starts = [record for record in journal.read_after(0) if record["kind"] == START]
    if not starts:
        return None
    last = starts[-1]
    first = next(record[journal.key] for record in starts if record["generation"] == last["generation"])
    run = TrackedRun(
        last["project"], last["run_id"], run_folder, last["config"], last["tags"], generation=last["generation"]
    )
    return Start(run, tuple(last["trackers"]), last["options"], float(last["finish_seconds"]), first)


def encode_number(value: Any) -> float | str:
    """A number as JSON has it: one that is not finite becomes the word ``nan``, ``inf`` or ``-inf``."""
    number = float(value)
    return number if math.isfinite(number) else str(number)


def decode_cell(value: float | str) -> float | str:
    """A number or word of a table, as it was before ``encode_number``."""
    return float(value) if value in ("nan", "inf", "-inf") else value


def relative_path(run_folder: Path, path: Path) -> str:
    """A path as the journal has it: relative to the run's folder where it lies inside, so that runs can move."""
    absolute, root = path.absolute(), run_folder.absolute()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def flatten(config: PlainMapping, prefix: str = "") -> dict[str, str]:
    """Settings as one level of dotted keys; lists become words in brackets."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def safe_name(name: str) -> str:
    """A name as a relative path: letters, digits and ``._-`` in each part, no part that leads elsewhere."""
    parts = [re.sub(r"[^\w.\-]+", "_", part) for part in name.split("/")]
    return "/".join(part for part in parts if part.strip(".")) or "unnamed"
