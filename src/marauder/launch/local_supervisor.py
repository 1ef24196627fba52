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
    """Run the job's processes to their end and write down what that was. A fault of the program is raised on."""
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
        except BaseException as error:
            # Else the job would count as lost, without a reason.
            _write_end(job.folder, "failed", f"{type(error).__name__}: {error}")
            raise
        if why:
            print(f"{state}: {why}", file=sys.stderr, flush=True)
        # While the lock is still held: who finds it free finds the end as well.
        _write_end(job.folder, state, why)
    return state


def _write_end(folder: Path, state: State, why: str) -> None:
    write_json(ended_file(folder), {"state": state, "why": why})


if __name__ == "__main__":
    supervise(Job.read(Path(sys.argv[1])))
