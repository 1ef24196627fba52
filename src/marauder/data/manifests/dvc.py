"""DVC's part in pinning: pull data that are missing, and say at which tag, commit and hashes they stand.

The ``dvc`` and ``git`` commands are called, never imported; nothing that is checked out is changed. What a ``.dvc``
file or a ``dvc.lock`` says of an output is DVC's own hash: the MD5 of a file, or that of a folder's listing (".dir").
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.data.manifests.format import local_path
from marauder.data.manifests.rows import is_manifest, manifest_rows
from marauder.data.manifests.spec import DatasetSpec

LOCK_FILE = "dvc.lock"


@dataclass(frozen=True)
class Output:
    """A file or folder that DVC keeps. ``file``: the .dvc file or dvc.lock that says so; ``md5``: DVC's hash."""

    path: Path
    file: Path
    md5: str | None
    size: int | None
    count: int | None


def fetch_and_resolve(spec: DatasetSpec, spec_file: Path) -> Plain:
    """Pull what the spec names and is not here; then the provenance of all of it that DVC keeps.

    The result has ``rev`` (commit), ``tag``, and ``outputs``, each with ``path`` and ``file`` relative to the
    repository, ``md5``, ``size`` in bytes, ``files``, ``state``: ``same`` as recorded, ``modified``, or ``unverified``
    (not in DVC's cache). No address of a remote is in it.

    Raises ``UserError``: no repository, no such revision, a command missing or failing, data that are not those of the
    asked revision.
    """
    if spec.dvc is None:
        raise ValueError("the spec names no DVC repository")
    repository = Repository(spec.dvc.repo, spec.dvc.rev)
    named = [*spec.sources().values(), spec.unlabelled, spec.slices]
    files = [file for file in named if file is not None]
    outputs = repository.fetch(files)
    for pictures in _pictures(spec):
        outputs |= repository.fetch(pictures)
    if not outputs:
        raise UserError(
            f"{spec_file}: dvc: nothing that it names is kept by DVC in {repository.root}; run `dvc add` on the data, "
            "or leave dvc: out"
        )
    return repository.provenance(sorted(outputs.values(), key=lambda output: output.path))


def _pictures(spec: DatasetSpec) -> Iterable[list[Path]]:
    """Where the pictures of each manifest lie; other sources are folders that DVC keeps whole."""
    for manifest in [*spec.sources().values(), spec.unlabelled]:
        if manifest is not None and is_manifest(manifest):
            rows = manifest_rows(manifest, [], spec.label)
            places = (local_path(row.source, manifest.parent, spec.uris) for _, row in rows)
            yield [place for place in places if place is not None]


class Repository:
    """A folder under git and DVC, looked at through its files and the two commands.

    ``revision``: a tag, branch or commit that the data must stand at; ``None``: what is checked out.
    """

    def __init__(self, root: Path, revision: str | None) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - links stay as they are
        self.revision = revision
        if not (self.root / ".dvc").is_dir():
            raise UserError(f"{root}: no DVC repository (no folder .dvc in it); correct dvc: repo: in dataset.yaml")
        self._known: dict[Path, dict[Path, Output]] = {}

    def fetch(self, paths: Sequence[Path]) -> dict[Path, Output]:
        """The outputs that hold ``paths``; those of which a path is not here are pulled."""
        wanted: dict[Path, Output] = {}
        missing: dict[Path, Output] = {}
        for path in paths:
            output = self.output_of(path)
            if output is not None:
                wanted[output.path] = output
                if output.path not in missing and not path.exists():
                    missing[output.path] = output
        if missing:
            names = [self._relative(output.path) for output in missing.values()]
            print(f"dvc pull {' '.join(names)}", file=sys.stderr)
            self._call("dvc", "pull", "--quiet", *names)
        return wanted

    def output_of(self, path: Path) -> Output | None:
        """The output that is ``path`` or holds it."""
        place = Path(os.path.abspath(path))  # noqa: PTH100
        while place != self.root and place.is_relative_to(self.root):
            # A dvc.lock, or a .dvc file with a wdir, may stand in any folder above what it names.
            for folder in (place.parent, *self._above(place.parent)):
                found = self._outputs_in(folder).get(place)
                if found is not None:
                    return found
            place = place.parent
        return None

    def provenance(self, outputs: Sequence[Output]) -> Plain:
        """See ``fetch_and_resolve``."""
        commit, tag = self._commit()
        if commit is not None:
            self._require_revision(outputs, commit)
        states = self._states(outputs)
        modified = [output.path for output in outputs if states[output.path] == "modified"]
        if self.revision is not None and modified:
            names = ", ".join(self._relative(path) for path in modified)
            raise UserError(
                f"{self.root}: {names} is not what {self.revision} recorded; run `dvc checkout {names}`, "
                "or record it again with `dvc add` and a new tag"
            )
        rows = [
            {
                "path": self._relative(output.path),
                "file": self._relative(output.file),
                "md5": output.md5,
                "size": output.size,
                "files": output.count,
                "state": states[output.path],
            }
            for output in outputs
        ]
        return {"rev": commit, "tag": tag, "outputs": rows}

    def _above(self, folder: Path) -> list[Path]:
        return [parent for parent in folder.parents if parent.is_relative_to(self.root)]

    def _outputs_in(self, folder: Path) -> dict[Path, Output]:
        """Outputs that the DVC files of one folder tell of, by path."""
        if folder not in self._known:
            files = [*sorted(folder.glob("*.dvc")), folder / LOCK_FILE] if folder.is_dir() else []
            texts = {file: file.read_text(encoding="utf-8") for file in files if file.is_file()}
            self._known[folder] = {
                output.path: output for file, text in texts.items() for output in _outputs(file, text, self.root)
            }
        return self._known[folder]

    def _commit(self) -> tuple[str | None, str | None]:
        """Commit and tag that the data must stand at; nothing of both without git."""
        if self._try("git", "rev-parse", "--git-dir") is None:
            if self.revision is not None:
                raise UserError(
                    f"{self.root}: not under git, so it has no revision {self.revision!r}; leave dvc: rev: out"
                )
            return None, None
        name = self.revision or "HEAD"
        # --end-of-options: a revision that begins with a dash must not become an option.
        commit = self._try("git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if commit is None:
            raise UserError(
                f"{self.root}: git knows no revision {name!r}; fetch it (git fetch --tags), or correct dvc: rev:"
            )
        tags = (self._try("git", "tag", "--points-at", commit) or "").split()
        return commit, self.revision if self.revision in tags else next(iter(tags), None)

    def _require_revision(self, outputs: Sequence[Output], commit: str) -> None:
        """Raise ``UserError`` when a hash that is checked out is not that of the asked revision."""
        if self.revision is None:
            return
        for file in dict.fromkeys(output.file for output in outputs):
            # "./": relative to this folder, which need not be the root of the git repository.
            text = self._try("git", "show", f"{commit}:./{self._relative(file)}")
            then = {output.path: output.md5 for output in _outputs(file, text or "", self.root)}
            for output in outputs:
                if output.file == file and then.get(output.path) != output.md5:
                    name = self._relative(output.path)
                    raise UserError(
                        f"{file}: {name} is checked out at {output.md5}, {self.revision} has "
                        f"{then.get(output.path) or 'none of it'}; run `git checkout {self.revision}` and "
                        f"`dvc checkout` in {self.root}, or correct dvc: rev: in dataset.yaml"
                    )

    def _states(self, outputs: Sequence[Output]) -> dict[Path, str]:
        names = {self._relative(output.path): output.path for output in outputs}
        content = json.loads(self._call("dvc", "status", "--json", *names) or "{}")
        states = dict.fromkeys(names.values(), "same")
        for changes in content.values():
            for change in changes:
                for name, state in change.get("changed outs", {}).items() if isinstance(change, dict) else ():
                    path = next((place for short, place in names.items() if short == name), None)
                    if path is not None:
                        states[path] = "unverified" if state == "not in cache" else "modified"
        return states

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.root)).as_posix()

    def _call(self, program: str, *words: str) -> str:
        done = self._run(program, *words)
        if done.returncode != 0:
            told = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-6:])
            raise UserError(f"`{program} {' '.join(words)}` failed in {self.root}:\n  {told}")
        return done.stdout.strip()

    def _try(self, program: str, *words: str) -> str | None:
        done = self._run(program, *words)
        return done.stdout.strip() if done.returncode == 0 else None

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        # The one installed in this environment, whose bin folder need not be on the PATH.
        beside = Path(sys.executable).with_name(program)
        command = shutil.which(program) or (str(beside) if beside.is_file() else None)
        if command is None:
            remedy = "pip install dvc" if program == "dvc" else "install git"
            raise UserError(
                f"dataset.yaml requires DVC, but there is no `{program}` command; {remedy}, or leave dvc: out"
            )
        # No input: a remote that asks for a password must fail and not wait for an answer.
        return subprocess.run(
            [command, *words],
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        )


def _outputs(file: Path, text: str, root: Path) -> list[Output]:
    """Outputs that a .dvc file or a dvc.lock tells of; those outside ``root`` do not count."""
    try:
        content = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML ({error}); restore it: git checkout -- {file.name}") from None
    content = content if isinstance(content, dict) else {}
    entries: list[tuple[Any, Path]] = []
    if file.name == LOCK_FILE:
        stages = content.get("stages")
        for stage in stages.values() if isinstance(stages, dict) else ():
            entries += [(entry, file.parent) for entry in stage.get("outs", ())]
    else:
        folder = file.parent / str(content.get("wdir", "."))
        entries = [(entry, folder) for entry in content.get("outs", ())]
    found = []
    for entry, folder in entries:
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            path = Path(os.path.abspath(folder / entry["path"]))  # noqa: PTH100
            if path.is_relative_to(root):
                found.append(Output(path, file, entry.get("md5"), entry.get("size"), entry.get("nfiles")))
    return found
