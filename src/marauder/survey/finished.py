"""What the last finished call made, so that no later one destroys it in silence: hand corrections, formats, inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

from marauder.core.errors import UserError, printable
from marauder.core.files import DamagedFileError, hash_file, located_path, portable_path, read_json, write_json
from marauder.data.media_files import MediaFile
from marauder.survey.detecting import file_identity
from marauder.survey.settings import PACKAGES, VIAME
from marauder.survey.tables import MAX_N_FILE

FILE = "finished.json"
EDITABLE = (*PACKAGES, VIAME, MAX_N_FILE)
"""Where people correct by hand what was found."""
TOLD = 3
"""Files that an error names."""


@dataclass(frozen=True)
class Finished:
    """A finished call. ``settings``: fingerprint of the model and all settings but the formats. ``inputs``: the words,
    as paths from the output folder; ``files``: size and time of change of each, by such a path. ``sealed``: SHA-256 of
    the files that people may edit, by name; empty once a call has begun to write others."""

    settings: str
    formats: tuple[str, ...]
    inputs: tuple[str, ...]
    files: dict[str, list[int]]
    sealed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, output: Path, settings: str, formats: Sequence[str], words: Sequence[str], files: Iterable[MediaFile]
    ) -> Finished:
        """A call that is about to begin. Paths are relative, so that inputs and output can move together."""
        root = output.resolve()

        def told(path: str | Path) -> str:
            # A link may lead to itself, which resolve() refuses, and a name may be no text.
            return printable(portable_path(Path(os.path.realpath(path)), root))

        stamps = {told(media.path): file_identity(media)[1:] for media in files}
        return cls(settings, tuple(formats), tuple(map(told, words)), stamps)

    @classmethod
    def read(cls, state: Path) -> Finished | None:
        """The last finished call of an output; ``None`` where there is none."""
        try:
            content = read_json(state / FILE)
        except (FileNotFoundError, DamagedFileError):
            return None
        return cls(**{**content, "formats": tuple(content["formats"]), "inputs": tuple(content["inputs"])})

    def write(self, state: Path) -> None:
        """Note it in the folder ``state``."""
        write_json(state / FILE, asdict(self))

    def with_sealed(self, output: Path, paths: Iterable[Path]) -> Finished:
        """With the content of those of ``paths`` that people may edit. Links lead to the user's own pictures."""
        names = {path.relative_to(output).as_posix(): path for path in sorted(paths) if not path.is_symlink()}
        return replace(self, sealed={name: hash_file(path) for name, path in names.items() if editable(name)})

    def refuse_other_inputs(self, output: Path, now: Finished) -> None:
        """Raise ``UserError`` where ``now`` leaves out what this call looked at: its results would be gone.

        The same words are the same inputs while any file of them is left: pictures may be taken out of a folder.
        """
        known = set(map(tuple, now.files.values()))
        left = [path in now.files or tuple(stamp) in known for path, stamp in self.files.items()]
        if all(left) or (any(left) and set(self.inputs) <= set(now.inputs)):
            return
        told = ", ".join(str(located_path(one, output.resolve())) for one in self.inputs[:TOLD])
        raise UserError(
            f"{output}: holds results of other inputs ({told}), which are not named now; choose another --output, "
            "name those too, or replace their results with --fresh"
        )

    def formats_to_keep(self, now: Finished) -> tuple[str, ...]:
        """Formats of this call that ``now``, with the same model and settings, does not ask for."""
        same = now.settings == self.settings
        return tuple(name for name in self.formats if same and name not in now.formats)

    def give_way(self, state: Path, now: Finished | None) -> None:
        """The call ``now`` has begun (``None``: one that starts over). What it changes cannot be told from edits."""
        if now is None or now.settings != self.settings:
            (state / FILE).unlink(missing_ok=True)
        elif now.files != self.files:
            replace(self, sealed={}).write(state)


def editable(name: str) -> bool:
    """Whether a file of the output, by its name from there, is one that people correct by hand."""
    return PurePosixPath(name).parts[0] in EDITABLE


def refuse_edited(output: Path, sealed: dict[str, str]) -> None:
    """Raise ``UserError`` where files that people may edit are no longer as they were written; some may be gone."""
    edited = [
        name
        for name, known in sealed.items()
        if editable(name) and (output / name).is_file() and hash_file(output / name) != known
    ]
    if edited:
        more = f" and {len(edited) - TOLD:,} more" if len(edited) > TOLD else ""
        raise UserError(
            f"{output}: would replace files that were edited ({', '.join(edited[:TOLD])}{more}); "
            "choose another --output, or replace them with --fresh"
        )
