"""``marauder train``: a gated run, from pinned data and a recipe to a model with evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from marauder.cli.options import MaxHours
from marauder.cli.resuming import ResumableCommand, Resume, settings_and_start
from marauder.cli.run_command import speaks

if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary

app = typer.Typer(add_completion=False)


# Of another task's settings the mistakes in them tell.
@app.command(cls=ResumableCommand.of("marauder.tasks.detection.settings:DetectionSettings"), no_args_is_help=True)
def train(
    config: Annotated[str, typer.Argument(help="train.yaml; or a first setting as key=value, where no file is needed")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="any setting, as key=value: training.epochs=20 gate.drift.severity=warn")
    ] = None,
    resume: Resume = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over, deleting the former checkpoints")] = False,
    max_hours: MaxHours = None,
) -> None:
    """Train as a gated run, or resume it: the same command continues after any interruption.

    It ends with status 0 when no gate failed, 3 when one did, 2 for a mistake, 75 when it was stopped in time.
    `marauder config explain` describes every setting; docs/runs.md the rest.
    """
    from marauder.runs.recipes import check_run, file_and_overrides, run_layer

    settings, start, budget = settings_and_start(
        lambda _: check_run(run_layer(*file_and_overrides(config, overrides))), resume, fresh, max_hours
    )
    # After the mistakes: it loads torch.
    from marauder.runs.gated import run_gated

    with budget.listening() as clock:
        summary = run_gated(settings, clock, start, fresh, asked_to_resume=resume is not None)
    if speaks():
        show(summary)
    raise typer.Exit(summary.exit_status)


def _show_classes(summary: RunSummary) -> None:
    """The figures by class, for tasks that have them."""
    from marauder.cli.class_table import class_lines, nothing_found
    from marauder.core.files import read_json
    from marauder.runs.task_description import describe_task

    metrics, report = describe_task(summary.task).metrics, summary.folder / "eval_report.json"
    if any(metric.per_class for metric in metrics) and report.is_file():
        overall = read_json(report).get("overall", {})
        for line in class_lines(overall, metrics):
            typer.echo(line)
        if note := nothing_found(overall):
            typer.echo(note)


def _say(label: str, text: str) -> None:
    from marauder.core.text_table import screen_width, wrapped

    for line in wrapped(label, text, screen_width()):
        typer.echo(line)


def show(summary: RunSummary) -> None:
    """The end of a run in a few lines: figures, verdict, files, what to do next."""
    from marauder.core.metrics import headlines
    from marauder.core.wording import counted
    from marauder.runs.task_description import describe_task

    figures = ", ".join(
        f"{name} {value:.3f}"
        for name in headlines(describe_task(summary.task).metrics)
        if (value := summary.metrics.get(name)) is not None and value == value  # NaN: undefined
    )
    best = f"best of {counted(summary.epochs, 'epoch')}: {summary.best_epoch}"
    _say("done: ", f"{figures} on the split {summary.split} ({best})")
    _show_classes(summary)
    if summary.finished_before:
        typer.echo("it was finished before; nothing had to be done again")
    for note in filter(None, (summary.stopped_early, summary.longer_than_asked)):
        _say("note:    ", note)
    show_gates(summary)
    typer.echo(f"weights: {summary.weights}\nreport:  {summary.report}")
    if summary.version is not None:
        typer.echo(f"version: {summary.version} of {summary.project}, in the registry")
        if summary.in_production:
            typer.echo("         it is in production")
    show_advice(summary)


def show_gates(summary: RunSummary) -> None:
    """The verdict, of how many gates it is and which are not among them, and each that failed it or withholds it."""
    asked = f"{summary.gates - len(summary.not_run)} of {summary.gates} asked; not run: {', '.join(summary.not_run)}"
    _say("gates:   ", summary.verdict + (f" ({asked})" if summary.not_run else ""))
    for why in summary.failed:
        _say("  failed: ", why)
    if summary.withheld:
        _say("  not offered for production: ", summary.withheld)


def show_advice(summary: RunSummary) -> None:
    """What to do next, commands in lines of their own."""
    from marauder.reporting.advice import PROMOTE

    for one in summary.advice:
        # A registry that did not answer has nothing to promote yet, and what is in production needs no promotion.
        if one.kind != PROMOTE or (summary.version is not None and not summary.in_production):
            _say("next:    ", one.text)
            if one.command:
                typer.echo(f"         {one.command}")
