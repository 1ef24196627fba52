"""``marauder data scenes``: generated reef pictures with exact boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.job_command import JobCommand
from marauder.cli.options import Option
from marauder.core.wording import counted

if TYPE_CHECKING:
    from marauder.scenes.settings import SceneSettings


def _show(settings: SceneSettings, data_yaml: Path) -> None:
    counts = f"{counted(settings.count, 'picture')} of {counted(settings.number_of_clips, 'clip')}"
    typer.echo(f"{counts}: {data_yaml}")


SCENES = JobCommand(
    name="scenes",
    help="""Generate underwater reef pictures of eight species as a plain YOLO data set, split by clip.

    Every picture is a function of the seed. Run again, the same command continues where it stopped.
    """,
    settings="marauder.scenes.settings:SceneSettings",
    job="marauder.scenes.writing:generate_scenes",
    options=(
        Option("--output --output-dir", Path, "folder to write to"),
        Option("--count", int, "pictures in all; default: 400"),
        Option("--seed", int, "same seed, same pictures; default: 0"),
        Option("--width", int, "pixels across; default: 640"),
        Option("--height", int, "pixels down; default: 480"),
        Option("--clips", int, "clips to spread them over; default: six pictures a clip"),
        Option("--keep-clean", bool, "also keep each picture without water, in images_clean/"),
        Option("--quality", int, "quality of the JPEG files, 1 to 100; default: 92"),
        Option("--workers", int, "processes; default: chosen automatically"),
        Option("--fresh", bool, "start over in a folder that holds other scenes"),
    ),
    show=_show,
    no_args_is_help=False,
)
app = SCENES.app()
