"""``marauder ensemble-nano`` and ``marauder ensemble-shore``: step 6, train and profile an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.run_command import Option, RunCommand

if TYPE_CHECKING:
    from marauder.core.clock import Clock
    from marauder.ensembles.member_training import EnsembleSummary
    from marauder.ensembles.training_settings import EnsembleTrainingSettings


def _run(
    settings: EnsembleTrainingSettings, clock: Clock, resume: Path | None, fresh: bool, asked: bool
) -> EnsembleSummary:
    from marauder.ensembles.member_training import train_ensemble

    return train_ensemble(settings, clock, resume, fresh, asked_to_resume=asked)


def _show(settings: EnsembleTrainingSettings, summary: EnsembleSummary) -> None:
    """A line for each member, the profile, the verdict on it."""
    from marauder.core.text_table import screen_width, table_lines, wrapped
    from marauder.deployment.device_table import device_table
    from marauder.deployment.table import profile_lines
    from marauder.ensembles.member_training import DEPLOYMENT_FILE, MEMBERS_FILE

    width = screen_width()
    names = ("map50", "map50_95", "precision", "recall")
    rows = [
        (name, *(_shown(done.metrics.get(metric)) for metric in names), done.split, done.verdict)
        for name, done in summary.members.items()
    ]
    header = ("member", *names, "split", "gates")
    typer.echo("\n".join(table_lines(header, rows, numeric=range(1, 1 + len(names)), width=width)))
    if summary.assembled is not None:
        typer.echo(f"\n{summary.assembled.summary.message()}")
    if summary.profile is not None:
        typer.echo("")
        typer.echo("\n".join(profile_lines(summary.profile, device_table(), width)))
    typer.echo("")
    typer.echo("\n".join(wrapped(f"gate energy: {summary.energy.answer}: ", summary.energy.why, width)))
    typer.echo(f"members: {summary.folder / MEMBERS_FILE}\nprofile: {summary.folder / DEPLOYMENT_FILE}")


def _shown(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"  # NaN: undefined


def _command(kind: str, settings: str, what: str) -> RunCommand:
    return RunCommand(
        name=f"ensemble-{kind}",
        help=f"""Train {what}, and work out what it costs on a device.

        Members differ in what they are for (high recall, balanced, high precision), their seed and the clips they learn
        from; each is a gated run. On several GPUs several are trained at once. The same command resumes after any
        interruption. docs/step6_ensembles.md describes every setting.
        """,
        settings=f"marauder.ensembles.training_settings:{settings}",
        options=(
            Option("--data-yaml", Path, "data.yaml of the data set, with splits train and val", "data"),
            Option("--base-model", Path, "detector that members of its architecture start from"),
            Option("--members", list[str], "yolov8m:high_recall yolov8l:balanced …; or how many of the usual ones"),
            Option("--at-once", int, "members trained at once; default: one for each GPU"),
        ),
        run=_run,
        show=_show,
        example="deployment.cameras=2 bagging.kind=bootstrap",
        listed="members",
    )


NANO = _command("nano", "NanoSettings", "the members of an ensemble for a board in the field")
SHORE = _command("shore", "ShoreSettings", "the members of the large ensemble for machines ashore")
nano_app, shore_app = NANO.app(), SHORE.app()
