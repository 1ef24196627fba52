"""Fixtures of the run tests: a small data set, and ``marauder baseline`` as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_reef import SETTINGS, write_small_reef


@pytest.fixture(scope="session")
def small_reef(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.yaml of a small data set of drawn shapes."""
    return write_small_reef(tmp_path_factory.mktemp("reef"), test=4)


@pytest.fixture(scope="session")
def start_baseline(small_reef: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start ``marauder baseline`` on the small data set as a process of its own."""

    def start(output: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "marauder.cli.main", "baseline", "--data-yaml", str(small_reef)]
        return subprocess.Popen(
            [*command, "--output", str(output), *SETTINGS, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def uninterrupted(
    start_baseline: Callable[..., subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Output of a baseline that nothing disturbed."""
    output = tmp_path_factory.mktemp("uninterrupted")
    process = start_baseline(output)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    return output
