"""A process that makes one member of an ensemble: ``python -m marauder.ensembles.member_worker <job.json>``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from marauder.core.clock import Clock
from marauder.launch.base import Job
from marauder.launch.worker import run_job

LOG_FILE = "member.log"
SETTINGS_FILE = "member.json"


def make_member(job: Job, clock: Clock) -> None:
    """The run that the settings beside the job describe; what it prints goes into ``member.log`` there.

    Two members that print into one terminal could not be told apart.
    """
    _print_into(job.folder / LOG_FILE)
    # Inside: numerical libraries look at the environment when they are loaded, and ``run_job`` sets it first.
    from marauder.core.clock import Interrupted
    from marauder.core.errors import UserError
    from marauder.core.files import read_json
    from marauder.launch.processes import end_worker
    from marauder.runs.gated import run_gated
    from marauder.tasks.detection.settings import DetectionSettings

    settings = DetectionSettings.model_validate(read_json(job.folder / SETTINGS_FILE))
    try:
        run_gated(settings, clock, job.resume)
    except (Interrupted, UserError) as stop:
        # In the log, too, where whoever looks for the reason reads first; the launching process tells the user.
        print(f"{type(stop).__name__}: {stop}", file=sys.stderr, flush=True)
        end_worker(job.folder, stop)


def _print_into(path: Path) -> None:
    """Standard output and error of this process, those of libraries included, go on at the end of ``path``."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


if __name__ == "__main__":
    run_job(make_member)
