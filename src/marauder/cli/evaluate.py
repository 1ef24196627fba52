"""``marauder evaluate``: measure a stored detector on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    pictures: Annotated[Path | None, typer.Option(help="folder of the pictures, where not beside their labels")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")] = "auto",
    max_hours: Annotated[float | None, typer.Option(help="stop in time after this many hours")] = None,
) -> None:
    """Measure a detector on a split, overall, by class and by every slice its attributes make, and write the report."""
    from marauder.core.clock import Clock
    from marauder.core.errors import UserError, printable

    if imgsz is not None and (imgsz < STRIDE or imgsz % STRIDE):
        nearest = max(1, round(imgsz / STRIDE)) * STRIDE
        raise UserError(f"--imgsz {imgsz}: must be a multiple of {STRIDE}; choose {nearest}")

    from marauder.data.check import told
    from marauder.data.reading import read_dataset
    from marauder.data.repair import without_doubtful
    from marauder.engine.distributed import choose_device
    from marauder.reporting.run_report import write_evaluation
    from marauder.tasks.detection.evaluate_split import evaluate_split

    with Clock.for_hours(max_hours).listening() as clock:
        dataset = read_dataset(data_yaml, pictures=pictures, clock=clock)
        for line in told(dataset.problems):
            typer.echo(printable(line), err=True)
        dataset, set_aside = without_doubtful(dataset)
        if set_aside:
            typer.echo(f"{len(set_aside):,} pictures set aside: their labels say too little to measure on", err=True)
        measured = evaluate_split(model, dataset, split, choose_device(device), clock, imgsz)
    facts = {"Detector": str(model), "Measured on": f"the split {split} of {data_yaml}"}
    report = write_evaluation(
        output,
        measured.result,
        measured.records,
        measured.detections,
        dataset.names,
        title=f"{model.parent.name}/{model.name} on {split}",
        facts=facts,
        history=None,
        what_next="The weakest classes and slices above are where more labelled pictures help most.",
    )
    overall = measured.result.overall
    typer.echo(f"map50 {overall.map50:.4f}, map50_95 {overall.map50_95:.4f} on {len(measured.records)} pictures")
    typer.echo(f"report: {report}")
