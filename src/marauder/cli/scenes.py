"""``marauder data scenes``: generated reef pictures with exact boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def scenes(
    output: Annotated[Path | None, typer.Option("--output", "--output-dir", help="Folder to write to.")] = None,
    count: Annotated[int | None, typer.Option(help="Pictures in all.", show_default="400")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same pictures.", show_default="0")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels across.", show_default="640")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels down.", show_default="480")] = None,
    clips: Annotated[
        int | None, typer.Option(help="Clips to spread them over.", show_default="six pictures a clip")
    ] = None,
    keep_clean: Annotated[
        bool, typer.Option("--keep-clean", help="Also keep each picture without water, in images_clean/.")
    ] = False,
    quality: Annotated[int | None, typer.Option(help="Quality of the JPEG files, 1 to 100.", show_default="92")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="as many as worth while")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of the settings.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over in a folder that holds other scenes.")] = False,
    max_hours: Annotated[float | None, typer.Option(help="Stop in time after so many hours.")] = None,
) -> None:
    """Generate underwater reef pictures of eight species as a plain YOLO data set, split by clip.

    Every picture is a function of the seed. The same command run again goes on where it was.
    """
    from marauder.core.clock import Clock
    from marauder.core.errors import UserError
    from marauder.core.settings import load_settings
    from marauder.scenes.settings import SceneSettings

    if output is None and config is None:
        raise UserError("say where to write: --output FOLDER")
    settings = load_settings(
        SceneSettings,
        config,
        output=output,
        count=count,
        seed=seed,
        width=width,
        height=height,
        clips=clips,
        keep_clean=keep_clean or None,
        quality=quality,
        workers=workers,
        fresh=fresh or None,
    )

    from marauder.scenes.writing import generate_scenes

    with Clock.for_hours(max_hours).listening() as clock:
        data_yaml = generate_scenes(settings, clock)
    typer.echo(f"{settings.count} pictures of {settings.number_of_clips} clips: {data_yaml}")
