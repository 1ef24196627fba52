"""The tracker that needs nothing: CSV, JSON and pictures under ``<run>/tracking/files``, for a spreadsheet or a script.

``metrics.csv`` has a row per step and a column per number; where a resumed run repeats a step, its later numbers
count. ``config.json``, ``tags.json`` and ``status.json`` are what the run was, ``artifacts.json`` lists its files.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.core.files import atomic_path, read_json, write_json
from marauder.core.plain import Plain
from marauder.tracking.base import Tracker
from marauder.tracking.records import relative_path, safe_name, tracking_folder

FOLDER = "files"
LEADING = ("step", "time")


class FilesTracker(Tracker):
    """Writes plain files. It has no options."""

    name = "files"
    title = "CSV, JSON and pictures in the run's folder"

    def open(self) -> None:
        """Read what an earlier process wrote, unless the run started over since; write config, tags and status."""
        self.folder = tracking_folder(self.run.folder) / FOLDER
        self.rows: dict[int, dict[str, str]] = {}
        self.changed = False
        if self._read("status.json").get("generation", self.run.generation) != self.run.generation:
            shutil.rmtree(self.folder)
        write_json(self.folder / "config.json", self.run.config)
        self.set_tags(self.run.tags)
        self._write_status("running")
        metrics = self.folder / "metrics.csv"
        if metrics.exists():
            with metrics.open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    # An empty cell is a number that the step does not have; kept, it would come back as one.
                    self.rows[int(row["step"])] = {name: value for name, value in row.items() if value != ""}

    def log_metrics(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Into the row of the step; written by ``flush``."""
        row = self.rows.setdefault(step, {"step": str(step)})
        # repr is the shortest text that gives the same float back.
        row.update({"time": f"{time:.3f}", **{name: repr(value) for name, value in values.items()}})
        self.changed = True

    def log_figure(self, name: str, path: Path, step: int) -> None:
        """Copied to ``figures/<name>_<step>``."""
        target = self.folder / "figures" / f"{safe_name(name)}_{step:08d}{path.suffix.lower()}"
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)

    def log_curve(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
        """Written to ``curves/<name>.csv``."""
        self._write_table(self.folder / "curves" / f"{safe_name(name)}.csv", columns, rows)

    def log_artifact(self, path: Path, kind: str) -> None:
        """Noted in ``artifacts.json``: the file itself lies in the run's folder already."""
        listed = self._read("artifacts.json")
        listed[relative_path(self.run.folder, path)] = {"kind": kind, "bytes": path.stat().st_size}
        write_json(self.folder / "artifacts.json", listed)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Into ``tags.json``."""
        write_json(self.folder / "tags.json", self._read("tags.json") | dict(tags))

    def flush(self) -> None:
        """Write ``metrics.csv``."""
        if self.changed:
            names = sorted({name for row in self.rows.values() for name in row} - set(LEADING))
            columns = [*LEADING, *names]
            # The whole table each time: a resumed run may change any row, and new names add columns.
            rows = [[row.get(name, "") for name in columns] for _, row in sorted(self.rows.items())]
            self._write_table(self.folder / "metrics.csv", columns, rows)
            self.changed = False

    def finish(self, status: str) -> None:
        """Write what is left, and how it ended."""
        self.flush()
        self._write_status(status)

    def _write_status(self, status: str) -> None:
        about = {"project": self.run.project, "run_id": self.run.run_id, "generation": self.run.generation}
        write_json(self.folder / "status.json", {**about, "status": status, "changed": time.time()})

    def _read(self, name: str) -> Plain:
        path = self.folder / name
        return dict(read_json(path)) if path.exists() else {}

    @staticmethod
    def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(rows)
