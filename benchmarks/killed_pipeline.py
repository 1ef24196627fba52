"""The whole pipeline, killed with SIGKILL at random moments and run again, ends with the weights of an undisturbed run.

    python benchmarks/killed_pipeline.py --kills 10 [--config configs/demo.yaml] [--folder DIR] [step.setting=value ...]

Prints each kill with what the status said of it, then the SHA-256 of ``best.safetensors`` of both runs. Exit status 1
when they differ.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from marauder.core.files import hash_file
from marauder.pipeline.graph import Pipeline
from marauder.pipeline.workspace import Workspace

TRAIN_ALL = Path(__file__).parents[1] / "training" / "train_all.py"


def start(root: Path, arguments: argparse.Namespace, log: Path) -> subprocess.Popen[bytes]:
    """Start the pipeline on ``root``; what it says goes to ``log``."""
    words = ["--root", str(root), "--config", str(arguments.config), *arguments.overrides]
    with log.open("ab") as stream:
        return subprocess.Popen([sys.executable, str(TRAIN_ALL), *words], stdout=stream, stderr=stream)


def run_undisturbed(root: Path, arguments: argparse.Namespace) -> float:
    """Run to the end; returns the seconds it took."""
    started = time.monotonic()
    if start(root, arguments, root.with_suffix(".log")).wait() != 0:
        sys.exit(f"the undisturbed run failed; see {root.with_suffix('.log')}")
    return time.monotonic() - started


def run_killed(root: Path, arguments: argparse.Namespace, seconds: float) -> int:
    """Run with ``arguments.kills`` kills spread over the work, then to the end; returns how many there were."""
    chooser = random.Random(arguments.seed)
    kills = 0
    while True:
        process = start(root, arguments, root.with_suffix(".log"))
        try:
            limit = arguments.start_up + chooser.random() * seconds / arguments.kills
            status = process.wait(timeout=limit if kills < arguments.kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            statuses = Pipeline(Workspace.at(root), arguments.config, arguments.overrides).statuses()
            print(
                f"kill {kills}: " + ", ".join(f"{name} {found.state}" for name, found in statuses.items()), flush=True
            )
            continue
        if status != 0:
            sys.exit(f"the killed run failed with status {status}; see {root.with_suffix('.log')}")
        return kills


def main() -> None:
    """Compare both runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--config", type=Path, default=TRAIN_ALL.parents[1] / "configs" / "demo.yaml")
    parser.add_argument("--folder", type=Path, help="where both workspaces go (default: a temporary folder)")
    parser.add_argument("--start-up", type=float, default=4.0, help="seconds that starting Python and torch takes")
    parser.add_argument("overrides", nargs="*", metavar="step.setting=value")
    arguments = parser.parse_intermixed_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="killed-pipeline-"))
    folder.mkdir(parents=True, exist_ok=True)
    seconds = run_undisturbed(folder / "whole", arguments)
    kills = run_killed(folder / "killed", arguments, seconds)
    sums = [hash_file(folder / name / "training/models/baseline/best.safetensors") for name in ("whole", "killed")]
    print(f"undisturbed: {sums[0]} ({seconds:.0f} s)\nkilled {kills} times: {sums[1]}")
    print("the same weights" if sums[0] == sums[1] else "DIFFERENT WEIGHTS")
    sys.exit(sums[0] != sums[1])


if __name__ == "__main__":
    main()
