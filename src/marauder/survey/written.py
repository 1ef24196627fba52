"""Names of the files in an output, told before they are written: what a killed call left is found and deleted, too."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from marauder.core.files import DamagedFileError, append_line, read_json, read_lines, write_json

FINISHED, UNFINISHED = "files.json", "files.jsonl"


class Written:
    """The files of ``output``, noted in the folder ``state``: those of the last finished call, and line by line those
    of calls that did not finish."""

    def __init__(self, output: Path, state: Path) -> None:
        self.output, self.finished, self.unfinished = output, state / FINISHED, state / UNFINISHED
        self.known = {*self._of_finished(), *read_lines(self.unfinished)}
        self.current: set[Path] = set()

    def announce(self, paths: Iterable[Path]) -> None:
        """Note files that this call is about to write, or finds written."""
        for path in paths:
            self.current.add(path)
            name = path.relative_to(self.output).as_posix()
            if name not in self.known:
                self.known.add(name)
                append_line(self.unfinished, name)

    def forget_others(self) -> None:
        """Delete what earlier calls wrote and this one has no place for, and the folders that are empty then."""
        # Names from the output folder: it may be moved between two calls.
        names = {path.relative_to(self.output).as_posix() for path in self.current}
        for name in sorted(self.known - names):
            path = self.output / name
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self.output or (folder.is_dir() and any(folder.iterdir())):
                    break
                with suppress(FileNotFoundError):
                    folder.rmdir()
        write_json(self.finished, sorted(names))
        self.unfinished.unlink(missing_ok=True)
        self.known = names

    def all_there(self) -> bool:
        """Whether every file of the last finished call is there; a link must lead to a file."""
        return all((self.output / name).is_file() for name in self._of_finished())

    def _of_finished(self) -> list[str]:
        try:
            return list(read_json(self.finished))
        except (FileNotFoundError, DamagedFileError):
            return []
