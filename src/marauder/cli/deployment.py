"""``marauder deployment``: what an ensemble costs on a device in the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from marauder.cli.job_command import JobCommand
from marauder.cli.options import Option

if TYPE_CHECKING:
    from marauder.deployment.job import Profiled
    from marauder.deployment.settings import ProfileSettings


def _show(settings: ProfileSettings, done: Profiled) -> None:
    from marauder.core.text_table import screen_width, wrapped
    from marauder.deployment.table import profile_lines
    from marauder.gates.energy import EnergyEvidence, EnergyGate, EnergySettings

    verdict = EnergyGate(EnergySettings(budget=settings.budget)).judge(EnergyEvidence(done.profile))
    width = screen_width()
    typer.echo("\n".join(profile_lines(done.profile, done.table, width)))
    typer.echo("")
    typer.echo("\n".join(wrapped(f"{verdict.answer}: ", verdict.why, width)))
    if verdict.answer == "fail":
        from marauder.gates.outcome import EXIT_GATES_FAILED

        raise typer.Exit(EXIT_GATES_FAILED)


DEPLOYMENT = JobCommand(
    name="deployment",
    help="""Work out what an ensemble costs on a device: latency, memory, watt-hours a day.

    From published figures, each with its source, and stated assumptions; nothing is measured. Exits with status 3 if
    inference and wake time need more than the budget, and names the members that fit. See docs/step6_ensembles.md.
    """,
    settings="marauder.deployment.settings:ProfileSettings",
    job="marauder.deployment.job:profile_members",
    show=_show,
    options=(
        Option("--device", str, "jetson_nano, orin_nano (default), orin_nano_super or agx_orin"),
        Option("--members", list[str], "models: yolov8m yolov8m yolo11n, each with :NAME where wanted"),
        Option("--imgsz --image-size", int, "pixels of a side; default: 640", "image_size"),
        Option("--cameras", int, "cameras that it watches; default: 1"),
        Option("--frames-per-second", float, "pictures of each camera a second; default: 1"),
        Option("--watch-seconds", float, "how long each time it wakes; default: 60"),
        Option("--wake-seconds", float, "to start and stop each time; default: 45"),
        Option("--wakes-per-day", float, "default: 96, every quarter of an hour"),
        Option("--always-on/--switched-off", bool, "never switched off; default: switched off in between"),
        Option("--budget", float, "watt-hours a day for inference and wake time; default: 40"),
    ),
    listed="members",
    no_args_is_help=False,
    metavar="[MODEL|KEY=VALUE]...",
    words="more models, as after --members; any setting: cameras=2",
)
app = DEPLOYMENT.app()
