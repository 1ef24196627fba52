"""Launcher ``local``: the processes of a job on this machine, watched over by a process of their own.

Beside ``job.json`` lie ``job.log`` (what all of them print) and ``job_ended.json`` (how it ended).
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import read_json, write_text
from marauder.core.locks import holder, is_held, turn
from marauder.launch.base import Handle, Job, Launcher, State
from marauder.launch.local_supervisor import asked_to_stop, ended_file, lock_file
from marauder.launch.processes import variables_of

LOG_FILE = "job.log"
START_SECONDS = 30.0
"""How long a supervisor may take to begin; it loads no heavy package."""
POLL_SECONDS = 0.02


class LocalLauncher(Launcher):
    """Processes on this machine."""

    name = "local"
    title = "Processes on this machine"

    def render(self, job: Job) -> str:
        """The command of each process, with the variables that tell them apart."""
        lines = []
        for rank in range(job.processes):
            variables = [f"{name}={value}" for name, value in variables_of(rank, job.processes).items()]
            lines.append(shlex.join([*variables, *job.command()]))
        return "\n".join(lines)

    def submit(self, job: Job) -> Handle:
        """Start the process that watches over the job's; returns once it is at work, or has ended.

        Raises ``UserError`` while another job of the folder runs.
        """
        # Until the supervisor has its own lock: of two who submit at once, the second finds the job of the first.
        with turn(job.folder / ".submitting.lock", f"submitting to {job.folder}", 2 * START_SECONDS):
            return self._submit(job)

    def _submit(self, job: Job) -> Handle:
        if is_held(lock_file(job.folder)):
            raise UserError(f"{job.folder}: a job runs there ({holder(lock_file(job.folder))}); wait for it or stop it")
        job.write()
        # An earlier job's end must not pass for this one's, nor its stop reach this one.
        for path in (ended_file(job.folder), asked_to_stop(job.folder)):
            path.unlink(missing_ok=True)
        with (job.folder / LOG_FILE).open("wb") as output:
            supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", "marauder.launch.local_supervisor", str(job.file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # The job outlives this process, and an interrupt from its terminal.
                start_new_session=True,
            )
        handle, deadline = Handle(self.name, {"folder": str(job.folder)}), time.monotonic() + START_SECONDS
        while self.status(handle) == "lost" and supervisor.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return handle

    def status(self, handle: Handle) -> State:
        """By the lock that the watching process holds, and by what it left."""
        folder = _folder(handle)
        # The end is written down before the lock is let go: looked at in this order, nothing falls between.
        if is_held(lock_file(folder)):
            return "running"
        ended = ended_file(folder)
        if not ended.is_file():
            return "lost"
        state: State = read_json(ended)["state"]
        return state

    def logs(self, handle: Handle) -> str:
        """The whole of ``job.log``."""
        return (_folder(handle) / LOG_FILE).read_text(encoding="utf-8", errors="replace")

    def stop(self, handle: Handle) -> None:
        """By a file that the watching process looks for."""
        if self.status(handle) == "running":
            write_text(asked_to_stop(_folder(handle)), "stopped on request")


def _folder(handle: Handle) -> Path:
    folder = Path(handle.about["folder"])
    if handle.launcher != LocalLauncher.name or not (folder / LOG_FILE).is_file():
        raise UserError(f"{folder}: no job was submitted here on this machine; check the handle")
    return folder
