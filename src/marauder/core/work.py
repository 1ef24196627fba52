"""Work that is done once: a folder is claimed, what the result is made from is recorded, and a marker, written last,
seals what it left. The same call finds it done; with other inputs, or a damaged file, it is done again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, fingerprint, hash_file, read_json, write_json
from marauder.core.plain import Plain, PlainMapping

FORMAT = 2


@dataclass(frozen=True)
class Work:
    """A piece of work. ``marker``: the file that says it is done; ``made_from``: all that decides its result.

    What it leaves lies below the marker's folder.
    """

    marker: Path
    made_from: Any

    @property
    def key(self) -> str:
        """Equal for work with the same result."""
        return fingerprint(self.made_from)

    def done(self) -> Plain | None:
        """The ``about`` given to ``finish``, if it was this very work and every file is whole; else ``None``."""
        state = _read(self.marker)
        if state is None or not state.get("complete") or state.get("key") != self.key:
            return None
        files = state.get("files", {})
        whole = all(
            (self.marker.parent / name).is_file() and hash_file(self.marker.parent / name) == known
            for name, known in files.items()
        )
        return dict(state["about"]) if whole else None

    def sealed(self) -> dict[str, str]:
        """SHA-256 by name of the files that the last finished work left, whatever it was made from."""
        state = _read(self.marker)
        return dict(state.get("files", {})) if state is not None else {}

    def begin(self) -> None:
        """Record that it is under way: the folder is claimed, and what was done before no longer counts."""
        write_json(self.marker, {"format": FORMAT, "complete": False})

    def finish(self, files: Iterable[Path] = (), about: PlainMapping | None = None) -> None:
        """Seal ``files`` and say that it is done; ``about``: plain values that ``done`` gives back."""
        sealed = {path.relative_to(self.marker.parent).as_posix(): hash_file(path) for path in files}
        state = {"format": FORMAT, "complete": True, "key": self.key, "files": sealed, "about": dict(about or {})}
        # Only now, when all files are hashed: a kill before it leaves the work undone, never half done.
        write_json(self.marker, state)


def claim(folder: Path, marker: Path, what: str, ours: Collection[str] = ()) -> None:
    """Refuse a folder that holds somebody else's files: one that is not empty and has no ``marker``.

    ``ours``: names that may be there without it, as hidden ones may. ``what``: the work in a word. Raises
    ``UserError``.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder for the {what}")
    if not folder.is_dir() or marker.is_file():
        return
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    strangers = ", ".join([name for name in names if name not in ours][:3])
    if strangers:
        raise UserError(f"{folder}: is not empty and holds no {what} ({strangers} …); name another folder")


def _read(marker: Path) -> Plain | None:
    try:
        content = read_json(marker) if marker.is_file() else None
    except DamagedFileError:
        return None  # it is done again
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None
