"""``marauder evaluate``: measure a stored detector on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.job_command import JobCommand
from marauder.cli.options import PICTURES, Option
from marauder.core.wording import counted

if TYPE_CHECKING:
    from marauder.tasks.detection.evaluate_settings import EvaluateSettings
    from marauder.tasks.detection.evaluate_split import Measured


def _show(_: EvaluateSettings, done: tuple[Measured, Path | None]) -> None:
    from marauder.cli.class_table import class_lines, nothing_found

    measured, report = done
    figures = measured.result.overall.to_json(classes=False)
    named = ", ".join(f"{name} {figures[name]:.4f}" for name in ("map50", "map50_95"))
    count = len(measured.records)
    typer.echo(f"{named} on {counted(count, 'picture')}")
    overall = measured.result.overall.to_json()
    typer.echo("\n".join(filter(None, (*class_lines(overall), nothing_found(overall)))))
    typer.echo(f"report: {report}")


EVALUATE = JobCommand(
    name="evaluate",
    help="Measure a detector on a split, overall, by class and by every slice its attributes make; write the report.",
    settings="marauder.tasks.detection.evaluate_settings:EvaluateSettings",
    job="marauder.tasks.detection.evaluate_model:evaluate",
    options=(
        Option("--model", Path, "detector to measure (.pt or .safetensors)"),
        Option("--data-yaml --data", Path, "labelled pictures: data.yaml, or any data set of docs/formats.md", "data"),
        Option("--output --output-dir", Path, "folder for eval_report.json, figures and report.html"),
        Option("--split", str, "split to measure on; default: test"),
        Option(
            "--imgsz --image-size", int, "pixels of the long side, a multiple of 32; default: as trained", "image_size"
        ),
        Option("--pictures", Path, PICTURES),
        Option("--device", str, "auto, cpu, cuda or cuda:N; default: auto"),
    ),
    show=_show,
)
app = EVALUATE.app()
