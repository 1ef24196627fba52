"""``marauder pipeline run`` and ``marauder status``: do the steps of a workspace, show where they stand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

EXIT_AWAITING = 4
"""Exit status of a pipeline that waits for something from outside."""

app = typer.Typer(no_args_is_help=True, help="Run the steps of the pipeline, each only when something changed.")
status_app = typer.Typer(help="Show the state of every step of a workspace, and why.")

Root = Annotated[
    Path | None,
    typer.Option(
        "--root", help="Folder of the workspace (default: $MARAUDER_ROOT, else ./workspace).", show_default=False
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file with a section for each step.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STEP.SETTING=VALUE]...",
        help="Settings of steps, such as baseline.training.epochs=20.",
        show_default=False,
    ),
]


# With a callback typer keeps ``run`` as a word of its own, though it is the only command.
@app.callback()
def _group() -> None:
    """Run the steps of the pipeline, each only when something changed."""


@app.command("run")
def run(
    overrides: Overrides = None,
    config: Config = None,
    root: Root = None,
    only: Annotated[str | None, typer.Option("--only", metavar="STEP", help="Only this step (name or number).")] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="STEP", help="Start at this step.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="STEP", help="End with this step.")] = None,
    max_hours: Annotated[
        float | None, typer.Option("--max-hours", help="Stop in time, everything saved; run again to resume.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start the chosen steps over, also finished ones.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until what a step waits for (annotations) has arrived.")
    ] = False,
) -> None:
    """Run the steps whose inputs or settings changed, in order; if interrupted, run it again to resume.

    Without --config, the settings are those of the workspace's last run, with those given here added.
    Exits with status 75 when time is up or the process is asked to stop, and prints the command that resumes it; with
    status 4 when a step waits for something from outside: the same command resumes once that has arrived.
    """
    from marauder.core.clock import Clock
    from marauder.core.mistakes import Mistakes
    from marauder.core.text_table import screen_width, wrapped
    from marauder.pipeline.graph import Pipeline
    from marauder.pipeline.run import last_config, run_steps, select
    from marauder.pipeline.table import pages, plan
    from marauder.pipeline.workspace import Workspace

    workspace = Workspace.at(root)
    last_settings = last_config(workspace) if config is None else None
    if last_settings is not None:
        _say(f"settings of the last run ({last_settings}); --config FILE chooses others")
    # All mistakes of all files and of the command line, before anything is touched.
    mistakes = Mistakes()
    pipeline = Pipeline(workspace, config or last_settings, overrides or [], mistakes=mistakes)
    selected, budget = pipeline.steps, Clock()
    with mistakes.gathered():
        selected = select(pipeline, only, first, last)
    with mistakes.gathered():
        budget = Clock.for_hours(max_hours)
    with budget.listening() as clock:
        mistakes.add(pipeline.look_through(selected, clock, _say, fresh))
        # A plan may be for another machine.
        notes = [one for one in mistakes.found if dry_run and one.of_this_machine]
        pipeline.layer.demand_none(one for one in mistakes.found if one not in notes)
        if dry_run:
            lines = [line for one in notes for line in wrapped("note: ", str(one), screen_width())]
            print("\n".join([plan(pipeline, selected, fresh), *lines]))
            return
        awaited = run_steps(pipeline, selected, clock, _say, fresh, wait)
    if awaited:
        _say("paused, everything saved. The same command continues once it has arrived; with --wait it waits for it")
        raise typer.Exit(EXIT_AWAITING)
    _say("all requested steps are done")
    for line in pages(pipeline, selected):
        _say(line)


@status_app.command()
def status(overrides: Overrides = None, config: Config = None, root: Root = None) -> None:
    """Show the state of every step of a workspace: done, running, interrupted, waiting, stale or failed, and why.

    Without --config the steps are compared with the settings of the last run.
    """
    from marauder.pipeline.graph import Pipeline
    from marauder.pipeline.run import last_config
    from marauder.pipeline.table import status_table
    from marauder.pipeline.workspace import Workspace

    workspace = Workspace.at(root)
    print(status_table(Pipeline(workspace, config or last_config(workspace), overrides or [])))


def _say(line: str) -> None:
    # Flushed: in a log file, the lines of a long run would come late.
    print(line, file=sys.stdout, flush=True)
