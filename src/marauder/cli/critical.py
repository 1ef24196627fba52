"""``marauder critical``: step 5, specialise the detector on critical species."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.run_command import Flag, Option, RunCommand
from marauder.cli.train import show

if TYPE_CHECKING:
    from marauder.core.clock import Clock
    from marauder.critical.settings import CriticalSettings
    from marauder.runs.gated import RunSummary


def _plan(settings: CriticalSettings, flags: frozenset[str]) -> bool:
    """Write the plan of draws where it was asked for; whether there is something to train."""
    from marauder.core.errors import UserError

    # Neither is the default: one writes a plan, the other trains for hours.
    if not flags:
        raise UserError(
            "choose what to do: --oversample writes the plan of draws (nothing is copied), --train trains; both may be "
            "given together"
        )
    if "--oversample" in flags:
        from marauder.critical.balance_plan import plan_balance

        typer.echo(plan_balance(settings).describe())
        if "--train" not in flags:
            typer.echo("next:    the same command with --train")
    return "--train" in flags


def _run(settings: CriticalSettings, clock: Clock, resume: Path | None, fresh: bool, asked: bool) -> RunSummary:
    from marauder.critical.specialisation import run_critical

    return run_critical(settings, clock, resume, fresh, asked_to_resume=asked).run


def _show(_: CriticalSettings, summary: RunSummary) -> None:
    """What changed, then the end of the run."""
    from marauder.core.files import read_json
    from marauder.core.wording import counted
    from marauder.critical.report import REPORT_JSON, REPORT_PAGE

    content = read_json(summary.folder / REPORT_JSON)
    before, after = content["before"], content["after"]
    for name in ("critical/map50", "others/map50"):
        values = [f"{one[name]:.3f}" if one[name] is not None else "–" for one in (before, after)]
        typer.echo(f"{name}: {values[0]} before, {values[1]} after")
    missing = content["stages"][-1]["missing"]
    if missing:
        suspected = summary.folder / "suspected_missing.json"
        typer.echo(f"look at: {shlex.quote(str(suspected))} ({counted(missing, 'label')} may be missing)")
    typer.echo(f"changes: {summary.folder / REPORT_PAGE}")
    show(summary)


CRITICAL = RunCommand(
    name="critical",
    help="""Specialise a detector on critical species: --oversample plans how often pictures are drawn, --train trains.

    The same command resumes after any interruption. docs/step5_critical_species.md describes every setting.
    """,
    settings="marauder.critical.settings:CriticalSettings",
    options=(
        Option("--data-dir", Path, "data set with splits train and val (or its data.yaml)", "data"),
        Option(
            "--oversample-factor",
            float,
            "pictures of critical classes are drawn at least this often",
            "balance.critical_factor",
        ),
        Option("--base-model", Path, "detector to specialise (.pt or .safetensors)"),
        Option("--critical", str, "names of the critical classes, with commas"),
        Option("--model", str, "yolov8 or yolo11, scale t (tiny), n, s, m, l or x; default: the base model's"),
    ),
    flags=(
        Flag("--oversample", "plan how often each picture is drawn"),
        Flag("--train", "train the three stages"),
    ),
    before=_plan,
    run=_run,
    show=_show,
    example="loss.focal.enabled=true keep=last",
)
app = CRITICAL.app()
