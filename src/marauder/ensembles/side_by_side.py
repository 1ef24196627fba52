"""Several members made at once, each by a process of its own on a device of its own, watched over from here.

Which process makes a member, and beside which others, changes nothing of it: the same member comes out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from marauder.core.clock import Clock, Interrupted
from marauder.core.files import read_lines, write_text
from marauder.ensembles.member_runs import MemberRun
from marauder.ensembles.member_worker import LOG_FILE, SETTINGS_FILE
from marauder.ensembles.training_settings import EnsembleTrainingSettings
from marauder.launch.base import Job
from marauder.launch.processes import launch_processes
from marauder.runs.gatekeeper import GateStop
from marauder.runs.record import read_record
from marauder.runs.training_stage import HISTORY_FILE

WORKER = "marauder.ensembles.member_worker"
FOLDER = "processes"
"""Below the ensemble's: a folder of each process, with its job and what it printed."""
POLL_SECONDS = 1.0


def places(settings: EnsembleTrainingSettings) -> list[str]:
    """The devices on which members are made at once, one for each of them: all GPUs, else the device that is set.

    A training of several processes takes the GPUs for itself, and a device that is named is one.
    """
    device = settings.training.device
    gpus: list[str] = []
    if device in ("auto", "cuda") and settings.processes == 1:
        import torch

        gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    available = gpus or [device]
    wanted = settings.at_once or len(available)
    if settings.processes > 1 or len(settings.named_members) == 1:
        return available[:1]
    # More members than GPUs share them.
    return [available[number % len(available)] for number in range(min(wanted, len(settings.named_members)))]


def make_at_once(
    members: Sequence[MemberRun], devices: Sequence[str], folder: Path, clock: Clock, resume: dict[str, Path]
) -> None:
    """Make ``members``, as many at a time as there are ``devices``. ``resume``: checkpoints to go on from, by member.

    Once one fails no other begins, and those that run are saved. Raises what it failed with, or ``Interrupted``.
    """
    free: SimpleQueue[str] = SimpleQueue()
    for device in devices:
        free.put(device)
    shared = _Shared(clock)

    def make(member: MemberRun) -> None:
        shared.check()
        device = free.get()
        try:
            _make(member, device, folder, shared, resume.get(member.name))
        except BaseException:
            shared.failed = shared.failed or f"the member {member.name} did not come to its end"
            raise
        finally:
            free.put(device)

    with ThreadPoolExecutor(len(devices), "member") as pool:
        waiting = {pool.submit(make, member): member for member in members}
        _watch(waiting)
    errors = [error for one in waiting if (error := one.exception()) is not None]
    # The one that began it comes before those that stopped because of it.
    for error in sorted(errors, key=lambda error: isinstance(error, Interrupted)):
        raise error


class _Shared(Clock):
    """The clock of all members: it also stops them once one has failed."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.failed: str | None = None

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        # What the user asked for says more than what followed from it.
        return self.clock.stop_reason(next_unit_seconds) or self.failed


def _make(member: MemberRun, device: str, folder: Path, clock: Clock, resume: Path | None) -> None:
    place = (folder / FOLDER / member.name).absolute()
    settings = member.settings.changed({"training.device": device})
    write_text(place / SETTINGS_FILE, settings.model_dump_json(indent=2))
    _say(f"{member.name}: begins on {device}; what it prints is in {place / LOG_FILE}")
    job = Job(
        WORKER,
        place,
        checkpoints=settings.checkpoint_folder.absolute(),
        max_restarts=settings.max_restarts,
        resume=resume.absolute() if resume is not None else None,
    )
    try:
        launch_processes(job, clock)
    except Exception as error:
        record = read_record(settings.folder)
        # What crosses between processes are words; that it was a gate is in the record.
        if record is not None and record.state == "stopped" and not isinstance(error, Interrupted):
            raise GateStop(f"the member {member.name}: {record.message}") from error
        raise
    _say(f"{member.name}: done")


def _watch(waiting: dict[Future[None], MemberRun]) -> None:
    """A line for each epoch of each member, until all have ended."""
    told = {member.name: _rows(member) for member in waiting.values()}
    running = set(waiting)
    while running:
        _, running = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for member in waiting.values():
            rows = _rows(member)
            for row in rows[len(told[member.name]) :]:
                _say(_of_epoch(member, row))
            told[member.name] = rows


def _of_epoch(member: MemberRun, row: Mapping[str, float]) -> str:
    training = member.settings.training
    score = row.get(f"val/{training.best_metric}")
    told = f", {training.best_metric} {score:.3f}" if score is not None else ""
    return f"{member.name}: epoch {int(row['epoch'])} of {training.epochs}{told}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _rows(member: MemberRun) -> list[dict[str, float]]:
    return read_lines(member.settings.folder / HISTORY_FILE)
