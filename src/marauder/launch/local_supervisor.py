"""The process that watches over a local job: ``python -m marauder.launch.local_supervisor <job.json>``."""

from __future__ import annotations

import sys
from pathlib import Path

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import write_json
from marauder.core.locks import exclusive
from marauder.launch.base import Job, State
from marauder.launch.processes import launch_processes


def lock_file(folder: Path) -> Path:
    """Held as long as a job of this folder runs."""
    return folder / ".job.lock"


def ended_file(folder: Path) -> Path:
    """Says how the job ended, and why."""
    return folder / "job_ended.json"


def asked_to_stop(folder: Path) -> Path:
    """The file whose appearance asks the job to stop; it holds the reason."""
    return folder / ".job_stop"


def supervise(job: Job) -> State:
    """Run the job's processes to their end and write down what that was."""
    state: State = "finished"
    why = ""
    with exclusive(lock_file(job.folder), f"the job in {job.folder}"):
        try:
            with Clock(stop_file=asked_to_stop(job.folder)).listening() as clock:
                launch_processes(job, clock)
        except Interrupted as stop:
            state, why = "stopped", stop.reason
        except UserError as error:
            state, why = "failed", str(error)
        if why:
            print(f"{state}: {why}", file=sys.stderr, flush=True)
        # While the lock is still held: who finds it free finds the end as well.
        write_json(ended_file(job.folder), {"state": state, "why": why})
    return state


if __name__ == "__main__":
    supervise(Job.read(Path(sys.argv[1])))
