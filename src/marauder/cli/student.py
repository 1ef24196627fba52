"""``marauder student``: step 6, one small detector taught by an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.run_command import Option, RunCommand
from marauder.cli.train import show

if TYPE_CHECKING:
    from marauder.core.clock import Clock
    from marauder.students.settings import StudentSettings
    from marauder.students.training import StudentSummary


def _run(settings: StudentSettings, clock: Clock, resume: Path | None, fresh: bool, asked: bool) -> StudentSummary:
    from marauder.students.training import run_student

    return run_student(settings, clock, resume, fresh, asked_to_resume=asked)


def _show(_: StudentSettings, summary: StudentSummary) -> None:
    """The end of the run, then what was taught and what came of it."""
    from marauder.core.text_table import screen_width, wrapped

    show(summary.run)
    for words in summary.content["words"]:
        for line in wrapped("student: ", words, screen_width()):
            typer.echo(line)
    typer.echo(f"         {summary.report}")
    for one in summary.content["next"]:
        typer.echo(f"next:    {one['what']}:\n         {one['command']}")


STUDENT = RunCommand(
    name="student",
    help="""Train one small detector, taught by an ensemble's boxes on labelled and unlabelled pictures.

    The teacher looks at every picture once; what it is sure of is learned as far as it is probably right, where it
    doubts nothing is learned. The same command resumes after any interruption. docs/step6_student.md describes every
    setting.
    """,
    settings="marauder.students.settings:StudentSettings",
    options=(
        Option("--data-yaml", Path, "data.yaml of the data set, with splits train and val", "data"),
        Option("--teacher", Path, "detector that teaches: an ensemble's folder, or any other model"),
        Option("--unlabelled", list[str], "folders of pictures without labels: A B, or the option repeated"),
        Option("--model", str, "yolov8 or yolo11, scale t (tiny), n, s, m, l or x"),
    ),
    run=_run,
    show=_show,
    example="lessons.sure=0.6 teaching.unlabelled_share=0.7",
    listed="unlabelled",
)
app = STUDENT.app()
