"""``marauder multiscale``: step 7, train detectors on at changing picture sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.run_command import Option, RunCommand
from marauder.cli.train import show

if TYPE_CHECKING:
    from marauder.core.clock import Clock
    from marauder.multiscale.settings import MultiScaleStepSettings
    from marauder.multiscale.training import MultiScaleSummary


def _run(
    settings: MultiScaleStepSettings, clock: Clock, resume: Path | None, fresh: bool, asked: bool
) -> MultiScaleSummary:
    from marauder.multiscale.training import run_multiscale

    return run_multiscale(settings, clock, resume, fresh, asked_to_resume=asked)


def _show(_: MultiScaleStepSettings, summary: MultiScaleSummary) -> None:
    """Of each detector what changed and the end of its run; then where the models are."""
    from marauder.core.text_table import screen_width, wrapped
    from marauder.multiscale.settings import REPORT_PAGE

    for name, run in summary.runs.items():
        typer.echo(f"{name}:")
        show(run)
        for words in summary.reports[name]["words"]:
            for line in wrapped("changes: ", words, screen_width()):
                typer.echo(line)
        typer.echo(f"         {run.folder / REPORT_PAGE}")
    for path in summary.models.values():
        typer.echo(f"model:   {path}")
    if summary.earlier:
        typer.echo(f"also there, of earlier calls: {', '.join(map(str, summary.earlier))}")


MULTISCALE = RunCommand(
    name="multiscale",
    help="""Train detectors on at changing picture sizes, so that they find small and large animals at many input sizes.

    The same command resumes after any interruption. docs/step7_multiscale.md describes every setting.
    """,
    settings="marauder.multiscale.settings:MultiScaleStepSettings",
    options=(
        Option("--data-yaml", Path, "data.yaml of the data set, with splits train and val", "data"),
        Option(
            "--base-model",
            Path,
            "detector to go on from (.pt or .safetensors); default: that of step 5, else of step 2",
            "weights",
        ),
        Option(
            "--ensemble-models",
            str,
            "several detectors instead, with commas: files, quoted patterns, folders of ensembles",
        ),
        Option(
            "--sizes",
            str,
            "picture sizes in pixels, with commas; default: at 640 pixels from 480 to 768 in steps of 32",
            "multi_scale.sizes",
        ),
        Option("--schedule", str, "even, or progressive: small sizes first", "multi_scale.schedule"),
        Option("--model", str, "yolov8 or yolo11, scale t (tiny), n, s, m, l or x; default: the base model's"),
    ),
    run=_run,
    show=_show,
    example="multi_scale.native_share=0.2",
)
app = MULTISCALE.app()
