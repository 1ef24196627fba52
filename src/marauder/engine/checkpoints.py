"""Step checkpoints: a snapshot in memory, written in the background, verified when read. Only this file deletes them.

A checkpoint is ``checkpoint_<step>.pt`` (tensors and plain values, readable without unpickling code) and
``checkpoint_<step>.json`` (its SHA-256 and where in the training it was made), which is written last: without it the
first does not count. ``checkpoint_latest.pt`` is a second name of the newest.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from marauder.core.errors import UserError
from marauder.core.files import (
    DamagedFileError,
    atomic_path,
    flush_directory,
    hash_file,
    read_json,
    remove_leftovers,
    write_bytes,
    write_json,
)
from marauder.core.plain import Plain
from marauder.models.unreadable import UNREADABLE

LATEST = "checkpoint_latest.pt"
SET_ASIDE = "set_aside"
FORMER = "former"
"""Holds the checkpoints of the training before, while the one that starts over has not finished an epoch."""
log = logging.getLogger("marauder")


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint that was read and verified."""

    path: Path
    state: Plain


class Checkpointer:
    """Writes checkpoints into ``folder``, keeps the newest ``keep``, and finds the newest that is whole.

    ``written`` is called with path and step once one is whole on disk, in the thread that wrote it.
    """

    def __init__(self, folder: Path, keep: int = 2, written: Callable[[Path, int], None] | None = None) -> None:
        self.folder, self.keep, self.written = folder, keep, written
        self.saved_step: int | None = None
        self._writer: threading.Thread | None = None
        self._failure: BaseException | None = None

    def prepare(self, fresh: bool = False) -> None:
        """Make the folder and clear what killed writers left.

        ``fresh`` moves all checkpoints into the folder ``former``, which goes once the new training has done an epoch.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        if fresh:
            self._keep_former()

    def _keep_former(self) -> None:
        (self.folder / LATEST).unlink(missing_ok=True)
        former, moved = self.folder / FORMER, 0
        # The tensors last: killed in between, what is left here does not count as a checkpoint.
        for path in [*self.folder.glob("checkpoint_*.json"), *self.folder.glob("checkpoint_*.pt")]:
            if (former / path.name).exists():
                path.unlink()  # of an attempt that never got through an epoch: what was there before it is kept
                continue
            former.mkdir(exist_ok=True)
            path.replace(former / path.name)
            moved += 1
        if moved:
            log.warning(
                "starting over: the former checkpoints are in %s until the first epoch is done; to continue from "
                "them instead: --resume %s",
                former,
                former,
            )

    def save(self, state: Plain, step: int, about: Plain, wait: bool = False) -> None:
        """Snapshot ``state`` now and write it in the background; ``wait`` returns only when it is on disk.

        A write still under way is finished first. Raises what the last write failed with.
        """
        # One write at a time bounds the memory to one snapshot, and its failure comes up before the training goes on.
        self.finish()
        snapshot = _snapshot(state)
        # Not a daemon: an interpreter that exits waits for the write.
        self._writer = threading.Thread(target=self._write_guarded, args=(snapshot, step, about), name="checkpoint")
        self._writer.start()
        self.saved_step = step
        if wait:
            self.finish()

    def finish(self) -> None:
        """Wait for the write under way, if any, and raise what it failed with."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def newest(self) -> StoredCheckpoint | None:
        """The newest checkpoint that is whole. Damaged ones are passed over with a warning."""
        damaged = False
        # Steps are padded with zeros, so that names sort by step; the latest's second name has no description.
        for description in sorted(self.folder.glob("checkpoint_*.json"), reverse=True):
            try:
                return self._read_described(description)
            except DamagedFileError as error:
                damaged = True
                log.warning("%s; falling back to the checkpoint before it", error)
        if damaged:
            log.warning("%s: no intact checkpoint is left; starting from the beginning", self.folder)
        return None

    def set_aside_after(self, step: int) -> None:
        """Move checkpoints of later steps into the folder ``set_aside``: damaged ones, or those of a branch given up.

        What goes on from ``step`` would otherwise write checkpoints that look older than these.
        """
        # The leading 0 of a padded step leaves checkpoint_latest.pt alone.
        for path in [*self.folder.glob("checkpoint_0*.json"), *self.folder.glob("checkpoint_0*.pt")]:
            if int(path.stem.removeprefix("checkpoint_")) > step:
                (self.folder / SET_ASIDE).mkdir(exist_ok=True)
                path.replace(self.folder / SET_ASIDE / path.name)

    def read(self, path: Path) -> StoredCheckpoint:
        """Read the checkpoint a user named. Raises ``UserError`` when it is missing or damaged."""
        if path.is_dir():
            found = Checkpointer(path).newest()
            if found is None:
                raise UserError(f"{path}: holds no intact checkpoint; name a checkpoint file, or omit --resume")
            return found
        if not path.is_file():
            raise no_such_checkpoint(path, self.folder)
        try:
            description = path.with_suffix(".json")
            return self._read_described(description) if description.is_file() else StoredCheckpoint(path, _load(path))
        except DamagedFileError as error:
            raise UserError(f"{error}; name another checkpoint, or omit --resume") from None

    def _read_described(self, description: Path) -> StoredCheckpoint:
        path = description.with_suffix(".pt")
        expected = read_json(description).get("sha256")
        if not path.is_file():
            raise DamagedFileError(f"{path}: is missing")
        if hash_file(path) != expected:
            raise DamagedFileError(f"{path}: is damaged (its SHA-256 is not the recorded one)")
        return StoredCheckpoint(path, _load(path))

    def _write_guarded(self, snapshot: Plain, step: int, about: Plain) -> None:
        try:
            self._write(snapshot, step, about)
        except (OSError, RuntimeError) as error:
            # Raised by the training at its next save; in this thread nobody would hear of it.
            self._failure = error

    def _write(self, snapshot: Plain, step: int, about: Plain) -> None:
        buffer = io.BytesIO()
        torch.save(snapshot, buffer)
        content = buffer.getvalue()
        path = self.folder / f"checkpoint_{step:09d}.pt"
        # Of the bytes in memory, not of the file: what the disk does to them while they are written then shows.
        digest = hashlib.sha256(content).hexdigest()
        write_bytes(path, content)
        write_json(path.with_suffix(".json"), {"sha256": digest, "step": step, **about})
        self._name_latest(path)
        if self.written is not None:
            self.written(path, step)
        self._prune()
        if about.get("epoch", 0) >= 1:
            # The new training has begun well.
            shutil.rmtree(self.folder / FORMER, ignore_errors=True)

    def _name_latest(self, path: Path) -> None:
        target = self.folder / LATEST
        temporary = self.folder / f".{LATEST}.{os.getpid()}.partial"
        temporary.unlink(missing_ok=True)
        try:
            # A link costs no second copy on disk; it cannot replace a name, so that a rename has to.
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            with atomic_path(target) as copied:
                copied.write_bytes(path.read_bytes())
            return
        temporary.replace(target)
        flush_directory(self.folder)

    def _prune(self) -> None:
        for description in sorted(self.folder.glob("checkpoint_*.json"))[: -self.keep]:
            # The description first: a kill in between then leaves tensors that do not count.
            description.unlink(missing_ok=True)
            description.with_suffix(".pt").unlink(missing_ok=True)


def no_such_checkpoint(path: Path, folder: Path) -> UserError:
    """What to say of a checkpoint that a user named and that is not there. ``folder``: that of the run's own."""
    newest = [found.with_suffix(".pt").name for found in sorted(folder.rglob("checkpoint_*.json"))[-3:]]
    held = f"holds {', '.join(newest)}" if newest else "holds none yet"
    return UserError(f"{path}: no such checkpoint; {folder} {held}. Name one of the run's, or omit --resume")


def _load(path: Path) -> Plain:
    try:
        # On the CPU, so that what a GPU wrote is read without one; weights_only lets no code be unpickled.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE:
        # What torch says of a file that is no such archive advises to load it unsafely.
        raise DamagedFileError(
            f"{path}: cannot be read as a step checkpoint; those are the files checkpoint_<step>.pt in a run's folder "
            "checkpoints"
        ) from None
    if not isinstance(state, dict) or "step" not in state:
        raise DamagedFileError(f"{path}: holds no training state")
    return state


def _snapshot(value: Any) -> Any:
    """A copy on the CPU that later steps do not change."""
    if isinstance(value, torch.Tensor):
        # A tensor that is on the CPU already would otherwise be the live one, which the next step changes.
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_snapshot(item) for item in value]
    return value
