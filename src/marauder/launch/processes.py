"""Several training processes on this machine, watched over: stopped together and in time, started anew when one dies.

The launching process takes the signals; the workers see a stop file. Each worker has a session of its own, so that one
interrupt from the keyboard does not reach it twice, and so that nothing it started outlives it. They meet through a
file that belongs to one attempt alone: a process of an earlier attempt, or a port that is taken, cannot get in the way.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from marauder.core.clock import EXIT_INTERRUPTED, Clock, Interrupted
from marauder.core.environment import RENDEZVOUS
from marauder.core.errors import UserError
from marauder.core.events import EventLog
from marauder.core.files import write_json, write_text
from marauder.core.plain import Plain, PlainMapping
from marauder.engine.failures import EXIT_HUNG, GroupRestart, TrainingFailure
from marauder.launch.base import Job
from marauder.launch.restarts import Death, RestartPolicy, Saved, describe_hang, describe_status, read_reports

LAUNCHER = "MARAUDER_LAUNCHER"
"""Environment variable with the number of the launching process."""
POLL_SECONDS = 0.1
EXIT_USER_ERROR = 2
"""Status of a process that ended for a ``UserError`` that it has shown itself."""
GRACE_SECONDS = 60.0
"""How long workers that were asked to stop have to save."""
EVIDENCE_SECONDS = 5.0
"""How long the others have to say what they saw, once one has ended with word of why."""
log = logging.getLogger("marauder")


def launched_by_marauder() -> bool:
    """Whether this process is one of several that ``launch_processes`` started."""
    return LAUNCHER in os.environ


def stop_file(output: Path) -> Path:
    """The file whose appearance asks the workers to stop; it holds the reason."""
    return output / ".stop"


def report_outcome(output: Path, stop: Interrupted | UserError) -> None:
    """A worker of any rank leaves word of how it ended, for the launching process."""
    rank = int(os.environ.get("RANK", "0"))
    content: Plain = {"rank": rank, "kind": "failed", "message": str(stop)}
    if isinstance(stop, Interrupted):
        content["kind"] = "interrupted"
    elif isinstance(stop, GroupRestart):
        content["kind"] = "restart"
    if isinstance(stop, TrainingFailure):
        content |= {"failure": stop.kind, "step": stop.step}
    write_json(output / f".outcome_rank{rank}.json", content)


def end_worker(output: Path, stop: Interrupted | UserError) -> NoReturn:
    """Leave word, and leave: the launching process is the one that tells the user."""
    report_outcome(output, stop)
    raise SystemExit(0 if isinstance(stop, Interrupted) else EXIT_USER_ERROR) from None


def launch_processes(job: Job, clock: Clock, happened: Callable[[str, PlainMapping], None] | None = None) -> None:
    """Run the processes of ``job`` as one group until they end; its file is written first.

    When one dies or hangs the others are ended and the group starts again from the newest checkpoint, at most
    ``job.max_restarts`` times without a new checkpoint in between; once there is one, ``job.fresh`` and ``job.resume``
    count no more. ``happened`` hears the events ``worker_died`` and ``group_restarted``, which also go to
    ``events.jsonl``.

    Raises ``Interrupted``, ``UserError`` or ``TrainingFailure`` as a worker did, ``TrainingFailure`` of kind ``died``
    or ``hung`` when no restart is left.
    """
    _Supervisor(job, clock, happened).run()


def variables_of(rank: int, processes: int) -> dict[str, str]:
    """The environment variables that tell a process of a group which one it is."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }


class _Supervisor:
    """Attempts of one group, one after another."""

    def __init__(self, job: Job, clock: Clock, happened: Callable[[str, PlainMapping], None] | None) -> None:
        self.job, self.clock, self.happened = job, clock, happened
        self.output, self.processes, self.checkpoints = job.folder, job.processes, job.checkpoint_folder
        self.policy = RestartPolicy(job.max_restarts)
        self.events = EventLog(self.output / "events.jsonl")
        self.stop_asked: str | None = None

    def run(self) -> None:
        stop = stop_file(self.output)
        try:
            with tempfile.TemporaryDirectory(prefix="marauder-") as meeting:
                attempt = 0
                while not self._attempt(Path(meeting) / f"attempt{attempt}"):
                    attempt += 1
        finally:
            stop.unlink(missing_ok=True)
            self._forget_reports()

    def _attempt(self, meeting: Path) -> bool:
        """Run the group once; returns whether it is done (``False``: it is to start again)."""
        stop_file(self.output).unlink(missing_ok=True)
        self._forget_reports()
        # Looked at before it starts, so that whatever it saves counts as progress.
        before, started = Saved.look(self.checkpoints), time.time()
        # Anew for each attempt: after a checkpoint it no longer says to start over.
        self.job.write()
        group = _Group(self.job, meeting)
        try:
            self._wait(group)
        finally:
            group.kill()
        # Only now that nobody runs any more are all reports there.
        reports = read_reports(self.output)
        death = group.death()
        by_kind = {report["kind"]: report for report in reversed(reports)}  # the lowest rank's of a kind
        # First of all: other deaths, and stops, mostly follow from a failure that one could put into words.
        if "failed" in by_kind:
            self._raise(by_kind["failed"])
        if self.stop_asked is not None and (death is not None or "interrupted" not in by_kind):
            if death is None and not reports:
                return True  # all was done before the workers saw that they should stop
            raise Interrupted(
                f"{self.stop_asked}; the processes did not all stop in time: what counts is the last save"
            )
        if "interrupted" in by_kind and death is None:
            raise Interrupted(by_kind["interrupted"]["message"])
        # Not counted: the group asked for it, and each time with smaller micro-batches.
        if "restart" in by_kind:
            self._restart(by_kind["restart"]["message"], before, counted=False)
            return False
        if death is None:
            return True
        if death.status == EXIT_INTERRUPTED:
            raise Interrupted("a training process was told to stop before it started")
        if death.status == EXIT_USER_ERROR:
            raise UserError("a training process could not begin; its message is above")
        self._go_on_after(death, before, started)
        return False

    def _go_on_after(self, death: Death, before: Saved, started: float) -> None:
        """Tell of a death and ready the next attempt; raises when there is none."""
        words = describe_status(death)
        if death.status == EXIT_HUNG:
            words = describe_hang(self.output, self.processes, started) or words
        self._happened(
            "worker_died", rank=death.rank, status=death.status, why=words, step=Saved.look(self.checkpoints).step
        )
        progressed = Saved.look(self.checkpoints).is_newer_than(before)
        if not self.policy.allows(progressed, crashed=death.status > 0 and death.status != EXIT_HUNG):
            raise TrainingFailure(
                f"{words}; the group was started again {self.policy.used} times without reaching a new checkpoint. "
                "The messages of the processes are above. Run the same command again once the cause is fixed: it "
                "continues from the last checkpoint",
                "hung" if death.status == EXIT_HUNG else "died",
                Saved.look(self.checkpoints).step,
            )
        self._restart(words, before, counted=True)

    def _restart(self, why: str, before: Saved, counted: bool) -> None:
        saved = Saved.look(self.checkpoints)
        if saved.is_newer_than(before):
            # Once there is a checkpoint of this job; before, `fresh` and `resume` have yet to do their work.
            self.job = self.job.going_on()
        self._happened("group_restarted", why=why, step=saved.step, processes=self.processes)
        count = f" (restart {self.policy.used} of {self.policy.max_restarts})" if counted else ""
        where = f"from step {saved.step}" if saved.step is not None else "from the beginning"
        log.warning("%s; starting the group of %d processes again %s%s", why, self.processes, where, count)

    def _wait(self, group: _Group) -> None:
        """Wait until the group has ended, or until its rest is to be ended."""
        asked: float | None = None
        troubled: float | None = None
        while group.is_running():
            now = time.monotonic()
            reason = self.clock.stop_reason()
            if reason is not None and asked is None:
                asked, self.stop_asked = now, reason
                write_text(stop_file(self.output), reason)
            if asked is not None and now - asked > GRACE_SECONDS:
                return
            death, told = group.death(), {report["kind"] for report in read_reports(self.output)}
            if (death is not None and death.is_final) or "restart" in told:
                return  # the others wait in vain, and have no word to add
            if troubled is None and (death is not None or "failed" in told):
                troubled = now
            if troubled is not None and now - troubled > EVIDENCE_SECONDS:
                return
            time.sleep(POLL_SECONDS)

    def _raise(self, report: PlainMapping) -> NoReturn:
        if report["rank"] != 0:  # the first rank writes its own
            self._happened("failed", rank=report["rank"], why=report["message"], failure=report.get("failure"))
        if report.get("failure") is not None:
            raise TrainingFailure(report["message"], report["failure"], report["step"])
        raise UserError(report["message"])

    def _happened(self, kind: str, **fields: Any) -> None:
        self.events.write(kind, **fields)
        if self.happened is not None:
            self.happened(kind, fields)

    def _forget_reports(self) -> None:
        for path in self.output.glob(".outcome_rank*.json"):
            path.unlink(missing_ok=True)


class _Group:
    """The processes of one attempt."""

    def __init__(self, job: Job, meeting: Path) -> None:
        common = {
            **os.environ,
            LAUNCHER: str(os.getpid()),
            RENDEZVOUS: str(meeting),
            # As engine.distributed sets it: with all connections at once a restarted group now and then hangs.
            "TORCH_GLOO_LAZY_INIT": "1",
            # Libraries read it when they are loaded, before a worker sets its threads: each would start one a core.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        self.members: list[subprocess.Popen[bytes]] = []
        self._first: Death | None = None
        try:
            for rank in range(job.processes):
                environment = {**common, **variables_of(rank, job.processes)}
                self.members.append(subprocess.Popen(job.command(), env=environment, start_new_session=True))
        except OSError:
            self.kill()
            raise

    def is_running(self) -> bool:
        """Whether any member still runs."""
        return None in [member.poll() for member in self.members]

    def death(self) -> Death | None:
        """The first death that was seen; of several at once, one by a signal: the others follow from it."""
        if self._first is None:
            ended = [(rank, member.poll()) for rank, member in enumerate(self.members)]
            deaths = [Death(rank, status) for rank, status in ended if status]
            self._first = min(deaths, key=lambda death: (not death.is_final, death.rank), default=None)
        return self._first

    def kill(self) -> None:
        """End every member and all that it started; what has ended already is left."""
        self.death()  # those that are killed here did not die by themselves
        for member in self.members:
            try:
                os.killpg(member.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has ended, and left nothing behind
        for member in self.members:
            member.wait()
