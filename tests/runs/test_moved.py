"""A workspace that was moved under an odd path goes on, without a home folder, as the commands people type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_reef import SETTINGS, write_small_reef

from marauder.core.files import read_json, read_lines

OWN = [word for word in SETTINGS if not word.startswith(("registry.", "tracking."))]


def marauder(folder: Path, *words: str) -> str:
    """Standard output and error of a command that must succeed, in ``folder``; HOME cannot be written."""
    unset = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "YOLO_CONFIG_DIR", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HOME": "/proc/nonexistent", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder.parent / "temporary")}
    command = [sys.executable, "-m", "marauder.cli.main", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_moved_workspace_goes_on_without_a_home(tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "a b?c=%20#é"
    (tmp_path / "temporary").mkdir()
    write_small_reef(first / "data", train=8, val=4, test=4)
    data = first / "data" / "data.yaml"
    data.write_text(data.read_text().replace(f"path: {first / 'data'}\n", ""))
    baseline = ["baseline", "--data-yaml", "data/data.yaml", *OWN, "--epochs", "1", "tracking.trackers=[mlflow]"]
    said = marauder(first, *baseline, "--output", "space/one")
    assert "version: 1 of baseline" in said and said.count("caches: ") == 1
    first.rename(moved)
    runs = ["--runs", "workspace/training/runs"]
    marauder(moved, "registry", "promote", "baseline", "1", *runs, "--override", "--who", "Ada", "--why", "moved")
    before = len(read_lines(moved / "space" / "one" / "events.jsonl"))
    marauder(moved, *baseline, "--output", "space/one")
    assert len(read_lines(moved / "space" / "one" / "events.jsonl")) == before, "a finished run is done"
    marauder(moved, *baseline, "--output", "space/two", "training.seed=1", "gate.regression.draws=200")
    fetched = moved / "space" / "two" / "production" / "1" / "best.pt"
    assert fetched.read_bytes() == (moved / "space" / "one" / "best.pt").read_bytes()
    assert read_json(moved / "space" / "two" / "run.json")["version"] == "2"
    for run in ("one", "two"):
        assert read_json(moved / "space" / run / "tracking" / "mlflow.json")["failures"] == 0
    assert "nothing is missing" in marauder(moved, "runs", "deliver", "--runs", "space")
    assert not first.exists(), "the former folder is not made again"
    assert {path.name for path in tmp_path.iterdir()} == {moved.name, "temporary"}, "nothing is made beside it"
    left = {path.name for path in (tmp_path / "temporary").glob("marauder-*")}
    assert left == {f"marauder-cache-{os.getuid()}"}
