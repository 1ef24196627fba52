"""Loaders that die or give nothing, and processes that hang: noticed, named, ended; the same command goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import LineTask, make_trainer

from marauder.core.files import hash_file, read_json, read_lines
from marauder.engine.failures import EXIT_HUNG, TrainingFailure
from marauder.engine.loader import Loader, Order
from marauder.engine.timing import Moment, Stopwatch
from marauder.engine.watchdog import Stillness


def step_of(index: int, epochs: int = 3) -> int:
    """The update in which the sample ``index`` is first drawn by a trainer of ``toy``."""
    order = Order(16, 4, 0, epochs)
    return next(step for step in range(order.total_steps) if any(key.index == index for key in order.batch(0, step)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_loading_process_is_noticed_at_once_and_named(tmp_path: Path, workers: int) -> None:
    started = time.monotonic()
    with pytest.raises(TrainingFailure, match=r"rank 0: a loading process ended while it loaded") as failure:
        make_trainer(LineTask(kill_at=7), tmp_path, workers=workers).fit()
    assert time.monotonic() - started < 20, "long before any timeout"
    assert failure.value.kind == "dead_loader"
    at = step_of(7)
    assert f"batch of step {at} " in str(failure.value)
    assert "picture7.png" in str(failure.value)
    event = read_lines(tmp_path / "events.jsonl")[-1]
    assert (event["kind"], event["failure"]) == ("failed", "dead_loader")
    make_trainer(LineTask(), tmp_path, workers=workers).fit()  # the picture is mended
    make_trainer(LineTask(), tmp_path / "whole").fit()
    assert hash_file(tmp_path / "last.st") == hash_file(tmp_path / "whole" / "last.st")


def test_a_loading_process_that_gives_nothing_is_a_dead_loader(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailure, match=r"no batch for step .* within training\.loader_timeout") as failure:
        make_trainer(LineTask(stall_at=7), tmp_path, workers=1, loader_timeout=1.0).fit()
    at = step_of(7)
    assert (failure.value.kind, failure.value.step) == ("dead_loader", at)
    assert "picture7.png" in str(failure.value)


def test_an_error_of_the_program_is_not_blamed_on_the_loader() -> None:
    loader = Loader(LineTask(), Order(16, 4, 0, 1), 0, 0, 1, 0, False)
    assert loader.explain(RuntimeError("shapes do not match"), 0) is None
    assert loader.explain(RuntimeError(), 0) is None


HANGING = """
import sys, threading
sys.path.insert(0, {tests!r})
from pathlib import Path
from toy import LineTask, make_trainer

task = LineTask({fault})
if {update!r}:
    calls = iter(range(100))
    task.factor = lambda: threading.Event().wait() if next(calls) == 5 else 1.0
make_trainer(task, Path({folder!r}), hang_timeout={hang}, loader_timeout={loading}).fit()
"""


def run_hanging(folder: Path, fault: str = "", update: bool = False, hang: float = 1.0, loading: float = 300.0) -> str:
    """Train in a process of its own that hangs; returns what it said."""
    source = HANGING.format(
        tests=str(Path(__file__).parent), fault=fault, update=update, folder=str(folder), hang=hang, loading=loading
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_HUNG, done.stderr
    return done.stderr


def test_a_process_that_hangs_leaves_evidence_and_a_status_and_goes_on(tmp_path: Path) -> None:
    words = run_hanging(tmp_path, update=True)
    assert "rank 0 hangs: no progress in" in words
    assert "phase 'update'" in words
    evidence = read_json(tmp_path / "hang_rank0.json")
    assert (evidence["rank"], evidence["phase"], evidence["step"]) == (0, "update", 5)
    assert len(evidence["pictures"]) == 4
    assert evidence["seconds"] >= 1.0
    assert "in wait" in evidence["stack"]
    assert "toy.py" in evidence["stack"]
    make_trainer(LineTask(), tmp_path).fit()
    make_trainer(LineTask(), tmp_path / "whole").fit()
    assert hash_file(tmp_path / "last.st") == hash_file(tmp_path / "whole" / "last.st")
    resumed = [event["step"] for event in read_lines(tmp_path / "events.jsonl") if event["kind"] == "resumed"]
    assert resumed == [4]


def test_loading_in_the_training_process_has_the_loaders_time(tmp_path: Path) -> None:
    run_hanging(tmp_path, fault="stall_at=7", hang=60.0, loading=1.0)
    evidence = read_json(tmp_path / "hang_rank0.json")
    assert (evidence["phase"], evidence["step"]) == ("data", step_of(7))
    assert "picture7.png" in evidence["pictures"]


def test_a_long_evaluation_is_no_hang(tmp_path: Path) -> None:
    task = LineTask()
    score = task.scores

    def slowly(number: int) -> dict[str, float]:
        time.sleep(0.8)
        return score(number)

    task.scores = slowly
    assert make_trainer(task, tmp_path, hang_timeout=0.4, epochs=2).fit().epochs == 2
    assert not (tmp_path / "hang_rank0.json").exists()


def test_seconds_in_which_nothing_could_go_on_do_not_count() -> None:
    first, second = Moment("update"), Moment("update")
    stillness = Stillness(1.0, first, 0.0)
    assert [stillness.look(first, seconds) for seconds in (1.0, 2.0)] == [1.0, 2.0]
    assert stillness.look(first, 5000.0) == 4.0, "the machine slept"
    assert stillness.look(second, 5001.0) == 0.0, "another step, though the phase has the same name"
    assert stillness.look(second, 5002.0) == 1.0


def test_the_stopwatch_makes_a_new_moment_at_every_change() -> None:
    stopwatch = Stopwatch()
    seen = [stopwatch.now]
    for _ in range(2):
        with stopwatch.measure("update"):
            seen.append(stopwatch.now)
            with stopwatch.measure("checkpoint"):
                seen.append(stopwatch.now)
            seen.append(stopwatch.now)
        seen.append(stopwatch.now)
    assert len({id(moment) for moment in seen}) == len(seen)
    inside = ["update", "checkpoint", "update", "between phases"]
    assert [moment.phase for moment in seen] == ["between phases", *inside, *inside]
