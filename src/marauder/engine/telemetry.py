"""How a training runs, in numbers: losses, gradient norm, waiting for data, speed and memory between two reports.

Between reports only sums are kept; memory is looked at when a report is made, at most once in ``MEMORY_SECONDS``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import psutil
import torch

from marauder.engine.timing import Stopwatch

MEMORY_SECONDS = 2.0
GIGABYTE = 1e9
ASIDE = ("evaluation", "checkpoint", "sanity")
"""Phases whose time is no part of a step's."""


class Telemetry:
    """Adds up the numbers of updates; ``report`` gives their means since the last report and starts anew.

    A report has ``train/<part of the loss>`` and ``train/loss`` (their sum), ``learning_rate``, ``gradient_norm/mean``
    and ``/max`` (before clipping; updates that a loss scaler skipped are left out), ``data_wait/seconds`` a step and
    ``data_wait/share`` (0..1 of a step's time), ``update/seconds`` a step (all but waiting for data),
    ``pictures_per_second`` over all processes, ``memory/process_gigabytes`` (resident), and on a GPU
    ``gpu/allocated_gigabytes``, ``gpu/reserved_gigabytes`` and, where the driver reports it, ``gpu/utilisation``
    (0..1).
    """

    def __init__(self, loss_names: Sequence[str], batch_size: int, device: torch.device, stopwatch: Stopwatch) -> None:
        self.loss_names, self.batch_size, self.device, self.stopwatch = loss_names, batch_size, device, stopwatch
        self.steps = 0
        self._process = psutil.Process()
        self._utilisation_known = device.type == "cuda"
        self._memory: dict[str, float] = {}
        self._memory_read = -math.inf
        self._clear()

    def _clear(self) -> None:
        self.steps = 0
        self._losses = [0.0] * len(self.loss_names)
        self._norm_sum, self._norm_max, self._norm_count = 0.0, 0.0, 0
        self._started = time.perf_counter()
        self._phases = dict(self.stopwatch.seconds)

    def add(self, losses: Sequence[float], gradient_norm: float) -> None:
        """Take in one update: parts of its loss, and the length of its gradient (any that is not finite is skipped)."""
        self.steps += 1
        for index, loss in enumerate(losses):
            self._losses[index] += loss
        if math.isfinite(gradient_norm):
            self._norm_sum += gradient_norm
            self._norm_max = max(self._norm_max, gradient_norm)
            self._norm_count += 1

    def report(self, learning_rate: float) -> dict[str, float]:
        """The numbers since the last report, of one update at least."""
        steps = self.steps
        spent = {phase: self._since(phase) for phase in ("data", *ASIDE)}
        # A coarse clock can give 0 for the fastest of steps.
        seconds = max(time.perf_counter() - self._started - sum(spent[phase] for phase in ASIDE), 1e-9)
        values = {f"train/{name}": total / steps for name, total in zip(self.loss_names, self._losses, strict=True)}
        values["train/loss"] = sum(self._losses) / steps
        values["learning_rate"] = learning_rate
        if self._norm_count:
            values["gradient_norm/mean"] = self._norm_sum / self._norm_count
            values["gradient_norm/max"] = self._norm_max
        values["data_wait/seconds"] = spent["data"] / steps
        values["data_wait/share"] = min(spent["data"] / seconds, 1.0)
        values["update/seconds"] = max(seconds - spent["data"], 0.0) / steps
        values["pictures_per_second"] = steps * self.batch_size / seconds
        values |= self._read_memory()
        self._clear()
        return values

    def _since(self, phase: str) -> float:
        return self.stopwatch.seconds.get(phase, 0.0) - self._phases.get(phase, 0.0)

    def _read_memory(self) -> dict[str, float]:
        if time.perf_counter() - self._memory_read < MEMORY_SECONDS:
            return self._memory
        self._memory = {"memory/process_gigabytes": self._process.memory_info().rss / GIGABYTE}
        if self.device.type == "cuda":
            self._memory["gpu/allocated_gigabytes"] = torch.cuda.memory_allocated(self.device) / GIGABYTE
            self._memory["gpu/reserved_gigabytes"] = torch.cuda.memory_reserved(self.device) / GIGABYTE
            utilisation = self._read_utilisation()
            if utilisation is not None:
                self._memory["gpu/utilisation"] = utilisation
        self._memory_read = time.perf_counter()
        return self._memory

    def _read_utilisation(self) -> float | None:
        """Share of the last moment in which the GPU was busy; ``None`` for good once the driver could not say."""
        if not self._utilisation_known:
            return None
        # Needed by torch.cuda.utilization, which lets this module's own exception through.
        try:
            import pynvml
        except ModuleNotFoundError:
            self._utilisation_known = False
            return None
        try:
            return torch.cuda.utilization(self.device) / 100
        except (RuntimeError, pynvml.NVMLError):  # no driver library in this container, or a GPU that does not tell
            self._utilisation_known = False
            return None
