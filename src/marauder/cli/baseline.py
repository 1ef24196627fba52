"""``marauder baseline``: step 2, train the baseline detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from marauder.cli.train import show, speaks

OPTIONS = {"data": "--data-yaml", "image_size": "--imgsz"}
"""Settings whose option has another name."""

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def baseline(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="any setting, as key=value: training.optimizer.name=adamw")
    ] = None,
    data_yaml: Annotated[Path | None, typer.Option(help="data.yaml of the data set, with splits train and val")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for weights, metrics and report")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file (YAML); options given here come before it")] = None,
    model: Annotated[str | None, typer.Option(help="yolov8 or yolo11 with scale t (tiny), n, s, m, l or x")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the training pictures")] = None,
    batch_size: Annotated[int | None, typer.Option(help="pictures of one update, over all processes")] = None,
    imgsz: Annotated[int | None, typer.Option(help="pixels of the long side, a multiple of 32")] = None,
    weights: Annotated[Path | None, typer.Option(help="detector to start from (.pt or .safetensors)")] = None,
    ssl_backbone: Annotated[Path | None, typer.Option(help="pretrained backbone to start from")] = None,
    processes: Annotated[int | None, typer.Option(help="training processes on this machine, one for each GPU")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on from this checkpoint instead of the newest")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over, deleting the former checkpoints")] = False,
    max_hours: Annotated[float | None, typer.Option(help="stop in time, saved, after this many hours")] = None,
) -> None:
    """Train the baseline detector as a gated run, or go on where it was; measure it, judge it, write the report.

    The same command goes on after any interruption. Every setting has a place in the settings file and can be given as
    key=value; see docs/step2_baseline.md and docs/runs.md.
    """
    from marauder.core.clock import Clock
    from marauder.runs.gated import run_gated
    from marauder.runs.recipes import load_run_settings
    from marauder.tasks.detection.settings import BaselineSettings

    words = list(overrides or [])
    for key, value in {"training.epochs": epochs, "training.batch_size": batch_size, "training.device": device}.items():
        if value is not None:
            words.append(f"{key}={value}")
    given: dict[str, Any] = {
        "data": data_yaml,
        "output": output,
        "model": model,
        "image_size": imgsz,
        "weights": weights,
        "ssl_backbone": ssl_backbone,
        "processes": processes,
    }
    settings = load_run_settings(BaselineSettings, config, words, OPTIONS, **given)
    with Clock.for_hours(max_hours).listening() as clock:
        summary = run_gated(settings, clock, resume, fresh)
    if speaks():
        show(summary)
    raise typer.Exit(summary.exit_status)
