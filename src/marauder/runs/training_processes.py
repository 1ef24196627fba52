"""The training of a run: in this process, in several that are launched here, or as one of those."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from marauder.core.clock import Clock, Interrupted
from marauder.core.decides import at_default, decided
from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json, write_text
from marauder.core.settings import Decides
from marauder.engine.distributed import Group, process_group
from marauder.engine.observer import Observer
from marauder.engine.process import prepare_process
from marauder.engine.state import Outcome
from marauder.engine.trainer import Trainer
from marauder.launch.base import Job
from marauder.launch.processes import end_worker, launch_processes, launched_by_marauder
from marauder.runs.settings import RunSettings
from marauder.runs.task_runtime import TaskRuntime

OUTCOME_FILE = "outcome.json"
CONFIG_FILE = "config.json"
WORKER = "marauder.runs.worker"
"""What each of several processes runs."""
log = logging.getLogger("marauder")


def is_one_of_several() -> bool:
    """Whether this process was started by torchrun, ours or the user's own."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 or launched_by_marauder()


def leads() -> bool:
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def train(
    runtime: TaskRuntime,
    identity: str,
    clock: Clock,
    observer: Observer,
    resume: Path | None,
    fresh: bool,
    begun: Callable[[], None] | None,
) -> Outcome:
    """Train, or go on, in this process, or in ``processes`` other than this one; returns how it ended.

    Raises ``Interrupted``, ``UserError``, ``TrainingFailure``.
    """
    settings = runtime.settings
    if settings.processes > 1 and not is_one_of_several():
        return _train_in_processes(runtime, clock, observer, resume, fresh, begun)
    with process_group(settings.training.device) as group:
        # Under torchrun the others wait for this in ``follow``.
        group.broadcast(settings.weights)
        return _train_in_group(runtime, identity, group, clock, observer, resume, fresh, begun)


def follow(
    settings: RunSettings,
    open_runtime: Callable[[RunSettings], tuple[TaskRuntime, str]],
    clock: Clock,
    resume: Path | None,
    fresh: bool,
) -> None:
    """One of torchrun's processes that does not lead: it starts from what the leading one decided on.

    ``open_runtime`` gives the opened runtime of settings, and its identity.
    """
    with process_group(settings.training.device) as group:
        # Looked for here, too, weights could be found on one machine and be missing on another.
        runtime, identity = open_runtime(settings.changed({"weights": group.broadcast(None)}))
        _train_in_group(runtime, identity, group, clock, Observer(), resume, fresh, None)


def train_as_worker(
    runtime: TaskRuntime, identity: str, clock: Clock, observer: Observer, resume: Path | None, fresh: bool
) -> None:
    """One of the processes that ``train`` launched. Tells the launching process how it ended."""
    folder = runtime.settings.folder
    with process_group(runtime.settings.training.device) as group:
        try:
            outcome = _train_in_group(runtime, identity, group, clock, observer, resume, fresh, None)
        except (Interrupted, UserError) as stop:
            # Left for the launching process to read: an exception does not cross between processes.
            end_worker(folder, stop)
        if group.leads:
            write_json(folder / OUTCOME_FILE, asdict(outcome))


def _train_in_processes(
    runtime: TaskRuntime,
    clock: Clock,
    observer: Observer,
    resume: Path | None,
    fresh: bool,
    begun: Callable[[], None] | None,
) -> Outcome:
    settings, folder = runtime.settings, runtime.settings.folder
    write_text(folder / CONFIG_FILE, settings.model_dump_json(indent=2))
    # One of an earlier attempt would be read as this one's.
    (folder / OUTCOME_FILE).unlink(missing_ok=True)
    # Starting over is settled only once the processes have cleared the old checkpoints: ``begun`` comes after that.
    if begun is not None and not fresh:
        begun()
    job = Job(
        WORKER,
        folder.absolute(),
        {"settings": CONFIG_FILE},
        settings.processes,
        settings.checkpoint_folder.absolute(),
        settings.max_restarts,
        fresh,
        resume.absolute() if resume is not None else None,
    )
    launch_processes(job, clock, observer.happened)
    if begun is not None and fresh:
        begun()
    return Outcome(**read_json(folder / OUTCOME_FILE))


def _train_in_group(
    runtime: TaskRuntime,
    identity: str,
    group: Group,
    clock: Clock,
    observer: Observer,
    resume: Path | None,
    fresh: bool,
    begun: Callable[[], None] | None,
) -> Outcome:
    settings = runtime.settings
    prepare_process(settings.training.threads, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    task = runtime.task(settings.folder / "cache")
    trainer = Trainer(
        task,
        settings.training,
        group,
        settings.folder,
        settings.checkpoint_folder,
        runtime.weights(),
        clock,
        identity,
        decided(settings, Decides.RESULT),
        at_default(settings, Decides.RESULT),
        observer,
        shown=_shown(runtime),
        section=settings.typed("training"),
    )
    if group.leads:
        if fresh:
            # Cleared before ``begun`` is called, which promises that nothing of the earlier run can be taken up.
            trainer.checkpointer.prepare(fresh=True)
        write_text(settings.folder / CONFIG_FILE, settings.model_dump_json(indent=2))
    if begun is not None:
        begun()
    outcome = trainer.fit(resume, fresh)
    group.gather(None)  # nobody removes what another still reads
    task.close(remove=group.leads)
    return outcome


def _shown(runtime: TaskRuntime) -> dict[str, str]:
    """Name to title of the figures in the line of an epoch."""
    description = runtime.description
    titles = {metric.name: metric.title for metric in description.metrics if metric.headline}
    return {name: titles[name] for name in description.epoch_columns} or titles
