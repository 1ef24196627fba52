"""What the steps that are gated runs have in common: settings without effect on the result, and the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from marauder.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary

AROUND_A_RUN = (
    "processes", "cache_gigabytes", "max_restarts", "runs", "id", "tracking", "registry", "events", "notices",
    "checkpoint_tiers", "store",
)  # fmt: skip
"""Settings around a run, which change nothing of its result."""


def around_a_run() -> frozenset[str]:
    """Dotted names of a run's settings that change nothing of its result: what the engine leaves out of a checkpoint's
    identity, and where and how the work is done."""
    from marauder.engine.settings import TrainingSettings

    free = set(TrainingSettings.model_fields) - set(TrainingSettings().deciding())
    return frozenset({*(f"training.{name}" for name in free), *AROUND_A_RUN})


def run_summary(done: RunSummary, workspace: Workspace) -> Mapping[str, Any]:
    """The summary of a step from that of its run. A gate that failed fails the step: raises ``GateStop``."""
    from marauder.runs.gatekeeper import GateStop

    if done.exit_status:
        raise GateStop(f"gates failed: {'; '.join(done.failed)}. The report: {done.report}")
    figures = {name: value for name, value in done.metrics.items() if isinstance(value, float)}
    return {
        **{name: round(value, 4) for name, value in figures.items()},
        "measured_on": f"the split {done.split}",
        "gates": done.verdict,
        "epochs": done.epochs,
        "report": workspace.relative(done.report),
    }
