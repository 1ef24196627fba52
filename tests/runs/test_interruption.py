"""Killing real training processes: the same command goes on, and the weights are those of an undisturbed run."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marauder.core.files import hash_file, read_json, read_lines

Start = Callable[..., subprocess.Popen[str]]


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until ``condition`` holds or the process ends."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)


def steps_saved(output: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    found = sorted((output / "checkpoints").glob("checkpoint_*.json"))
    return int(found[-1].stem.split("_")[1]) if found else 0


def kill_after(process: subprocess.Popen[str], output: Path, step: int, delay: float) -> bool:
    """SIGKILL the process ``delay`` seconds after its checkpoint of ``step`` or later; False if it ended before."""
    wait_for(process, lambda: steps_saved(output) >= step)
    time.sleep(delay)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def weights(output: Path) -> tuple[str, str]:
    """Hashes of both weights files."""
    return hash_file(output / "best.safetensors"), hash_file(output / "last.safetensors")


@pytest.mark.slow
def test_killed_at_random_steps_ends_with_the_same_weights(
    start_baseline: Start, uninterrupted: Path, tmp_path: Path
) -> None:
    draw = random.Random(7)
    kills = 0
    for step in sorted(draw.sample(range(1, 26), 4)):
        kills += kill_after(start_baseline(tmp_path), tmp_path, step, draw.uniform(0.0, 0.15))
    text, _ = start_baseline(tmp_path).communicate(timeout=300)
    assert kills >= 3
    assert weights(tmp_path) == weights(uninterrupted), text
    rows = [(row["epoch"], row["val/map50"]) for row in read_lines(tmp_path / "metrics.jsonl")]
    assert rows == [(row["epoch"], row["val/map50"]) for row in read_lines(uninterrupted / "metrics.jsonl")]


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written_and_with_a_damaged_newest(
    start_baseline: Start, uninterrupted: Path, tmp_path: Path
) -> None:
    # A slow disk: every flush takes a while, so that the kill falls into a write.
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import os, time\nflush = os.fsync\ndef fsync(descriptor):\n    time.sleep(0.15)\n    flush(descriptor)\n"
        "os.fsync = fsync\n",
        encoding="utf-8",
    )
    output = tmp_path / "output"
    checkpoints = output / "checkpoints"
    process = start_baseline(output, environment={"PYTHONPATH": str(slow)})
    wait_for(process, lambda: steps_saved(output) >= 6)
    wait_for(process, lambda: any(checkpoints.glob(".checkpoint_*.partial")))
    process.kill()
    process.communicate()
    assert any(checkpoints.glob(".checkpoint_*.partial")), "the kill did not fall into a write"
    newest = max(checkpoints.glob("checkpoint_0*.pt"))
    if not newest.with_suffix(".json").exists():
        newest = sorted(checkpoints.glob("checkpoint_0*.json"))[-1].with_suffix(".pt")
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    newest.write_bytes(content)
    text, _ = start_baseline(output).communicate(timeout=300)
    assert "falling back" in text
    assert weights(output) == weights(uninterrupted)
    assert not any(checkpoints.glob(".checkpoint_*.partial"))


@pytest.mark.slow
def test_sigterm_saves_and_leaves_with_75_and_the_command_that_goes_on(
    start_baseline: Start, uninterrupted: Path, tmp_path: Path
) -> None:
    process = start_baseline(tmp_path)
    wait_for(process, lambda: steps_saved(tmp_path) >= 3)
    started = time.monotonic()
    process.terminate()
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 75, text
    assert time.monotonic() - started < 5
    assert "SIGTERM received" in text
    assert re.search(r"baseline --data-yaml .* --output", text)
    interrupted = [event for event in read_lines(tmp_path / "events.jsonl") if event["kind"] == "interrupted"]
    assert steps_saved(tmp_path) == interrupted[-1]["step"]
    start_baseline(tmp_path).communicate(timeout=300)
    assert weights(tmp_path) == weights(uninterrupted)


@pytest.mark.slow
def test_several_time_budgets_in_a_row_finish_the_work(
    start_baseline: Start, uninterrupted: Path, tmp_path: Path
) -> None:
    statuses = []
    for seconds in (0.01, 0.01, 0.01, 300):  # a budget that is spent at once still does a step
        process = start_baseline(tmp_path, "--max-hours", str(seconds / 3600))
        text, _ = process.communicate(timeout=300)
        statuses.append(process.returncode)
        assert steps_saved(tmp_path) >= len(statuses), text
    assert statuses == [75, 75, 75, 0]
    assert weights(tmp_path) == weights(uninterrupted)


@pytest.mark.slow
def test_one_process_goes_on_as_two_and_two_stop_together(start_baseline: Start, tmp_path: Path) -> None:
    kill_after(start_baseline(tmp_path), tmp_path, 6, 0.0)
    before = steps_saved(tmp_path)
    process = start_baseline(tmp_path, "--processes", "2")
    wait_for(process, lambda: steps_saved(tmp_path) > before)
    process.terminate()
    text, _ = process.communicate(timeout=90)
    assert process.returncode == 75, text
    process = start_baseline(tmp_path, "--processes", "2")
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    events = read_lines(tmp_path / "events.jsonl")
    assert [event["processes"] for event in events if event["kind"] in ("started", "resumed")] == [1, 2, 2]
    resumed = [event["step"] for event in events if event["kind"] == "resumed"]
    assert resumed[0] >= before > 0
    summary = read_json(tmp_path / "run.json")
    assert summary["epochs"] == 10
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 10
