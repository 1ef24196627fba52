"""``marauder pretrain``: step 1, pretrain the detector's backbone on pictures without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.run_command import Option, RunCommand
from marauder.cli.train import show_advice, show_gates

if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary
    from marauder.tasks.pretraining.settings import PretrainingSettings


def _show(_: PretrainingSettings, summary: RunSummary) -> None:
    """The end of a run in a few lines: what the probe says, the gates, the files, what to do next."""
    from marauder.core.files import read_json

    probe = read_json(summary.folder / "probe.json")
    account = (summary.folder / "step2_account.txt").read_text(encoding="utf-8").splitlines()[0]
    typer.echo(
        f"done:    {summary.epochs} epochs on {read_json(summary.folder / 'thinning.json')['trained_on']} pictures"
    )
    for note in filter(None, (summary.stopped_early, summary.longer_than_asked)):
        typer.echo(f"note:    {note}")
    typer.echo(f"probe:   {probe['verdict']}, {probe['why']}")
    show_gates(summary)
    typer.echo(f"weights: {summary.weights}\nreport:  {summary.report}")
    typer.echo(f"account: {account}\n         every tensor: {summary.folder / 'step2_account.txt'}")
    if summary.version is not None:
        typer.echo(f"version: {summary.version} of {summary.project}, in the registry")
    show_advice(summary)


PRETRAIN = RunCommand(
    name="pretrain",
    help="""Pretrain the backbone that step 2 trains, or resume; say whether its features got better.

    The same command resumes after any interruption. Every setting has a place in the settings file and can be given as
    key=value; see docs/step1_pretraining.md.
    """,
    settings="marauder.tasks.pretraining.settings:PretrainingSettings",
    options=(
        Option("--data-dir", Path, "folder of pictures, or any data set; labels are not needed", "data"),
        Option("--method", str, "moco or distillation", "pretraining.method"),
        Option("--backbone", str, "the detector of step 2: yolov8 or yolo11 with its scale", "model"),
        Option("--weights", Path, "auto (COCO weights, else random), none, yolov8n.pt, or a file"),
    ),
    show=_show,
    example="pretraining.views.snow=0.5",
)
app = PRETRAIN.app()
