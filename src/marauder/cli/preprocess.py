"""``marauder preprocess``: step 0, restore colour and contrast of underwater pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marauder.cli.resuming import ResumableCommand, Resume, checkpoint
from marauder.core.plain import Plain

app = typer.Typer(add_completion=False)


@app.command(cls=ResumableCommand, no_args_is_help=True)
def preprocess(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="any setting, as key=value: jpeg_quality=90 plan.dehaze=0.5")
    ] = None,
    input_folder: Annotated[
        Path | None, typer.Option("--input", "--input-dir", help="folder of the raw pictures, with their labels")
    ] = None,
    output_folder: Annotated[
        Path | None, typer.Option("--output", "--output-dir", help="folder to write; keeps the input's tree")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="settings file (YAML); options here take precedence")] = None,
    method: Annotated[
        str | None, typer.Option(help="auto, full, colour, dehaze, contrast, none, or manual (with plan.*)")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="processes; 0 for one a core")] = None,
    clean: Annotated[Path | None, typer.Option(help="folder of the clean pictures, for PSNR and SSIM")] = None,
    resume: Resume = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over, deleting what earlier runs wrote")] = False,
    max_hours: Annotated[float | None, typer.Option(help="stop in time, saved, after this many hours")] = None,
) -> None:
    """Enhance the pictures of a folder, or go on where it was; labels travel along.

    The same command goes on after any interruption, and does only what changed. See docs/step0_preprocessing.md.
    """
    from marauder.core.clock import Clock
    from marauder.core.settings import load_settings
    from marauder.preprocessing.job import preprocess_folder
    from marauder.preprocessing.settings import PreprocessingSettings

    checkpoint(resume, fresh, has_checkpoints=False)
    given: Plain = {
        "input": input_folder,
        "output": output_folder,
        "method": method,
        "workers": workers,
        "clean": clean,
    }
    settings = load_settings(PreprocessingSettings, config, overrides or [], **given)
    with Clock.for_hours(max_hours).listening() as clock:
        summary = preprocess_folder(settings, clock, fresh)
    typer.echo(summary.message())
