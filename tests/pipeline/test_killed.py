"""Real processes of a pipeline, killed at random moments and run again; two at once; signals."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import workshop

from marauder.core.file_identity import identify
from marauder.core.locks import is_held
from marauder.pipeline.record import lock_path
from marauder.pipeline.status import State
from marauder.pipeline.workspace import Workspace

SLOW = ("collect.pause=0.1", "digest.pause=0.08")


def start(root: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, workshop.__file__, str(root), *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_killed_at_ten_random_moments_the_result_is_the_same(tmp_path: Path) -> None:
    workshop.fill(tmp_path / "whole", count=12)
    workshop.do(tmp_path / "whole")
    workshop.fill(tmp_path / "killed", count=12)
    chooser = random.Random(7)
    kills = 0
    for _ in range(60):
        process = start(tmp_path / "killed", *SLOW)
        try:
            if kills < 10:
                assert process.stdout is not None
                process.stdout.readline()  # it has begun a step: starting Python takes most of the time
                process.wait(timeout=chooser.uniform(0.0, 0.4))
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            assert not is_held(lock_path(Workspace.at(tmp_path / "killed"))), "the lock must go with the process"
            continue
        assert process.returncode == 0
        break
    assert kills == 10, "the work was over before it could be killed; the test shows nothing"
    for part in ("datasets", "models"):
        whole, killed = (identify(tmp_path / name / "training" / part, True) for name in ("whole", "killed"))
        assert killed.content == whole.content
    assert workshop.pipeline_at(tmp_path / "killed").statuses()["digest"].state == State.DONE


def test_sigterm_saves_and_prints_the_command_that_goes_on(tmp_path: Path) -> None:
    workshop.fill(tmp_path, count=50)
    process = start(tmp_path, "collect.pause=0.1")
    wait_for(tmp_path / "training" / "datasets" / "collected" / "1.png", process)
    pipeline = workshop.pipeline_at(tmp_path)
    assert pipeline.statuses()["collect"].state == State.RUNNING
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 75
    assert f"{workshop.__file__} {tmp_path} collect.pause=0.1" in errors
    status = pipeline.statuses()["collect"]
    assert (status.state, status.reasons) == (State.INTERRUPTED, ("SIGTERM received",))


def test_a_second_pipeline_on_the_same_workspace_is_refused(tmp_path: Path) -> None:
    workshop.fill(tmp_path, count=200)
    first = start(tmp_path, "collect.pause=0.1")
    try:
        wait_for(tmp_path / "training" / "datasets" / "collected" / "0.png", first)
        _, errors = (second := start(tmp_path)).communicate(timeout=30)
        assert second.returncode == 2
        assert f"{tmp_path} is in use by another run (process {first.pid}" in errors
        assert first.poll() is None, "the first one must go on undisturbed"
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize("moment", ["before", "amid", "after"])
def test_a_start_over_killed_around_the_clearing_away_starts_over_again(tmp_path: Path, moment: str) -> None:
    workshop.fill(tmp_path)
    workshop.do(tmp_path)
    process = start(tmp_path, "collect.tint=9", f"collect.die={moment}")
    assert process.wait(timeout=30) == -signal.SIGKILL
    process.communicate()
    workshop.do(tmp_path, "collect.tint=9")
    for picture in (tmp_path / "images").iterdir():
        copied = (tmp_path / "training" / "datasets" / "collected" / picture.name).read_bytes()
        assert copied == bytes((value + 9) % 256 for value in picture.read_bytes())
