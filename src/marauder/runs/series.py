"""Runs made of runs: a training stage of several gated runs in a row, each in a folder of its own below the whole's.

A part is recognised by what it is made of. Where that has changed, the old part is deleted and made anew, and so is
every part that follows from it.
"""

from __future__ import annotations

import logging
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from marauder.core.clock import Clock
from marauder.core.decides import decided
from marauder.core.errors import UserError
from marauder.core.files import (
    append_line,
    atomic_path,
    hash_file,
    read_lines,
    write_text,
)
from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Decides
from marauder.core.work import Work
from marauder.engine.checkpoints import StoredCheckpoint, no_such_checkpoint
from marauder.engine.state import Outcome
from marauder.runs.gated import RunSummary, run_gated
from marauder.runs.mirroring import mirrors_of
from marauder.runs.settings import RunSettings
from marauder.runs.training_stage import HISTORY_FILE, MIRROR_SECONDS, RunInHand, TrainingStage

log = logging.getLogger("marauder")


@dataclass(frozen=True)
class Part:
    """A part that is done: its weights and its numbers by epoch."""

    name: str
    folder: Path
    epochs: int
    best_epoch: int
    seconds: float
    history: list[dict[str, float]]

    @property
    def weights(self) -> Path:
        """Its best weights."""
        return self.folder / "best.safetensors"

    @property
    def last_weights(self) -> Path:
        """Those of its last epoch."""
        return self.folder / "last.safetensors"

    @property
    def best_row(self) -> dict[str, float]:
        """The numbers of its best epoch."""
        return next(row for row in self.history if row["epoch"] == self.best_epoch)


class Series(TrainingStage):
    """A training stage that is several gated runs."""

    folder_name: ClassVar[str]
    """The folder of the parts, below the run's."""

    @abstractmethod
    def make(self, run: RunInHand, parts: PartMaker) -> Outcome:
        """All parts in order, and the weights that are kept; ``parts`` makes one."""

    def train(self, run: RunInHand, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        """The parts, each going on where it was. ``resume`` names a checkpoint of one of them."""
        settings = run.settings
        parts = PartMaker(settings.folder / self.folder_name, run.clock, resume)
        kept = [set_aside(folder) for folder in (parts.folder, settings.checkpoint_folder)] if fresh else []
        if begun is not None:
            begun()
        outcome = self.make(run, parts)
        for former in kept:
            shutil.rmtree(former, ignore_errors=True)
        return outcome

    def has_begun(self, settings: RunSettings) -> bool:
        """Whether one of the parts has a checkpoint, here or in a mirror of its own, whose names only it knows."""
        tiers = settings.checkpoint_tiers
        mirrored = tiers.volume is not None or tiers.store is not None
        return mirrored or any(settings.checkpoint_folder.glob("*/checkpoint_0*.json"))

    def read_named(self, checkpoint: Path, settings: RunSettings) -> StoredCheckpoint | None:
        """It belongs to a part of the run that lies here, and is there; the part compares it with what it is now."""
        folder, place = settings.checkpoint_folder.resolve(), checkpoint.resolve()
        if folder not in place.parents:
            raise UserError(
                f"{checkpoint}: is not a checkpoint of this run; its parts have theirs in {settings.checkpoint_folder}"
            )
        if not checkpoint.exists():
            raise no_such_checkpoint(checkpoint, settings.checkpoint_folder)
        return None

    def gives_way(self, settings: RunSettings) -> bool:
        """A run that was refused or stopped before its first update is replaced by the one that was meant."""
        found = [settings.folder.glob("best.*"), settings.checkpoint_folder.rglob("checkpoint_*")]
        parts = settings.folder / self.folder_name
        found += [parts.glob(f"*/{name}") for name in ("best.*", "last.*", HISTORY_FILE)]
        return not any(path.stat().st_size for paths in found for path in paths)


def set_aside(folder: Path) -> Path:
    """Move a folder away as ``<name>.former``, where that is not one of an earlier attempt that was never finished."""
    former = former_of(folder)
    if former.exists():
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.rename(former)
        log.warning("starting over: what was here before is in %s until the new run is done", former)
    return former


def former_of(folder: Path) -> Path:
    """Where ``set_aside`` moves a folder."""
    return folder.with_name(f"{folder.name}.former")


@dataclass(frozen=True)
class PartMaker:
    """Makes the parts of a series, each once. ``resume``: a checkpoint to go on from, of whichever part it is."""

    folder: Path
    clock: Clock
    resume: Path | None = None

    def make(self, name: str, settings: RunSettings, made_of: PlainMapping) -> Part:
        """The part ``name`` with ``settings``, which place it below ``folder``. ``made_of``: what else decides it.

        Raises ``UserError`` where the part would begin anew and so remove the checkpoint to go on from.
        """
        resume = self.resume
        if resume is not None and not resume.resolve().is_relative_to(settings.checkpoint_folder.resolve()):
            # It belongs to another part; this one goes on from its own newest.
            resume = None
        _take_up(settings, name, {**made_of, "settings": decided(settings, Decides.RESULT)}, resume)
        return _part(name, settings, run_gated(settings, self.clock, resume))


def outcome_of(parts: Sequence[Part], chosen: Part, score: float) -> Outcome:
    """All parts as one training: epochs and updates counted on from part to part."""
    history: list[dict[str, float]] = []
    epochs, steps, best_epoch = 0, 0, 0
    for part in parts:
        if part is chosen:
            best_epoch = epochs + part.best_epoch
        # Trackers and curves have one axis: parts follow one another on it.
        rows = [{**row, "epoch": epochs + row["epoch"], "step": steps + row["step"]} for row in part.history]
        history += rows
        epochs, steps = epochs + part.epochs, int(rows[-1]["step"]) if rows else steps
    return Outcome(epochs, steps, score, best_epoch, sum(part.seconds for part in parts), history, False)


def judged_as_whole(gates: Iterable[str]) -> Plain:
    """Settings of a part, by dotted name: it is judged, exported and registered as part of the whole only.

    ``gates``: those that a run of this kind can be asked. Of these it is asked its health: a training that goes wrong
    must end it.
    """
    return {
        "gates": None,
        "gate": {name: "off" for name in gates if name != "health"},
        "export.formats": (),
        "registry": {"kind": "none"},
        "events.sinks": (),
        "store": None,
        "recipe": None,
        "evaluation.target": {},
    }


def leave_weights(chosen: Part, last: Part, outcome: Outcome, folder: Path) -> None:
    """The chosen part's best weights become the whole's ``best``, the last part's last its ``last``; the numbers by
    epoch are those of all parts."""
    for source, name in ((chosen.folder / "best", "best"), (last.folder / "last", "last")):
        for suffix in (".safetensors", ".pt"):
            path, target = source.with_suffix(suffix), folder / f"{name}{suffix}"
            # Taken up again after a kill, whole weights are not written once more.
            if target.is_file() and hash_file(target) == hash_file(path):
                continue
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
    # From the start each time: the rows are appended, and a kill may have left some of them.
    write_text(folder / HISTORY_FILE, "")
    for row in outcome.history:
        append_line(folder / HISTORY_FILE, row)


def _take_up(settings: RunSettings, name: str, made_of: PlainMapping, resume: Path | None) -> None:
    """Make the part's folder one of ``made_of``: what was made of something else goes, unless ``resume`` is of it."""
    work = Work(settings.folder.parent / f"{name}.json", made_of)
    if work.done() is not None:
        return
    if resume is not None:
        raise UserError(
            f"{resume}: what the part {name} is made of has changed, so it would start over and remove this "
            "checkpoint; restore what it was made of, or omit --resume"
        )
    if settings.folder.exists():
        log.info("part %s: what it is made of has changed; it starts over", name)
    # The marker goes first, so that a kill in between cannot leave old results under a new key.
    work.begin()
    for folder in (settings.folder, settings.checkpoint_folder):
        shutil.rmtree(folder, ignore_errors=True)
    for mirror in mirrors_of(settings):
        mirror.clear()
        mirror.finish(MIRROR_SECONDS)
    work.finish(about={"made_of": dict(made_of)})


def _part(name: str, settings: RunSettings, summary: RunSummary) -> Part:
    if summary.stopped_early:
        log.warning("part %s: %s", name, summary.stopped_early)
    history = read_lines(settings.folder / HISTORY_FILE)
    best = summary.best_epoch if summary.best_epoch is not None else summary.epochs
    return Part(name, settings.folder, summary.epochs, best, summary.training_seconds, history)
