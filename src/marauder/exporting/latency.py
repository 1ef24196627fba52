"""How long one call of the model and of each exported file takes: interleaved rounds after warm-up, p50 and p95."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from marauder.core.clock import Clock
from marauder.core.plain import Plain
from marauder.exporting.base import Run
from marauder.exporting.settings import LatencySettings

PYTORCH = "pytorch"
LEAST_ROUNDS = 5
MOST_SPREAD = 3.0
"""From this 95th percentile over the median on, something else took the processor."""
PAUSE_SECONDS = 0.005
"""Threads of the runtime measured before stop spinning within this time."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: median, 95th percentile, and how many times faster than PyTorch the median is."""

    p50: float
    p95: float
    speedup: float


@dataclass(frozen=True)
class Latency:
    """Timings by format on one machine. ``rounds``: timed calls of each; then the shape of the input."""

    timings: dict[str, Timing]
    rounds: int
    threads: int
    machine: str
    batch: int
    height: int
    width: int
    unsteady: str = ""
    """Why these figures are not those of a machine at rest, in words; empty: nothing says so."""

    def plain(self) -> Plain:
        """The fields as plain values."""
        return asdict(self)


def available_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> str:
    """The processor's name, its number of processors, and the system, as far as the system tells."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} processors, {platform.system()}"


def why_unsteady(timings: Mapping[str, Timing]) -> str:
    """Why ``timings`` look as if other work had taken the processor; empty: they do not.

    The system's load average is no witness: it counts the whole host where a container has two of its processors, and
    for a minute also the workers of the training that this run has just done.
    """
    name, worst = max(timings.items(), key=lambda item: item[1].p95 / item[1].p50)
    if worst.p95 <= MOST_SPREAD * worst.p50:
        return ""
    spread = f"the 95th percentile of {name} is {worst.p95 / worst.p50:.1f} times its median"
    return f"the processor was busy ({spread}): measure again when nothing else runs"


def measure_latency(runs: Mapping[str, Run], example: np.ndarray, settings: LatencySettings, clock: Clock) -> Latency:
    """Time every format in turn, round after round, so that what slows the machine down slows all of them alike.

    ``runs`` by format, ``PYTORCH`` among them. ``example``: float32 (B, 3, H, W). Asks the clock before every round.
    """
    threads = settings.threads or available_threads()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    try:
        for run in runs.values():
            clock.check()
            for _ in range(settings.warm_up):
                run(example)
        started = time.perf_counter()
        for count in range(settings.rounds):
            clock.check()
            if count >= LEAST_ROUNDS and time.perf_counter() - started > settings.max_seconds:
                break
            for name, run in runs.items():
                time.sleep(PAUSE_SECONDS)
                begin = time.perf_counter()
                run(example)
                seconds[name].append(time.perf_counter() - begin)
    finally:
        torch.set_num_threads(before)
    medians = {name: float(np.percentile(values, 50)) for name, values in seconds.items()}
    timings = {
        name: Timing(
            p50=medians[name] * 1e3,
            p95=float(np.percentile(values, 95)) * 1e3,
            speedup=medians[PYTORCH] / medians[name],
        )
        for name, values in seconds.items()
    }
    batch, _, height, width = example.shape
    return Latency(
        timings, len(seconds[PYTORCH]), threads, describe_machine(), batch, height, width, why_unsteady(timings)
    )
