"""The contract of launchers, and the small job that it submits: ``python -m marauder.testing.launchers <job.json>``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.launch.base import Handle, Job, Launcher, State
from marauder.launch.worker import run_job

SECONDS = 60.0


def small_work(job: Job, clock: Clock) -> None:
    """Leave a file for each process; then do what the job's content says: wait to be stopped, or fail."""
    rank = os.environ["RANK"]
    print(f"process {rank} is at work", flush=True)
    (job.folder / f"worked{rank}").write_text(json.dumps(dict(job.content)), encoding="utf-8")
    while job.content["do"] == "wait":
        clock.check()
        time.sleep(0.02)
    if job.content["do"] == "fail":
        raise UserError("this job was made to fail")


class LauncherContract:
    """What every launcher does. A subclass gives ``launcher``."""

    @pytest.fixture
    def launcher(self) -> Launcher:
        """One to test."""
        raise NotImplementedError

    def job(self, folder: Path, do: str = "work") -> Job:
        """Two processes that work, ``wait`` or ``fail``."""
        # Letters beyond ASCII must survive the job's file, whatever the locale.
        return Job(__name__, folder / "job", {"do": do, "words": "größer \u2713"}, processes=2)

    def wait(self, launcher: Launcher, handle: Handle) -> State:
        """The state that follows ``running``."""
        deadline = time.monotonic() + SECONDS
        while (state := launcher.status(handle)) == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        return state

    def wait_for_work(self, job: Job) -> None:
        """Until both processes are at work."""
        deadline = time.monotonic() + SECONDS
        while len(list(job.folder.glob("worked*"))) < 2:
            assert time.monotonic() < deadline, "the processes did not begin"
            time.sleep(0.02)

    def test_what_would_be_run_can_be_read_and_nothing_is_written(self, launcher: Launcher, tmp_path: Path) -> None:
        job = self.job(tmp_path)
        text = launcher.render(job)
        assert text == launcher.render(job) and __name__ in text and str(job.file) in text
        assert not job.folder.exists()

    def test_a_job_is_finished_by_all_its_processes(self, launcher: Launcher, tmp_path: Path) -> None:
        job = self.job(tmp_path)
        handle = launcher.submit(job)
        assert self.wait(launcher, handle) == "finished"
        assert Job.read(job.file) == job
        for rank in (0, 1):
            assert json.loads((job.folder / f"worked{rank}").read_text("utf-8")) == job.content
            assert f"process {rank} is at work" in launcher.logs(handle)
        launcher.stop(handle)
        assert launcher.status(handle) == "finished", "what has ended is not stopped"

    def test_a_handle_that_went_through_json_finds_the_job_and_stops_it(
        self, launcher: Launcher, tmp_path: Path
    ) -> None:
        job = self.job(tmp_path, "wait")
        told: Plain = json.loads(json.dumps(launcher.submit(job).to_json()))
        # As another process would go about it: with the handle and nothing else.
        handle, other = Handle.from_json(told), type(launcher)(launcher.settings)
        # A stop that comes before the processes begin is another matter.
        self.wait_for_work(job)
        assert other.status(handle) == "running"
        with pytest.raises(UserError, match="a job runs there"):
            other.submit(job)
        other.stop(handle)
        assert self.wait(other, handle) == "stopped"
        again = launcher.submit(self.job(tmp_path))
        assert self.wait(launcher, again) == "finished", "the same folder takes the next job"

    def test_a_job_that_fails_says_why(self, launcher: Launcher, tmp_path: Path) -> None:
        handle = launcher.submit(self.job(tmp_path, "fail"))
        assert self.wait(launcher, handle) == "failed"
        assert "this job was made to fail" in launcher.logs(handle)


if __name__ == "__main__":
    run_job(small_work)
