"""``marauder calibrate``: views that are worth their time, calibrated scores and thresholds of trained detectors."""

from __future__ import annotations

from pathlib import Path

from marauder.cli.job_command import JobCommand
from marauder.cli.options import Option

CALIBRATE = JobCommand(
    name="calibrate",
    help="""Choose views, calibrate scores and set thresholds of trained detectors.

    Each model becomes one folder, which every command takes like a model, with a .pt beside it that Ultralytics opens
    and that stands for the folder here. Views are kept only where their gain shows; the report has reliability
    diagrams and what a perfect detector would measure. Run again, the same command continues where it stopped.
    """,
    settings="marauder.calibration.settings:CalibrateSettings",
    job="marauder.calibration.job:calibrate_models",
    options=(
        Option("--models --model", list[str], "trained detectors or predictor folders: A B, or A,B, or a glob"),
        Option(
            "--val-dataset --data --data-yaml", Path, "labelled pictures: a folder, data.yaml or any data set", "data"
        ),
        Option("--output --output-dir", Path, "folder of the calibrated models; default: calibrated"),
        Option(
            "--tta --views", str, "views to try beside the plain one, with commas; none for no view", "views.candidates"
        ),
        Option("--methods", str, "methods of calibration to choose among", "methods"),
        Option("--target", str, "what scores are to say: hit (right at IoU 0.5) or iou (overlap)"),
        Option("--threshold-rule", str, "max_f1, precision_floor, recall_floor or expected_cost", "thresholds.rule"),
        Option("--critical", str, "names of the critical classes, with commas"),
        Option("--imgsz --image-size", int, "pixels of the long side; default: as trained", "image_size"),
        Option("--device", str, "auto, cpu, cuda or cuda:N; default: auto"),
        Option("--batch", int, "pictures at a time; default: what suits the device"),
        Option("--fresh", bool, "start over, even with what is done"),
    ),
    listed="models",
    metavar="[MODEL|KEY=VALUE]...",
    words="more models, as after --models; any setting: thresholds.precision_floor=0.95",
)
app = CALIBRATE.app()
