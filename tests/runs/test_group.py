"""Trainings in two processes, one of them really killed, stopped or short of memory: the group goes on by itself."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from marauder.core.files import hash_file, read_json, read_lines
from metadata_service import metadata_service

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def undisturbed(start_baseline: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a training in two processes that nothing disturbed."""
    output = tmp_path_factory.mktemp("undisturbed")
    text, _ = (process := start_baseline(output, "--processes", "2")).communicate(timeout=300)
    assert process.returncode == 0, text
    return output


def steps_saved(output: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    found = sorted((output / "checkpoints").glob("checkpoint_0*.json"))
    return int(found[-1].stem.split("_")[1]) if found else 0


def worker(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    """The training process of ``rank`` that ``process`` launched."""
    children = psutil.Process(process.pid).children()
    return next(child for child in children if child.environ().get("RANK") == str(rank))


def wait_for_step(process: subprocess.Popen[str], output: Path, step: int) -> None:
    """Wait until a checkpoint of ``step`` or later is there."""
    deadline = time.monotonic() + 120
    while steps_saved(output) < step:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.005)


def happened(output: Path) -> list[dict[str, Any]]:
    """How the group fared."""
    kinds = ("started", "resumed", "worker_died", "group_restarted", "interrupted")
    return [event for event in read_lines(output / "events.jsonl") if event["kind"] in kinds]


def weights(output: Path) -> tuple[str, str]:
    return hash_file(output / "best.safetensors"), hash_file(output / "last.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_costs_seconds_and_not_one_bit(
    start_baseline: Start, undisturbed: Path, tmp_path: Path, rank: int
) -> None:
    process = start_baseline(tmp_path, "--processes", "2", "--fresh")
    wait_for_step(process, tmp_path, 9)
    killed_at = time.time()
    worker(process, rank).send_signal(signal.SIGKILL)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    events = happened(tmp_path)
    assert [event["kind"] for event in events] == ["started", "worker_died", "group_restarted", "resumed"], text
    assert (events[1]["rank"], events[1]["status"]) == (rank, -signal.SIGKILL)
    assert events[1]["time"] - killed_at < 5, "the others do not wait for a timeout"
    assert events[3]["step"] >= 9
    assert "restart 1 of 3" in text
    assert weights(tmp_path) == weights(undisturbed)


@pytest.mark.slow
def test_a_process_that_stands_still_is_noticed_by_the_others(
    start_baseline: Start, undisturbed: Path, tmp_path: Path
) -> None:
    process = start_baseline(tmp_path, "--processes", "2", "training.hang_timeout=3")
    wait_for_step(process, tmp_path, 6)
    worker(process, 1).send_signal(signal.SIGSTOP)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    evidence = read_json(tmp_path / "hang_rank0.json")
    assert evidence["phase"] in ("update", "agreement", "evaluation")
    died = next(event for event in happened(tmp_path) if event["kind"] == "worker_died")
    assert "made no progress" in died["why"]
    assert "wait for rank 1" in died["why"]
    assert weights(tmp_path) == weights(undisturbed)


SHORT = """
import os
if os.environ.get("RANK") == "1":
    import torch
    from marauder.tasks.detection.training import DetectionTask
    inputs, calls = DetectionTask.inputs, []
    def short(self, batch):
        calls.append(None)
        if len(batch["images"]) > 1 and len(calls) > 4:
            raise torch.OutOfMemoryError("planted: out of memory")
        return inputs(self, batch)
    DetectionTask.inputs = short
"""


@pytest.mark.slow
def test_one_process_out_of_memory_makes_all_take_less_at_a_time(start_baseline: Start, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "sitecustomize.py").write_text(SHORT, encoding="utf-8")
    output = tmp_path / "output"
    process = start_baseline(output, "--processes", "2", environment={"PYTHONPATH": str(planted)})
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    events = happened(output)
    assert [event["kind"] for event in events] == ["started", "group_restarted", "resumed"]
    assert "out of memory at step 4 on rank 1" in events[1]["why"]
    assert events[2]["step"] == 3
    assert read_json(output / "micro_batch.json")["micro_batch_size"] == 1
    assert len(read_lines(output / "metrics.jsonl")) == 10


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_spot_instance_that_is_told_saves_leaves_and_goes_on_elsewhere(
    start_baseline: Start, uninterrupted: Path, undisturbed: Path, tmp_path: Path, processes: int
) -> None:
    with metadata_service() as service:
        notices = [
            "notices.sources=[ec2]", f"notices.options={{ec2: {{endpoint: '{service.endpoint}'}}}}",
            "notices.seconds=0.05", "--processes", str(processes),
        ]  # fmt: skip
        process = start_baseline(tmp_path, *notices)
        wait_for_step(process, tmp_path, 3)
        service.terminate()
        told_at = time.monotonic()
        text, _ = process.communicate(timeout=90)
    assert process.returncode == 75, text
    assert time.monotonic() - told_at < 30, "of the 120 seconds that there are"
    assert "stopped: EC2 is going to terminate this spot instance" in text
    interrupted = happened(tmp_path)[-1]
    assert interrupted["kind"] == "interrupted"
    assert steps_saved(tmp_path) == interrupted["step"] < 30
    text, _ = (process := start_baseline(tmp_path, "--processes", str(processes))).communicate(timeout=300)
    assert process.returncode == 0, text
    assert weights(tmp_path) == weights(uninterrupted if processes == 1 else undisturbed)
