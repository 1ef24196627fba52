"""``marauder predict``: a detector over pictures and videos; counts, MaxN, files for other tools, a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marauder.cli.resuming import ResumableCommand, Resume, checkpoint

OPTIONS = {"inputs": "--input", "confidence": "--conf", "model": "--model"}
"""Settings whose option has another name."""

app = typer.Typer(add_completion=False)


@app.command(cls=ResumableCommand, no_args_is_help=True)
def predict(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT|KEY=VALUE]...", help="More inputs, as after --input; any setting: iou=0.6."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Detector: .pt, .safetensors, .onnx or .torchscript, or a predictor folder.")
    ] = None,
    input: Annotated[
        list[str] | None,
        typer.Option("--input", help="Picture, video, folder, or pattern in quotes; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "--output-dir", help="Folder to write to (default: predictions).")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--conf", help="Least score, 0 to 1 (default: the model's, else 0.25).")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Names or numbers of the classes wanted, with commas.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames to look at in a second of video (default: all).")] = None,
    every: Annotated[int | None, typer.Option(help="Look at each so many-th frame of videos (default: 1).")] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="annotated, boxes, parquet, viame, coco, yolo, label_studio, cvat, or all "
            "(default: annotated,boxes,viame)."
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", "--imgsz", help="Input pixels, long side (default: model's).")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (default: auto).")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures that go through the model at once (default: 16).")] = None,
    group_pattern: Annotated[
        str | None, typer.Option(help="Regular expression; pictures whose names agree in its (?P<clip>…) are a clip.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of the settings.")] = None,
    resume: Resume = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Look at everything again, replace what is there.")] = False,
    max_hours: Annotated[float | None, typer.Option(help="Stop in time after so many hours.")] = None,
) -> None:
    """Look at pictures and videos with a detector and count what it finds.

    counts.csv, maxn.csv and report.html are always written. Broken pictures and frames are set aside. The same command
    goes on after any interruption. See docs/predict.md.
    """
    from marauder.core.clock import Clock
    from marauder.core.errors import printable
    from marauder.core.settings import load_settings
    from marauder.survey.settings import PredictSettings

    checkpoint(resume, fresh, has_checkpoints=False)
    # A file may have "=" in its name.
    overrides = [word for word in words or [] if "=" in word and not Path(word).exists()]
    more = [word for word in words or [] if word not in overrides]
    settings = load_settings(
        PredictSettings,
        config,
        overrides,
        OPTIONS,
        model=model,
        inputs=[*(input or []), *more] or None,
        output=output,
        confidence=confidence,
        classes=classes,
        fps=fps,
        every=every,
        formats=formats,
        image_size=image_size,
        device=device,
        batch=batch,
        group_pattern=group_pattern,
        fresh=fresh or None,
    )

    # After the settings: their mistakes are told before OpenCV and torch are loaded.
    from marauder.survey.job import predict_files

    with Clock.for_hours(max_hours).listening() as clock:
        summary = predict_files(settings, clock)
    typer.echo(printable(summary.message()))
