"""Evidence for the gates that every task shares: one batch trains, two short runs agree, the model learned something,
the exported one is fast."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from marauder.core.errors import UserError
from marauder.core.events import EventLog
from marauder.core.metrics import with_floor
from marauder.engine.failures import TrainingFailure
from marauder.engine.smoke import look_at_one_batch, two_short_runs
from marauder.gates.base import GateSettings
from marauder.gates.determinism import DeterminismEvidence, DeterminismSettings
from marauder.gates.floor import FloorEvidence
from marauder.gates.health import HealthEvidence
from marauder.gates.latency import LatencyEvidence, LatencySettings
from marauder.gates.sanity import SanityEvidence
from marauder.runs.task_runtime import Findings, TaskRuntime

log = logging.getLogger("marauder")


def look_before_training(name: str, settings: GateSettings, runtime: TaskRuntime, device: torch.device) -> Any:
    """The evidence of the engine's gate ``name``; the task is made for it and let go of again."""
    # Without a cache: a few batches do not pay for decoding to disk.
    task = runtime.task(None)
    training = runtime.settings.training
    try:
        if name == "sanity":
            return SanityEvidence.of(look_at_one_batch(task, training, device))
        if name == "determinism":
            assert isinstance(settings, DeterminismSettings)
            result = two_short_runs(task, training, device, settings.steps, settings.samples)
            return DeterminismEvidence.of(result, device.type)
    finally:
        task.close(remove=True)
    raise UserError(
        f"gate {name}: the task {runtime.settings.task!r} has no evidence for it; leave it out of gates.yaml"
    )


HEALTH_EVENTS = ("out_of_memory", "set_aside", "worker_died", "group_restarted", "resumed")
"""Kinds of events that a training lives through; they are counted."""


def health_evidence(folder: Path, failure: TrainingFailure | None) -> HealthEvidence:
    """How the training in ``folder`` went, with what happened on the way."""
    counts: dict[str, int] = {}
    for event in EventLog(folder / "events.jsonl").read():
        if event.get("kind") in HEALTH_EVENTS:
            counts[event["kind"]] = counts.get(event["kind"], 0) + 1
    if failure is None:
        return HealthEvidence(finished=True, counts=counts)
    return HealthEvidence(False, failure.kind, failure.step, "", str(failure), counts)


def floor_evidence(runtime: TaskRuntime, metrics: Mapping[str, float]) -> FloorEvidence:
    """The task's figure with a floor, as it was measured."""
    metric = with_floor(runtime.description.metrics)
    assert metric is not None, "the gate applies to tasks that have such a figure"
    return runtime.learned(metric, metrics.get(metric.name, math.nan))


def latency_evidence(findings: Findings, asked: GateSettings) -> LatencyEvidence:
    """The timings of the exported formats.

    Raises ``UserError`` when the format that is asked about does not give the model's answers: how fast it is says
    nothing then. Other such formats are named in a warning.
    """
    assert isinstance(asked, LatencySettings)
    for one in findings.exported:
        if one.problems:
            words = f"the exported {one.format} does not give the model's answers ({'; '.join(one.problems)})"
            if one.format == asked.format:
                raise UserError(f"{words}; see export_report.md in {one.path.parent}")
            log.warning("%s; it is not for use, see export_report.md in %s", words, one.path.parent)
    return LatencyEvidence.of(findings.latency)
