"""A group of real processes under watch: stopped, restarted, given up. The workers here are small scripts.

What they train, and that it is the same after a kill, is tested with real trainings in ``tests/runs``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import read_lines, write_json
from marauder.engine.failures import EXIT_HUNG, TrainingFailure
from marauder.launch import processes
from marauder.launch.base import Job
from marauder.launch.processes import launch_processes
from marauder.launch.restarts import Death, RestartPolicy, Saved, describe_status

HEAD = f"""
import os, signal, subprocess, sys, time
sys.path[:0] = {sys.path!r}
from pathlib import Path
from marauder.core.clock import Interrupted
from marauder.core.files import write_json
from marauder.engine.failures import GroupRestart, TrainingFailure
from marauder.launch.base import Job
from marauder.launch.processes import end_worker, report_outcome, stop_file

job = Job.read(Path(sys.argv[1]))
folder, rank = job.folder, int(os.environ["RANK"])
attempt = len(list(folder.glob(f"began{{rank}}.*")))
(folder / f"began{{rank}}.{{attempt}}").write_text(f"fresh={{job.fresh}} resume={{job.resume}} {{job.content}}")
(folder / f"process{{rank}}.{{attempt}}").write_text(str(os.getpid()))

def save(step):
    write_json(folder / "checkpoints" / f"checkpoint_{{step:09d}}.json", {{"step": step}})

def die(number=signal.SIGKILL):
    os.kill(os.getpid(), number)
"""

Launch = Callable[..., None]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Launch two processes of a script; its ``folder`` is ``tmp_path``."""

    def start(body: str, clock: Clock | None = None, happened: Any = None, **job: Any) -> None:
        (tmp_path / "small_worker.py").write_text(HEAD + body, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(processes, "EVIDENCE_SECONDS", 1.5)
        launch_processes(Job("small_worker", tmp_path, processes=2, **job), clock or Clock(), happened)

    return start


def attempts(folder: Path, rank: int = 0) -> list[str]:
    """What the job said at each attempt of a rank."""
    return [path.read_text() for path in sorted(folder.glob(f"began{rank}.*"))]


def alive(folder: Path) -> list[int]:
    """Processes that scripts wrote down and that still run."""
    numbers = [int(path.read_text()) for path in folder.glob("process*") if path.read_text()]
    found = [process for process in psutil.process_iter(["pid", "status"]) if process.pid in numbers]
    return [process.pid for process in found if process.info["status"] != psutil.STATUS_ZOMBIE]


def events(folder: Path) -> list[dict[str, Any]]:
    return read_lines(folder / "events.jsonl")


def test_a_killed_process_takes_the_others_along_at_once_and_all_start_again(launch: Launch, tmp_path: Path) -> None:
    heard: list[str] = []
    started = time.monotonic()
    launch(
        """
if attempt == 0 and rank == 0:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    (folder / "process_child").write_text(str(child.pid))
    save(7)
    time.sleep(3600)  # waits for the other, as in a collective
if attempt == 0:
    while not (folder / "checkpoints" / "checkpoint_000000007.json").exists():
        time.sleep(0.01)
    die()
""",
        fresh=True,
        resume=Path("old.pt"),
        content={"settings": "c.json"},
        happened=lambda kind, fields: heard.append(kind),
    )
    assert time.monotonic() - started < 15
    expected = ["fresh=True resume=old.pt {'settings': 'c.json'}", "fresh=False resume=None {'settings': 'c.json'}"]
    assert attempts(tmp_path) == attempts(tmp_path, 1) == expected
    assert alive(tmp_path) == [], "not even what they had started"
    died, restarted = events(tmp_path)
    assert (died["kind"], died["rank"], died["status"], died["step"]) == ("worker_died", 1, -9, 7)
    assert "killed by SIGKILL" in died["why"]
    assert (restarted["kind"], restarted["step"]) == ("group_restarted", 7)
    assert heard == ["worker_died", "group_restarted"]
    assert not list(tmp_path.glob(".outcome*"))


def test_what_starts_a_training_over_counts_until_something_is_saved(launch: Launch, tmp_path: Path) -> None:
    write_json(tmp_path / "checkpoints" / "checkpoint_000000099.json", {"step": 99})  # of the training given up
    launch("if rank == 0 and attempt < 2: die()", fresh=True)
    assert attempts(tmp_path) == ["fresh=True resume=None {}"] * 3


def test_a_group_that_keeps_dying_is_given_up(launch: Launch, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure, match=r"rank 0 was killed by SIGKILL.*2 times without") as failure:
        launch("if rank == 0: die()\ntime.sleep(3600)", max_restarts=2)
    assert failure.value.kind == "died"
    assert len(attempts(tmp_path)) == 3


def test_restarts_are_counted_anew_after_progress(launch: Launch, tmp_path: Path) -> None:
    launch("if rank == 0 and attempt < 4:\n    save(attempt)\n    die()", max_restarts=1)
    assert len(attempts(tmp_path)) == 5


def test_an_error_of_the_program_that_comes_back_is_not_tried_again_and_again(launch: Launch, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure, match="ended by an error"):
        launch("if rank == 0: raise ValueError\ntime.sleep(0.5)", max_restarts=5)
    assert len(attempts(tmp_path)) == 2


def test_a_failure_of_any_rank_is_told_as_it_was(launch: Launch, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure, match="no batch came") as failure:
        launch("""
if rank == 1:
    end_worker(folder, TrainingFailure("rank 1: no batch came", "dead_loader", 12))
time.sleep(3600)
""")
    assert (failure.value.kind, failure.value.step) == ("dead_loader", 12)
    assert len(attempts(tmp_path)) == 1
    assert alive(tmp_path) == []
    (event,) = events(tmp_path)
    assert (event["kind"], event["rank"], event["failure"]) == ("failed", 1, "dead_loader")


def test_a_process_that_asks_for_a_new_start_gets_it_without_counting(launch: Launch, tmp_path: Path) -> None:
    launch(
        "if rank == 1 and attempt < 3: end_worker(folder, GroupRestart('take less', 'out_of_memory', 1))\n"
        # A rank that is ended before it could write anything down does not know which attempt it is.
        "while rank == 0 and not (folder / 'began1.3').exists(): time.sleep(0.05)",
        max_restarts=0,
    )
    assert len(attempts(tmp_path, rank=1)) == 4
    assert [event["kind"] for event in events(tmp_path)] == ["group_restarted"] * 3


def test_a_hang_is_told_with_what_the_ranks_saw(launch: Launch, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure) as failure:
        launch(
            f"""
time.sleep(0.5 * rank)
write_json(folder / f"hang_rank{{rank}}.json", {{
    "rank": rank, "phase": ["update", "data"][rank], "seconds": 9.0, "time": time.time(), "step": 5,
    "pictures": ["reef.png"]}})
os._exit({EXIT_HUNG})
""",
            max_restarts=0,
        )
    assert failure.value.kind == "hung"
    assert "rank 1 made no progress for 9 s in the phase 'data' of step 5 (reef.png)" in str(failure.value)


WAITS = """
while not stop_file(folder).exists():
    time.sleep(0.02)
end_worker(folder, Interrupted(stop_file(folder).read_text() + "; saved at step 3"))
"""


def notice_soon(clock: Clock, folder: Path) -> None:
    """Set a notice once both processes run."""

    def wait() -> None:
        while not (list(folder.glob("process0.*")) and list(folder.glob("process1.*"))):
            time.sleep(0.02)
        clock.notice = "the machine goes away"

    threading.Thread(target=wait, daemon=True).start()


def test_a_reason_to_stop_reaches_all_and_their_word_comes_back(launch: Launch, tmp_path: Path) -> None:
    clock = Clock()
    notice_soon(clock, tmp_path)
    with pytest.raises(Interrupted, match="the machine goes away; saved at step 3"):
        launch(WAITS, clock=clock)
    assert len(attempts(tmp_path)) == 1
    assert not (tmp_path / ".stop").exists()


@pytest.mark.parametrize("body", ["time.sleep(3600)", "if rank: time.sleep(1); die()\n" + WAITS])
def test_processes_that_do_not_stop_in_time_are_ended_and_not_started_again(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 1.5)
    clock = Clock()
    notice_soon(clock, tmp_path)
    with pytest.raises(Interrupted, match="the machine goes away; the processes did not all stop in time"):
        launch(body, clock=clock)
    assert len(attempts(tmp_path)) == 1
    assert alive(tmp_path) == []


@pytest.mark.parametrize(("status", "kind"), [(2, UserError), (75, Interrupted)])
def test_processes_that_do_not_get_to_the_training_are_not_started_again(
    launch: Launch, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        launch(f"sys.exit({status})")
    assert len(attempts(tmp_path)) == 1


def test_a_group_that_is_done_leaves_nothing(launch: Launch, tmp_path: Path) -> None:
    launch("")
    assert events(tmp_path) == []
    assert alive(tmp_path) == []
    assert "MARAUDER_LAUNCHER" not in os.environ


def test_the_policy_counts_restarts_without_progress() -> None:
    policy = RestartPolicy(2)
    assert [policy.allows(progressed, False) for progressed in (False, False, False)] == [True, True, False]
    assert policy.allows(True, False)
    assert policy.used == 1
    assert [RestartPolicy(0).allows(progressed, False) for progressed in (False, True)] == [False, False]


def test_what_was_saved_is_seen_whatever_its_number(tmp_path: Path) -> None:
    assert Saved.look(tmp_path).step is None
    write_json(tmp_path / "checkpoint_000000099.json", {})
    before = Saved.look(tmp_path)
    assert (before.step, before.is_newer_than(before)) == (99, False)
    (tmp_path / "checkpoint_000000099.json").unlink()
    assert not Saved.look(tmp_path).is_newer_than(before)
    write_json(tmp_path / "checkpoint_000000003.json", {})
    assert Saved.look(tmp_path).is_newer_than(before)


def test_signals_are_named() -> None:
    assert "SIGSEGV" in describe_status(Death(1, -11))
    assert "memory is short" in describe_status(Death(1, -9))
    assert "status 3" in describe_status(Death(1, 3))
    assert "signal 63" in describe_status(Death(1, -63))
