"""``marauder baseline``: step 2, train the baseline detector."""

from __future__ import annotations

from pathlib import Path

from marauder.cli.run_command import Option, RunCommand
from marauder.cli.train import show

BASELINE = RunCommand(
    name="baseline",
    help="""Train the baseline detector as a gated run, or resume it; measure it, judge it, write the report.

    The same command resumes after any interruption. Every setting has a place in the settings file and can be given as
    key=value; see docs/step2_baseline.md and docs/runs.md.
    """,
    settings="marauder.tasks.detection.settings:BaselineSettings",
    options=(
        Option("--data-yaml", Path, "data.yaml of the data set, with splits train and val", "data"),
        Option("--model", str, "yolov8 or yolo11 with scale t (tiny), n, s, m, l or x"),
        Option("--weights", Path, "auto (COCO weights, else random), none, yolov8n.pt, or a file"),
        Option("--ssl-backbone", Path, "pretrained backbone to start from"),
    ),
    show=lambda _, summary: show(summary),
    example="training.optimizer.name=adamw",
)
app = BASELINE.app()
