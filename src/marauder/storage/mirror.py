"""Checkpoints beyond the local disk: copied to a volume and an object store while a run trains, and brought back.

A checkpoint is two files (see ``engine.checkpoints``): ``checkpoint_<step>.pt``, and ``checkpoint_<step>.json`` with
its SHA-256, which is written last; in a mirror, too. A mirror that fails never stops a training.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from marauder.core.files import DamagedFileError, hash_file, read_json, write_bytes, write_json
from marauder.storage.base import Store, StoreError
from marauder.storage.opening import open_store
from marauder.storage.settings import CheckpointTiers

DESCRIPTION = re.compile(r"checkpoint_(\d{9,})\.json")
COMPANIONS = "with"
"""Holds, below a mirror's prefix, the files that its checkpoints are not complete without."""
RETRY_SECONDS = (1.0, 5.0, 30.0, 120.0)
"""Pauses after the first, second, … failure in a row; the last one repeats."""
log = logging.getLogger("marauder")


@dataclass(frozen=True)
class MirrorCounts:
    """What a mirror did: copies made, copies that failed (each may be tried again), and the newest step it holds."""

    copied: int = 0
    failed: int = 0
    step: int | None = None


@dataclass(frozen=True)
class _Offer:
    path: Path
    step: int


class CheckpointMirror:
    """Copies checkpoints into ``store`` under ``prefix`` from a thread of its own, the newest first.

    At most one copy starts in ``every_seconds``; the newest ``keep`` stay. A checkpoint that was offered is kept alive
    by a second name (hard link) until it is copied or a newer one was offered, so that the training may delete its own.
    ``companions``: files that a checkpoint is not complete without (best weights, what the run started from); they go
    before it.
    """

    def __init__(
        self, store: Store, prefix: str, every_seconds: float = 600.0, keep: int = 2, companions: Sequence[Path] = ()
    ) -> None:
        self.store, self.prefix = store, prefix.strip("/")
        self.companions = tuple(companions)
        self._sent: dict[Path, tuple[int, int]] = {}
        self.every_seconds, self.keep = every_seconds, keep
        self.counts = MirrorCounts()
        self._condition = threading.Condition()
        self._waiting: _Offer | None = None
        self._copying = False
        self._finishing = False
        self._failures = 0
        self._next_start = 0.0
        self._folder: Path | None = None
        self._local: Path | None = None
        self._thread: threading.Thread | None = None

    def offer(self, path: Path, step: int) -> None:
        """Have a local checkpoint copied, which must be whole. Returns at once and never raises."""
        try:
            offered = self._hold(path, step)
        except OSError as error:
            self._warn(error)
            return
        with self._condition:
            # Only the newest is worth sending: a slow store must not pile up checkpoints on the local disk.
            superseded, self._waiting = self._waiting, offered
            if self._thread is None or not self._thread.is_alive():
                # Daemon: a store that hangs must not keep a finished training from ending.
                self._thread = threading.Thread(target=self._work, name="checkpoint mirror", daemon=True)
                self._thread.start()
            self._condition.notify_all()
        if superseded is not None:
            self._release(superseded)

    def finish(self, timeout: float) -> bool:
        """Copy the newest offered checkpoint now, whatever the schedule; says whether it is there within ``timeout`` s.

        Training may continue afterwards, with further offers.
        """
        deadline = time.monotonic() + timeout
        with self._condition:
            self._finishing = True
            self._next_start = 0.0
            self._condition.notify_all()
            try:
                while self._waiting is not None or self._copying:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._condition.wait(left):
                        break
                complete = self._waiting is None and not self._copying
            finally:
                self._finishing = False
        # Nothing waits or is copied any more, so that no name in there is in use.
        if complete and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if not complete:
            log.warning("%s: the newest checkpoint is not mirrored yet; it is on the local disk only", self.where)
        return complete

    def clear(self) -> None:
        """Delete the checkpoints of this mirror: the run starts over. Raises ``StoreError``."""
        for step in stored_steps(self.store, self.prefix):
            self._delete(step)
        for entry in self.store.list(f"{self.prefix}/{COMPANIONS}/"):
            self.store.delete(entry.key)

    def give_up_after(self, folder: Path, step: int) -> None:
        """Note in ``folder``, that of the local checkpoints, that training continues from ``step`` on another branch.

        The next copy and the next ``restore_newest`` first delete what this mirror holds of later steps. Nothing is
        asked of the store here, so that a slow one does not hold up the training.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_json(self._note(folder), {"after": step})

    def forget_branch(self, folder: Path) -> None:
        """Delete what is left of a branch that was given up, if a note in ``folder`` says so. Raises ``StoreError``."""
        note = self._note(folder)
        if not note.is_file():
            return
        # Until the note is gone nothing is copied here, so that every later step is of that branch.
        for step in stored_steps(self.store, self.prefix):
            if step > int(read_json(note)["after"]):
                self._delete(step)
        note.unlink()

    def companion_key(self, path: Path) -> str:
        """Where a companion lies in the store."""
        return f"{self.prefix}/{COMPANIONS}/{path.name}"

    @property
    def where(self) -> str:
        """The place in words."""
        return f"{self.store.address.partition('?')[0].rstrip('/')}/{self.prefix}"

    def _note(self, folder: Path) -> Path:
        return folder / f"{self._own_name()}_given_up.json"

    def _own_name(self) -> str:
        # Each mirror of a run holds files in a folder of its own, and clears that alone.
        digest = hashlib.sha256(f"{self.store.address}\n{self.prefix}".encode()).hexdigest()
        return f".mirror_{digest[:8]}"

    def _hold(self, path: Path, step: int) -> _Offer:
        self._local = path.parent
        folder = path.parent / self._own_name()
        if self._folder != folder:  # what a killed process held there is of no use any more
            shutil.rmtree(folder, ignore_errors=True)
            self._folder = folder
        folder.mkdir(exist_ok=True)
        held = folder / path.name
        for source, target in ((path, held), (path.with_suffix(".json"), held.with_suffix(".json"))):
            target.unlink(missing_ok=True)
            try:
                os.link(source, target)
            except OSError:  # no hard links here: copy from where it lies, if it is still there then
                return _Offer(path, step)
        return _Offer(held, step)

    def _release(self, offer: _Offer) -> None:
        if offer.path.parent == self._folder:
            with self._condition:
                # The same step may have been offered again, under the same name.
                wanted = self._waiting is not None and self._waiting.path == offer.path
            if not wanted:
                offer.path.unlink(missing_ok=True)
                offer.path.with_suffix(".json").unlink(missing_ok=True)

    def _work(self) -> None:
        while True:
            with self._condition:
                while self._waiting is None or time.monotonic() < self._next_start:
                    left = self._next_start - time.monotonic()
                    self._condition.wait(None if self._waiting is None else max(0.001, left))
                offer, self._waiting, self._copying = self._waiting, None, True
                self._next_start = time.monotonic() + self.every_seconds
            try:
                self._copy(offer)
            except (StoreError, DamagedFileError, OSError) as error:
                self._after_failure(offer, error)
            else:
                self._failures = 0
                self.counts = replace(self.counts, copied=self.counts.copied + 1, step=offer.step)
                self._release(offer)
            with self._condition:
                self._copying = False
                self._condition.notify_all()

    def _after_failure(self, offer: _Offer, error: Exception) -> None:
        self._warn(error)
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]
        with self._condition:
            self._next_start = time.monotonic() + (min(pause, 1.0) if self._finishing else pause)
            # Not where a newer one waits, or where the training deleted the file because it could not be held.
            if self._waiting is None and offer.path.exists():
                self._waiting = offer
                return
        self._release(offer)

    def _warn(self, error: Exception) -> None:
        if self._failures == 0:
            log.warning(
                "%s: a checkpoint was not mirrored (%s); training continues and the copy is tried again",
                self.where,
                error,
            )
        self._failures += 1
        self.counts = replace(self.counts, failed=self.counts.failed + 1)

    def _copy(self, offer: _Offer) -> None:
        name = f"checkpoint_{offer.step:09d}"
        if self._local is not None:
            self.forget_branch(self._local)
        for path in self.companions:
            self._copy_companion(path)
        # The description last: a checkpoint without one does not count, whenever the copy breaks off.
        self.store.put(f"{self.prefix}/{name}.pt", offer.path)
        self.store.put(f"{self.prefix}/{name}.json", offer.path.with_suffix(".json"))
        steps = stored_steps(self.store, self.prefix)
        later = [step for step in steps if step > offer.step]  # of a branch that was given up
        for step in later + [step for step in steps if step <= offer.step][: -self.keep]:
            self._delete(step)

    def _copy_companion(self, path: Path) -> None:
        """Copy a companion if it changed. It may be newer than the checkpoint: training comes to the same one again."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return
        stamp = (found.st_mtime_ns, found.st_size)
        if self._sent.get(path) == stamp:
            return
        held = path.with_name(f".{path.name}.mirrored")
        held.unlink(missing_ok=True)
        try:
            os.link(path, held)  # training replaces the file by a new one; this name keeps the old one whole
        except OSError:  # no hard links here
            shutil.copyfile(path, held)
        try:
            self.store.put(self.companion_key(path), held)
        finally:
            held.unlink(missing_ok=True)
        self._sent[path] = stamp

    def _delete(self, step: int) -> None:
        for suffix in (".json", ".pt"):  # without its description the other half does not count
            self.store.delete(f"{self.prefix}/checkpoint_{step:09d}{suffix}")


def open_mirrors(tiers: CheckpointTiers, prefix: str, companions: Sequence[Path] = ()) -> list[CheckpointMirror]:
    """The mirrors that the settings name, the volume first. Nothing is read or written yet."""
    chosen = [tier for tier in (tiers.volume, tiers.store) if tier is not None]
    return [CheckpointMirror(open_store(tier.address), prefix, tier.seconds, tier.keep, companions) for tier in chosen]


def stored_steps(store: Store, prefix: str) -> list[int]:
    """Steps of the described checkpoints under ``prefix``, rising."""
    names = (entry.key.rpartition("/")[2] for entry in store.list(f"{prefix}/"))
    return sorted(int(match[1]) for match in map(DESCRIPTION.fullmatch, names) if match)


def plan_restore(local: int | None, tiers: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """What to try to fetch, in order: (index of the tier, step), only steps newer than ``local``, the newest first;
    of equal ones that in the earlier (faster) tier. The first that turns out whole is the one to continue from."""
    newer = {(tier, step) for tier, steps in enumerate(tiers) for step in steps if local is None or step > local}
    return sorted(newer, key=lambda candidate: (-candidate[1], candidate[0]))


def restore_newest(folder: Path, mirrors: Sequence[CheckpointMirror]) -> Path | None:
    """Bring the newest whole checkpoint of all mirrors into ``folder`` if it is newer than the newest whole one there.

    Returns its path, or ``None`` when the folder already has the newest (or nothing is anywhere). Damaged copies are
    passed over and unreachable mirrors left out, each with a warning.
    """
    tiers = []
    for mirror in mirrors:
        try:
            mirror.forget_branch(folder)
            tiers.append(stored_steps(mirror.store, mirror.prefix))
        except (StoreError, OSError) as error:
            log.warning("%s: looking for checkpoints failed (%s); continuing without it", mirror.where, error)
            tiers.append([])
    for tier, step in plan_restore(newest_whole(folder), tiers):
        try:
            path = _fetch(folder, mirrors[tier], step)
        except (StoreError, DamagedFileError, FileNotFoundError) as error:
            log.warning("%s; falling back to the checkpoint before it", error)
            continue
        log.info("continuing from step %d, fetched from %s", step, mirrors[tier].where)
        _fetch_companions(mirrors[tier])
        return path
    return None


def _fetch_companions(mirror: CheckpointMirror) -> None:
    """Bring back what is gone; what the mirror does not have either, training makes anew."""
    for path in mirror.companions:
        if not path.exists():
            try:
                mirror.store.get(mirror.companion_key(path), path)
            except FileNotFoundError:
                continue
            except (StoreError, DamagedFileError) as error:
                log.warning("%s; it is determined again", error)


def newest_whole(folder: Path) -> int | None:
    """Step of the newest checkpoint in ``folder`` whose content has its recorded SHA-256."""
    # Steps are written with nine digits, so that names sort as steps do.
    for description in sorted(folder.glob("checkpoint_*.json"), reverse=True):
        try:
            _check(description.with_suffix(".pt"), description)
        except (DamagedFileError, FileNotFoundError):
            continue  # the checkpointer says so when it passes over it
        if match := DESCRIPTION.fullmatch(description.name):
            return int(match[1])
    return None


def _fetch(folder: Path, mirror: CheckpointMirror, step: int) -> Path:
    """Weights first, description last, as the checkpointer writes them."""
    target = folder / f"checkpoint_{step:09d}.pt"
    arriving = folder / ".arriving"
    try:
        for suffix in (".json", ".pt"):
            mirror.store.get(f"{mirror.prefix}/{target.stem}{suffix}", arriving / f"{target.stem}{suffix}")
        _check(arriving / target.name, arriving / f"{target.stem}.json")
        # Gone before the weights change: a kill in between must not leave weights with another's description.
        target.with_suffix(".json").unlink(missing_ok=True)  # of a damaged one with the same step
        (arriving / target.name).replace(target)
        write_bytes(target.with_suffix(".json"), (arriving / f"{target.stem}.json").read_bytes())
    finally:
        shutil.rmtree(arriving, ignore_errors=True)
    return target


def _check(path: Path, description: Path) -> None:
    content = read_json(description)
    expected = content.get("sha256") if isinstance(content, dict) else None
    if hash_file(path) != expected:
        raise DamagedFileError(f"{path}: is damaged (its SHA-256 is not the recorded one)")
