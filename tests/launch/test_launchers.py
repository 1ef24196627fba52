"""The local launcher keeps the contract, and outlives or loses a job as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json
from marauder.core.plugins import make
from marauder.launch import local, local_supervisor
from marauder.launch.base import Handle, Job, Launcher
from marauder.testing.launchers import LauncherContract


class TestLocalLauncher(LauncherContract):
    """Processes on this machine."""

    @pytest.fixture
    def launcher(self, monkeypatch: pytest.MonkeyPatch) -> Launcher:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        launcher: Launcher = make("launcher", "local")
        return launcher

    def test_every_process_has_a_line_of_its_own(self, launcher: Launcher, tmp_path: Path) -> None:
        lines = launcher.render(self.job(tmp_path)).splitlines()
        assert [line.split()[0] for line in lines] == ["RANK=0", "RANK=1"]

    def test_a_job_outlives_the_process_that_submitted_it(self, launcher: Launcher, tmp_path: Path) -> None:
        job = self.job(tmp_path, "wait")
        script = (
            "import os, sys; from pathlib import Path; from marauder.core.plugins import make; "
            "from marauder.testing.launchers import LauncherContract; "
            "make('launcher', 'local').submit(LauncherContract().job(Path(sys.argv[1]), 'wait')); "
            "os.killpg(os.getpgrp(), 9)"
        )
        # The whole group of processes is killed, as a terminal that closes does it.
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, start_new_session=True)
        assert done.returncode == -signal.SIGKILL
        handle = Handle("local", {"folder": str(job.folder)})
        self.wait_for_work(job)
        assert launcher.status(handle) == "running"
        launcher.stop(handle)
        assert self.wait(launcher, handle) == "stopped"

    def test_a_job_whose_watching_process_was_killed_is_lost(self, launcher: Launcher, tmp_path: Path) -> None:
        job = self.job(tmp_path, "wait")
        handle = launcher.submit(job)
        self.wait_for_work(job)
        (watching,) = [
            one
            for one in psutil.process_iter(["cmdline"])
            if str(job.file) in (one.info["cmdline"] or [])
            and "marauder.launch.local_supervisor" in one.info["cmdline"]
        ]
        watching.kill()
        assert self.wait(launcher, handle) == "lost"

    def test_of_two_who_submit_at_once_the_second_is_told(
        self, launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = self.job(tmp_path, "wait")
        held = local.is_held

        def hesitate(path: Path) -> bool:
            found = held(path)
            time.sleep(0.5)  # the other one looks meanwhile
            return found

        def submit(_: int) -> Handle | str:
            try:
                return launcher.submit(job)
            except UserError as error:
                return str(error)

        monkeypatch.setattr(local, "is_held", hesitate)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(submit, range(2)))
        for one in results:
            if isinstance(one, Handle):
                launcher.stop(one)
        (handle,) = [one for one in results if isinstance(one, Handle)]
        (told,) = [one for one in results if isinstance(one, str)]
        assert "a job runs there" in told
        assert self.wait(launcher, handle) == "stopped"

    def test_a_fault_of_the_program_is_written_down(
        self, launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fault(*_: object) -> None:
            raise ZeroDivisionError("a fault of the program")

        job = self.job(tmp_path)
        monkeypatch.setattr(local_supervisor, "launch_processes", fault)
        with pytest.raises(ZeroDivisionError):
            local_supervisor.supervise(job)
        assert read_json(local_supervisor.ended_file(job.folder)) == {
            "state": "failed",
            "why": "ZeroDivisionError: a fault of the program",
        }
        (job.folder / local.LOG_FILE).touch()
        assert launcher.status(Handle("local", {"folder": str(job.folder)})) == "failed"

    def test_a_handle_of_nothing_is_told(self, launcher: Launcher, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no job was submitted here"):
            launcher.status(Handle("local", {"folder": str(tmp_path)}))


def test_a_file_that_holds_no_job_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Job.read(tmp_path / "job.json")
    write_json(tmp_path / "job.json", {"folder": "x"})
    with pytest.raises(UserError, match="holds no job"):
        Job.read(tmp_path / "job.json")
