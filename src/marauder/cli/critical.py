"""``marauder critical``: step 5, specialise the detector on critical species."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marauder.cli.train import show, speaks

if TYPE_CHECKING:
    from marauder.critical.run import CriticalSummary

OPTIONS = {"data": "--data-dir", "image_size": "--imgsz"}
"""Settings whose option has another name."""

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
def critical(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="any setting, as key=value: loss.focal.enabled=true keep=last")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="data set with splits train and val (or its data.yaml)")] = None,
    oversample: Annotated[bool, typer.Option("--oversample", help="plan how often each picture is drawn")] = False,
    oversample_factor: Annotated[
        float | None, typer.Option(help="pictures of critical classes are drawn at least this often")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="train the three stages")] = False,
    base_model: Annotated[Path | None, typer.Option(help="detector to specialise (.pt or .safetensors)")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for weights, plan and reports")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of all three stages together")] = None,
    batch_size: Annotated[int | None, typer.Option(help="pictures of one update, over all processes")] = None,
    imgsz: Annotated[
        int | None, typer.Option(help="pixels of the long side, a multiple of 32; default: the base model's")
    ] = None,
    critical: Annotated[str | None, typer.Option(help="names of the critical classes, with commas")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file (YAML); options given here come before it")] = None,
    model: Annotated[
        str | None, typer.Option(help="yolov8 or yolo11, scale t (tiny), n, s, m, l or x; default: the base model's")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where it was, which happens anyway")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over, deleting the former stages")] = False,
    max_hours: Annotated[float | None, typer.Option(help="stop in time, saved, after this many hours")] = None,
) -> None:
    """Specialise a detector on critical species: --oversample plans how often pictures are drawn, --train trains.

    The same command goes on after any interruption. docs/step5_critical_species.md tells of every setting.
    """
    from marauder.core.errors import UserError

    if not (oversample or train):
        raise UserError(
            "choose what to do: --oversample writes the plan of draws (nothing is copied), --train trains; both may be "
            "given together"
        )
    from marauder.core.clock import Clock
    from marauder.critical.settings import CriticalSettings
    from marauder.runs.recipes import load_run_settings

    words = list(overrides or [])
    named = [name.strip() for name in critical.split(",") if name.strip()] if critical else None
    single = {
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "balance.critical_factor": oversample_factor,
    }
    for key, value in single.items():
        if value is not None:
            words.append(f"{key}={value}")
    given: dict[str, Any] = {
        "data": data_dir, "output": output, "model": model, "image_size": imgsz, "base_model": base_model,
        "critical": named,
    }  # fmt: skip
    settings = load_run_settings(CriticalSettings, config, words, OPTIONS, **given)
    assert isinstance(settings, CriticalSettings)
    if oversample:
        from marauder.critical.balance_plan import plan_balance

        plan = plan_balance(settings)
        typer.echo(plan.describe())
        if not train:
            typer.echo("next:    the same command with --train")
            return
    from marauder.critical.run import run_critical

    with Clock.for_hours(max_hours).listening() as clock:
        summary = run_critical(settings, clock, None, fresh)
    if speaks():
        _show(summary)
    raise typer.Exit(summary.run.exit_status)


def _show(summary: CriticalSummary) -> None:
    """What changed, then the end of the run."""
    before, after = summary.content["before"], summary.content["after"]
    for name in ("critical/map50", "others/map50"):
        values = [f"{one[name]:.3f}" if one[name] is not None else "–" for one in (before, after)]
        typer.echo(f"{name}: {values[0]} before, {values[1]} after")
    missing = summary.content["stages"][-1]["missing"]
    if missing:
        suspected = summary.report.with_name("suspected_missing.json")
        typer.echo(f"look at: {shlex.quote(str(suspected))} ({missing} labels may be missing)")
    typer.echo(f"changes: {summary.report}")
    show(summary.run)
