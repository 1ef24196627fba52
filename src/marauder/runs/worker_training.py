"""One of several processes of a run: it trains, and does nothing else."""

from __future__ import annotations

from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.launch.processes import launched_by_marauder
from marauder.runs.mirroring import mirrors_of
from marauder.runs.notifying import RunNotifier
from marauder.runs.run_name import run_name
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import describe_task
from marauder.runs.task_runtime import TaskRuntime
from marauder.runs.training_processes import follow, leads, train_as_worker
from marauder.runs.training_stage import MIRROR_SECONDS


def train_only(settings: RunSettings, clock: Clock, resume: Path | None, fresh: bool) -> None:
    """Train in this process, as one of the group. Raises ``UserError`` where it cannot know its run."""
    # Without either the name is made from settings and pinned data, which only the leading process works out.
    if settings.output is None and settings.id is None:
        raise UserError("several processes must know their run: give id=NAME, or --output, when you call torchrun")
    name = settings.id or run_name(settings.folder.resolve().name)
    settings = settings.changed({"id": name, "output": settings.folder})

    def open_runtime(settings: RunSettings) -> tuple[TaskRuntime, str]:
        runtime = describe_task(settings.task).load()(settings)
        runtime.clock = clock
        return runtime, runtime.open()

    # Under the user's own torchrun the leading process is in ``GatedRun``, which tells trackers and mirrors.
    if not launched_by_marauder():
        follow(settings, open_runtime, clock, resume, fresh)
        return
    runtime, identity = open_runtime(settings)
    mirrors = mirrors_of(settings) if leads() else []
    try:
        train_as_worker(runtime, identity, clock, RunNotifier(settings).observer(mirrors), resume, fresh)
    finally:
        for mirror in mirrors:
            # Whatever ended the training, the newest checkpoint should have reached its mirror.
            mirror.finish(MIRROR_SECONDS)
