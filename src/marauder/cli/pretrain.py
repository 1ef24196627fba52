"""``marauder pretrain``: step 1, pretrain the detector's backbone on pictures without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marauder.cli.train import speaks

if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary
    from marauder.tasks.pretraining.settings import PretrainingSettings

OPTIONS = {"data": "--data-dir", "model": "--backbone", "image_size": "--imgsz"}
"""Settings whose option has another name."""

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def pretrain(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="any setting, as key=value: pretraining.views.snow=0.5")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="folder of pictures, or any data set; labels are not needed")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="folder for the backbone, the probe and the report")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file (YAML); options given here come before it")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the pictures left after thinning")] = None,
    batch_size: Annotated[int | None, typer.Option(help="pictures of one forward pass, over all processes")] = None,
    accumulate: Annotated[
        int, typer.Option(min=1, help="forward passes of one update; needs --batch-size: their product is the batch")
    ] = 1,
    method: Annotated[str | None, typer.Option(help="moco or distillation")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="the detector of step 2: yolov8 or yolo11 with its scale")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="detector or backbone to start from (.pt or .safetensors)")] = None,
    imgsz: Annotated[int | None, typer.Option(help="pixels of a side of a view, a multiple of 32")] = None,
    processes: Annotated[int | None, typer.Option(help="training processes on this machine, one for each GPU")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on from this checkpoint instead of the newest")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over, deleting the former checkpoints")] = False,
    max_hours: Annotated[float | None, typer.Option(help="stop in time, saved, after this many hours")] = None,
) -> None:
    """Pretrain the very backbone that step 2 trains, or go on where it was; say whether it helped.

    The same command goes on after any interruption. Every setting has a place in the settings file and can be given as
    key=value; see docs/step1_pretraining.md.
    """
    from marauder.core.clock import Clock
    from marauder.runs.recipes import load_run_settings
    from marauder.tasks.pretraining.run import pretrain as run
    from marauder.tasks.pretraining.settings import PretrainingSettings

    batch, micro = batches(batch_size, accumulate, processes or 1)
    words = list(overrides or [])
    options = {
        "training.epochs": epochs, "training.batch_size": batch, "training.micro_batch_size": micro,
        "training.device": device, "pretraining.method": method,
    }  # fmt: skip
    words += [f"{key}={value}" for key, value in options.items() if value is not None]
    given: dict[str, Any] = {
        "data": data_dir, "output": output, "model": backbone, "init": init, "image_size": imgsz,
        "processes": processes,
    }  # fmt: skip
    settings = load_run_settings(PretrainingSettings, config, words, OPTIONS, **given)
    assert isinstance(settings, PretrainingSettings)
    with Clock.for_hours(max_hours).listening() as clock:
        summary = run(settings, clock, resume, fresh)
    if speaks():
        show(settings, summary)
    raise typer.Exit(summary.exit_status)


def batches(batch_size: int | None, accumulate: int, processes: int) -> tuple[int | None, int | None]:
    """Pictures of one update, and of one forward pass of one process, for ``--batch-size`` and ``--accumulate``.

    Raises ``UserError`` for ``--accumulate`` without the size that it multiplies.
    """
    from marauder.core.errors import UserError

    if accumulate == 1:
        return batch_size, None
    if batch_size is None:
        raise UserError("--accumulate multiplies --batch-size: give both")
    return batch_size * accumulate, -(-batch_size // processes)


def show(settings: PretrainingSettings, summary: RunSummary) -> None:
    """The end of a run in a few lines: did it help, the gates, the files, the command of step 2."""
    from marauder.core.files import read_json
    from marauder.tasks.pretraining.report import step2_command

    probe = read_json(summary.folder / "probe.json")
    account = (summary.folder / "step2_account.txt").read_text(encoding="utf-8").splitlines()[0]
    typer.echo(
        f"done:     {summary.epochs} epochs on {read_json(summary.folder / 'thinning.json')['trained_on']} pictures"
    )
    typer.echo(f"helped:   {probe['verdict']}, {probe['why']}")
    typer.echo(f"gates:    {summary.verdict}")
    for why in summary.failed:
        typer.echo(f"  failed: {why}")
    typer.echo(f"backbone: {summary.weights}\nreport:   {summary.report}")
    typer.echo(f"transfer: {account}\n          every tensor: {summary.folder / 'step2_account.txt'}")
    if summary.version is not None:
        typer.echo(f"version:  {summary.version} of {summary.project}, in the registry")
    placed = settings.changed({"output": summary.folder})
    typer.echo(f"step 2:   {step2_command(placed)}")
