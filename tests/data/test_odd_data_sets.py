"""The odd data sets of real users (``benchmarks/odd_data_sets.py``) are read right, or refused in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PARTS = 6


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_case_is_right(part: int, shared_data: Path) -> None:
    cases = shared_data.parent / "cases"
    if not cases.is_dir():
        pytest.skip(f"no cases at {cases}")
    names = sorted(path.parent.name for path in cases.glob("*/case.md"))
    names += ["training/name-not-utf8"] if (cases / "training").is_dir() else []
    program = [sys.executable, REPOSITORY / "benchmarks/odd_data_sets.py", "--cases", cases, "--only"]
    done = subprocess.run([*program, *names[part::PARTS]], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and " 0 wrong, 0 unknown; 0 tracebacks" in done.stdout, done.stdout + done.stderr
