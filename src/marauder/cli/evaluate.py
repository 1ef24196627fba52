"""``marauder evaluate``: measure a stored detector on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marauder.cli.options import MaxHours, Pictures
from marauder.core.wording import counted

STRIDE = 32
"""Pixels of a cell of the detector's coarsest grid: pictures are whole numbers of cells wide and high."""

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def evaluate(
    model: Annotated[Path, typer.Option(help="detector to measure (.pt or .safetensors)")],
    data_yaml: Annotated[Path, typer.Option(help="labelled pictures: data.yaml, or any data set of docs/formats.md")],
    output: Annotated[Path, typer.Option(help="folder for eval_report.json, figures and report.html")],
    split: Annotated[str, typer.Option(help="split to measure on")] = "test",
    imgsz: Annotated[
        int | None, typer.Option(help="pixels of the long side, a multiple of 32; default: as trained")
    ] = None,
    pictures: Pictures = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    max_hours: MaxHours = None,
) -> None:
    """Measure a detector on a split, overall, by class and by every slice its attributes make, and write the report."""
    from marauder.core.clock import Clock
    from marauder.core.errors import UserError

    if imgsz is not None and (imgsz < STRIDE or imgsz % STRIDE):
        nearest = max(1, round(imgsz / STRIDE)) * STRIDE
        raise UserError(f"--imgsz {imgsz}: must be a multiple of {STRIDE}; choose {nearest}")

    from marauder.cli.class_table import class_lines

    # After the check: a mistyped size is told at once, and torch takes seconds to load.
    from marauder.tasks.detection.evaluate_model import evaluate_model

    with Clock.for_hours(max_hours).listening() as clock:
        measured, report = evaluate_model(
            model, data_yaml, split, clock, output=output, image_size=imgsz, pictures=pictures, device=device
        )
    figures = measured.result.overall.to_json(classes=False)
    named = ", ".join(f"{name} {figures[name]:.4f}" for name in ("map50", "map50_95"))
    count = len(measured.records)
    typer.echo(f"{named} on {counted(count, 'picture')}")
    typer.echo("\n".join(class_lines(measured.result.overall.to_json())))
    typer.echo(f"report: {report}")
