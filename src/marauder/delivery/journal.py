"""A durable journal of numbered records, one JSON line each, and cursors of those who follow it.

Appending is one write of a whole line. A line that a kill cut short is closed off and never read; numbers continue
after the last whole record. Any number of threads and processes may append and read.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from marauder.core.files import DamagedFileError, flush_directory, read_json, to_plain, write_json, writing
from marauder.core.plain import Plain

NUMBER = "number"
BLOCK = 1 << 16


class Journal:
    """The file ``path``. ``key`` is the field with a record's number (from 1; an integer, or its digits as a string).

    ``durable``: an append is on the disk before it returns (some milliseconds); otherwise it survives the death of the
    process at once, and that of the machine after ``sync``.
    """

    def __init__(self, path: Path | str, key: str = NUMBER, durable: bool = False) -> None:
        self.path, self.key, self.durable = Path(path), key, durable
        self._appending, self._reading = threading.Lock(), threading.Lock()
        self._last: tuple[int, int] | None = None
        """Size of the file after this object's last append, and that record's number."""
        self._place: tuple[int, int] = (0, 0)
        """Number of the last record that this object read, and where in the file the next line starts."""

    def append(self, kind: str, **fields: Any) -> int:
        """Append a record of ``kind`` with ``fields`` (what ``core.files.to_plain`` takes); returns its number.

        Raises ``OSError`` where the file cannot be written (a full disk), naming it.
        """
        return self.append_made(lambda number: {self.key: number, "kind": kind, **fields})

    def append_made(self, make: Callable[[int], Plain]) -> int:
        """Append what ``make`` gives for the record's number, which it holds under ``key``; returns the number."""
        # A new name is durable only once its folder is flushed as well.
        created = not self.path.exists()
        if created:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._appending, writing(self.path), self.path.open("ab+", buffering=0) as stream:
            # flock and not lockf: closing another handle of the file in this process must not let go of it.
            fcntl.flock(stream, fcntl.LOCK_EX)
            size = stream.seek(0, os.SEEK_END)
            last, closed = self._end(stream, size)
            record = to_plain(make(last + 1))
            if _number(record, self.key) != last + 1:
                raise ValueError(f"the record must hold its number {last + 1} under {self.key!r}")
            line = (b"" if closed else b"\n") + json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            # A write that fails half-way leaves the end of the file unknown.
            self._last = None
            _write_all(stream, line)
            self._last = (size + len(line), last + 1)
            if self.durable:
                os.fsync(stream.fileno())
        if created and self.durable:
            flush_directory(self.path.parent)
        return last + 1

    def read_after(self, number: int) -> list[Plain]:
        """The whole records with a higher number, in order; asked again with rising ones, only new lines are read."""
        with self._reading:
            start = self._place[1] if self._place[0] <= number else 0
            try:
                with self.path.open("rb") as stream:
                    stream.seek(start)
                    content = stream.read()
            except FileNotFoundError:
                return []
            # What comes after the last line end may be a write under way; it is read next time.
            whole = content[: content.rfind(b"\n") + 1]
            records = [record for line in whole.split(b"\n") if (record := _parse(line, self.key)) is not None]
            wanted = [record for record in records if _number(record, self.key) > number]
            # Only what lies before the first wanted record is surely not asked for again.
            if not wanted:
                self._place = (_number(records[-1], self.key) if records else self._place[0], start + len(whole))
            return wanted

    def last_number(self) -> int:
        """Number of the last whole record; 0 where there is none."""
        try:
            with self.path.open("rb") as stream:
                return self._find_last(stream, stream.seek(0, os.SEEK_END))
        except FileNotFoundError:
            return 0

    def sync(self) -> None:
        """Bring to the disk what any process has appended so far."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                os.fsync(stream.fileno())
            flush_directory(self.path.parent)

    def _end(self, stream: IO[bytes], size: int) -> tuple[int, bool]:
        """Number of the last record, and whether its line is closed."""
        # Nobody else has appended since, so that the end need not be read.
        if self._last is not None and self._last[0] == size:
            return self._last[1], True
        if size == 0:
            return 0, True
        stream.seek(size - 1)
        closed = stream.read(1) == b"\n"
        return self._find_last(stream, size), closed

    def _find_last(self, stream: IO[bytes], size: int) -> int:
        """Number of the last record, read backwards in blocks; one whose newline alone is missing counts."""
        tail, start = b"", size
        while start > 0:
            step = min(BLOCK, start)
            start -= step
            stream.seek(start)
            tail = stream.read(step) + tail
            lines = tail.split(b"\n")
            # The first piece may begin in the middle of a line: the next block completes it.
            for line in reversed(lines if start == 0 else lines[1:]):
                record = _parse(line, self.key)
                if record is not None:
                    return _number(record, self.key)
        return 0


def _parse(line: bytes, key: str) -> Plain | None:
    """The record of a line, ``None`` for what is none: a line that was cut short, or zeros after a power cut."""
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return record if isinstance(record, dict) and _number(record, key) > 0 else None


def _number(record: Plain, key: str) -> int:
    value = record.get(key)
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    # A bool is an int to Python; ``true`` is no number of a record.
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _write_all(stream: IO[bytes], content: bytes) -> None:
    while content:
        # An unbuffered write may take less than it is given, on a disk that fills up.
        content = content[stream.write(content) :]


@dataclass
class Cursor:
    """How far a follower has come in a journal: a small file, replaced whole.

    ``delivered`` is the number of the last record that is safely where it belongs, ``failures`` counts attempts that
    failed, ``last_error`` is the latest of them (``None`` once a later one succeeded), ``refused`` lists records that
    cannot be delivered, as ``{"number", "error"}``.
    """

    path: Path
    delivered: int = 0
    failures: int = 0
    last_error: str | None = None
    refused: list[Plain] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Cursor:
        """The cursor as it was saved last, or a new one at 0."""
        if not path.exists():
            return cls(path)
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("delivered"), int):
            raise DamagedFileError(f"{path}: is not a cursor; delete it, and everything is delivered again")
        return cls(path, **{name: content[name] for name in _CURSOR_FIELDS if name in content})

    def save(self) -> None:
        """Write it to disk."""
        write_json(self.path, {name: value for name, value in asdict(self).items() if name in _CURSOR_FIELDS})


_CURSOR_FIELDS = ("delivered", "failures", "last_error", "refused")
