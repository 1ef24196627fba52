"""``marauder runs``: list runs, deliver what trackers and event sinks missed, open MLflow's pages."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from marauder.runs.index import IndexedRun

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="List runs; deliver what trackers and event sinks missed."
)

Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]


@app.command("list")
def list_runs(runs: Runs = Path("runs")) -> None:
    """Show every run: its state, verdict and main figures, and when it ran; the newest last."""
    from marauder.core.errors import UserError
    from marauder.core.metrics import headlines
    from marauder.core.text_table import screen_width, table_lines
    from marauder.runs.index import index_runs
    from marauder.runs.task_description import all_tasks

    if not runs.is_dir():
        raise UserError(f"{runs}: no such folder; name the one that holds the runs with --runs")
    found = index_runs(runs)
    if not found:
        typer.echo(f"no runs in {runs}; `marauder train` makes one")
        return
    known = dict.fromkeys(name for task in all_tasks() for name in headlines(task.metrics))
    metrics = [name for name in known if any(run.metrics.get(name) is not None for run in found)]
    header = ("run", "project", "state", "gates", *metrics, "version", "started", "took")
    numeric = range(4, 4 + len(metrics))
    for line in table_lines(header, [row(run, metrics) for run in found], numeric, width=screen_width()):
        typer.echo(line)


@app.command()
def deliver(
    run: Annotated[list[str] | None, typer.Argument(help="Names of runs; default: all of the folder.")] = None,
    runs: Runs = Path("runs"),
    refused: Annotated[
        bool, typer.Option("--refused", help="Also offer again what was refused for good before.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, help="Most seconds for the trackers, and sinks, of a run.")] = 300.0,
) -> None:
    """Deliver to trackers and event sinks what they missed while they failed or were away.

    Exits with status 1 if something is still missing; deliveries made are kept.
    """
    from marauder.core.errors import UserError
    from marauder.runs.redelivery import deliver_run, has_followers

    folders = [runs / name for name in run or []] or sorted(path for path in runs.glob("*") if has_followers(path))
    for folder in folders:
        if not has_followers(folder):
            raise UserError(f"{folder}: is not a run with trackers or sinks; `marauder runs list` shows the runs")
    missing = 0
    for folder in folders:
        for one in deliver_run(folder, seconds, refused):
            words = f"{one.run}: {one.follower}: {one.sent:,} records delivered"
            words += f", {one.refused:,} refused" if one.refused else ""
            words += f", {one.missing:,} still missing: {one.problem}" if one.missing else ""
            typer.echo(words)
            missing += one.missing
    if missing:
        raise typer.Exit(1)
    typer.echo("nothing is missing")


@app.command()
def ui(
    runs: Runs = Path("runs"),
    folder: Annotated[Path | None, typer.Option(help="Folder of the MLflow store; default: mlflow in --runs.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    show: Annotated[bool, typer.Option("--show", help="Only print the command.")] = False,
) -> None:
    """Open MLflow's own pages over the runs' store, for this machine only (127.0.0.1)."""
    import shlex

    from marauder.core.errors import UserError
    from marauder.tracking.mlflow_store import QUIET, MlflowSettings, follow_move, locate, newest_runs

    store = locate(MlflowSettings(folder=folder), runs)
    if store.database is None:
        typer.echo(f"the runs are on a server: {store.uri}")
        return
    if not store.database.exists() and not show:
        raise UserError(
            f"{store.database}: is not there; a run with the tracker mlflow makes it, or name it with --folder"
        )
    # Named from its own folder: not every path can stand in a URI.
    words = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{store.database.name}"]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    if show:
        typer.echo(f"cd {shlex.quote(str(store.database.parent))} && {shlex.join(words)}")
    else:
        # MLflow notes absolute places of artifacts, which moving the folder leaves behind.
        follow_move(store)
        address = f"http://127.0.0.1:{port}{newest_runs(store.database)}"
        typer.echo(f"open {address} once MLflow has started (Ctrl-C ends it)")
        sys.stdout.flush()
        # ``exec``, not a child: the server takes this process's place, and with it Ctrl-C.
        os.chdir(store.database.parent)
        os.execve(words[0], words, {**QUIET, **os.environ})


def row(run: IndexedRun, metrics: Sequence[str]) -> list[str]:
    """The cells of a run in the table."""
    from marauder.core.clock import describe_seconds
    from marauder.core.wording import local_time

    verdict = run.verdict or "-"
    if run.about.get("withheld"):
        verdict += ", withheld"
    values = [run.metrics.get(name) for name in metrics]
    return [
        run.folder.name,
        str(run.about.get("project") or ""),
        run.state,
        verdict,
        *("" if value is None else f"{float(value):.3f}" for value in values),
        str(run.about.get("version") or ""),
        local_time(run.started) if run.started else "",
        describe_seconds(run.seconds) if run.seconds else "",
    ]
