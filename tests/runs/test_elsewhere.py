"""A run beyond one disk and one launcher: checkpoints on a volume, processes started by torchrun itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_reef import SETTINGS
from test_interruption import wait_for, weights

from marauder.core.files import read_json, read_lines

Start = Callable[..., subprocess.Popen[str]]


@pytest.mark.slow
def test_a_lost_disk_goes_on_from_the_volume(start_baseline: Start, uninterrupted: Path, tmp_path: Path) -> None:
    output, volume = tmp_path / "local", tmp_path / "volume"
    tiers = f"checkpoint_tiers.volume={{address: {volume}, seconds: 0}}"
    process = start_baseline(output, tiers)
    wait_for(process, lambda: len(read_lines(output / "metrics.jsonl")) > 3 and any(volume.rglob("checkpoint_*.json")))
    process.kill()
    process.communicate()
    shutil.rmtree(output)
    text, _ = start_baseline(output, tiers).communicate(timeout=300)
    resumed = [event["step"] for event in read_lines(output / "events.jsonl") if event["kind"] == "resumed"]
    assert resumed and resumed[0] >= 3, text
    assert "determined again" not in text, "the best weights came back with the checkpoint"
    assert weights(output) == weights(uninterrupted)


@pytest.mark.slow
def test_torchrun_of_the_users_own_does_a_whole_run(small_reef: Path, tmp_path: Path) -> None:
    words = [
        "baseline", "--data-yaml", str(small_reef), "--output", str(tmp_path / "out"), *SETTINGS, "--epochs", "2"
    ]  # fmt: skip
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "marauder.cli.main",
    ]  # fmt: skip
    done = subprocess.run(
        [*command, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("done: map50") == 1
    started = [event for event in read_lines(tmp_path / "out" / "events.jsonl") if event["kind"] == "started"]
    assert [event["processes"] for event in started] == [2]
    assert read_json(tmp_path / "out" / "run.json")["state"] == "finished"
