"""The process that traces to TorchScript cannot hang its run."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from marauder.core.errors import UserError
from marauder.exporting import torchscript

STUCK = """
import os, pathlib, signal, subprocess, sys, time
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {below.pid}")
os.kill(os.getpid(), signal.SIGSTOP) if sys.argv[2] == "stopped" else time.sleep(300)
"""


def gone(number: int) -> bool:
    """Ended; one whose parent is gone may still wait for init to collect it."""
    try:
        return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("how", ["sleeping", "stopped"])
def test_a_stuck_process_is_ended_with_what_it_started(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = tmp_path / "numbers"
    monkeypatch.setattr(torchscript, "TRACING", (sys.executable, "-c", STUCK, str(numbers), how))
    monkeypatch.setattr(torchscript, "TRACING_SECONDS", 2.0)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"best\.pt for TorchScript did not end within 2 s"):
        torchscript._trace_apart("{}", Path("best.pt"))
    assert time.monotonic() - begun < 60
    started = [int(number) for number in numbers.read_text().split()]
    assert len(started) == 2
    deadline = time.monotonic() + 10
    while not all(map(gone, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, started))


def test_an_error_of_the_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchscript, "TRACING", (sys.executable, "-c", "raise SystemExit(input())"))
    assert torchscript._trace_apart("no such layer", Path("best.pt")) == (1, "no such layer\n")
