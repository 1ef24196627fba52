"""The journal of finished files: what was made of which input under which settings, so that nothing is done twice."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

from marauder.core.files import append_line, read_lines, to_plain, write_text
from marauder.core.locks import exclusive
from marauder.core.plain import Plain

REPORT_FOLDER = "preprocessing"
JOURNAL_NAME = ".journal.jsonl"
LOCK_NAME = ".lock"
REPORT_NAMES = ("measurements.jsonl", "summary.json", "report.html")


class Journal:
    """One line for each finished file in ``<output>/preprocessing/.journal.jsonl``; the last line of a path counts.

    A line holds ``path``, ``fingerprint`` (of recipe and kind), ``source`` and ``output`` ([size, time of change] or
    ``None`` when nothing was written) and ``result``. A file counts as finished when recipe, source and output are
    still as the line says; to find out, only the folders' entries are read.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output / REPORT_FOLDER / JOURNAL_NAME
        self.entries: dict[str, Plain] = {}
        for entry in read_lines(self.path):
            if isinstance(entry, dict) and isinstance(entry.get("path"), str) and "result" in entry:
                self.entries[entry["path"]] = entry

    @staticmethod
    def stands_in(folder: Path) -> bool:
        """Whether ``folder`` is the output of an earlier run."""
        return (folder / REPORT_FOLDER / JOURNAL_NAME).exists()

    def begin(self, fresh: bool = False) -> None:
        """Mark the folder as ours before the first file is written, so that a kill in between is recognised.

        ``fresh`` first deletes what earlier runs wrote and that is still as they left it.
        """
        if fresh:
            self.forget_missing(set())
            for name in REPORT_NAMES:
                (self.path.parent / name).unlink(missing_ok=True)
        if fresh or not self.path.exists():
            write_text(self.path, "")

    def finished(self, path: str, fingerprint: str, source: list[int]) -> Plain | None:
        """The result of a file that is finished and unchanged, else ``None``."""
        entry = self.entries.get(path)
        if entry is None or entry.get("fingerprint") != fingerprint or entry.get("source") != source:
            return None
        if entry["output"] != stamp_of(self.output / path):
            return None
        result: Plain = entry["result"]
        return result

    def record(self, path: str, fingerprint: str, source: list[int], output: list[int] | None, result: Plain) -> None:
        """Note a file as finished."""
        entry = {
            "path": path,
            "fingerprint": fingerprint,
            "source": source,
            "output": output,
            "result": result,
        }
        # The output is in place: a kill before this line means only that the file is done again.
        append_line(self.path, entry)
        self.entries[path] = entry

    def forget_missing(self, present: set[str]) -> int:
        """Delete outputs whose input is gone, if they are still as we wrote them; returns how many."""
        count = 0
        for path in sorted(set(self.entries) - present):
            target = self.output / path
            written = self.entries.pop(path)["output"]
            if written is not None and written == stamp_of(target):
                target.unlink()
                count += 1
        return count

    def compact(self) -> None:
        """Rewrite the journal with one line for each file, sorted by path."""
        # By path, so that the journal does not tell how often the work was interrupted.
        lines = [json.dumps(to_plain(self.entries[path]), ensure_ascii=False) for path in sorted(self.entries)]
        write_text(self.path, "".join(f"{line}\n" for line in lines))


def stamp_of(path: Path) -> list[int] | None:
    """Size and time of change (ns) of a file, ``None`` if it does not exist."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [status.st_size, status.st_mtime_ns]


def locked(output: Path) -> AbstractContextManager[None]:
    """Hold the output folder for one process; a second one gets a ``UserError``. The lock ends with its process."""
    return exclusive(output / REPORT_FOLDER / LOCK_NAME, f"{output}")
