"""``marauder baseline``: step 2, train the baseline detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from marauder.cli.run_command import Option, RunCommand
from marauder.cli.train import show

if TYPE_CHECKING:
    from marauder.core.clock import Clock
    from marauder.runs.gated import RunSummary
    from marauder.tasks.detection.settings import BaselineSettings


def _run(settings: BaselineSettings, clock: Clock, resume: Path | None, fresh: bool) -> RunSummary:
    from marauder.runs.gated import run_gated

    return run_gated(settings, clock, resume, fresh)


BASELINE = RunCommand(
    name="baseline",
    help="""Train the baseline detector as a gated run, or go on where it was; measure it, judge it, write the report.

    The same command goes on after any interruption. Every setting has a place in the settings file and can be given as
    key=value; see docs/step2_baseline.md and docs/runs.md.
    """,
    settings="marauder.tasks.detection.settings:BaselineSettings",
    options=(
        Option("--data-yaml", "data", Path, "data.yaml of the data set, with splits train and val"),
        Option("--model", "model", str, "yolov8 or yolo11 with scale t (tiny), n, s, m, l or x"),
        Option("--weights", "weights", Path, "detector to start from (.pt or .safetensors)"),
        Option("--ssl-backbone", "ssl_backbone", Path, "pretrained backbone to start from"),
    ),
    run=_run,
    show=lambda _, summary: show(summary),
    example="training.optimizer.name=adamw",
)
app = BASELINE.app()
