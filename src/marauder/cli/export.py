"""``marauder export``: deployable files of trained detectors, checked against the model and timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marauder.cli.resuming import ResumableCommand, Resume, checkpoint

if TYPE_CHECKING:
    from marauder.exporting.job import ExportSummary
    from marauder.exporting.model_export import ModelResult

app = typer.Typer(add_completion=False)


@app.command(cls=ResumableCommand)
def export(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL|KEY=VALUE]...", help="More models, as after --models; any setting: latency.rounds=20."
        ),
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Trained detectors: A.pt B.pt, or A.pt,B.pt, or the option repeated.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "--output-dir", help="Folder to write to [default: exported].")
    ] = None,
    formats: Annotated[str | None, typer.Option(help="What to write [default: onnx,torchscript].")] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size", "--imgsz", help="Input pixels: 640, or 384x640 (height x width) [default: model's]."
        ),
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of real pictures to compare on (recommended).")] = None,
    opset: Annotated[int | None, typer.Option(help="Version of the ONNX operators [default: 13].")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures a call [default: 1].")] = None,
    dynamic: Annotated[
        bool | None, typer.Option("--dynamic/--static", help="Let batch and size differ from call to call.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of the settings.")] = None,
    resume: Resume = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do everything again, also what is done.")] = False,
    max_hours: Annotated[float | None, typer.Option(help="Stop in time after so many hours.")] = None,
) -> None:
    """Write ONNX and TorchScript files of trained detectors.

    Each file is compared with its model on pictures, boxes and scores, before it is put in place, and timed beside the
    others. The same command run again goes on where it was. Leaves with status 1 when a file does not answer as its
    model does.
    """
    from marauder.core.clock import Clock
    from marauder.core.settings import load_settings
    from marauder.exporting.folders import weight_files
    from marauder.exporting.settings import ExportSettings

    checkpoint(resume, fresh, has_checkpoints=False)
    # A file may have "=" in its name.
    overrides = [word for word in words or [] if "=" in word and not Path(word).exists()]
    more_models = [word for word in words or [] if word not in overrides]
    settings = load_settings(
        ExportSettings,
        config,
        overrides,
        models=[*(models or []), *more_models] or None,
        output=output,
        formats=formats,
        image_size=image_size,
        pictures=pictures,
        opset=opset,
        batch=batch,
        dynamic=dynamic,
        fresh=fresh or None,
    )

    weight_files(settings.models)  # a mistyped path is told before PyTorch is loaded

    from marauder.exporting.job import export_models

    with Clock.for_hours(max_hours).listening() as clock:
        summary = export_models(settings, clock)
    _show(summary)
    if not summary.passed:
        raise typer.Exit(1)


def _show(summary: ExportSummary) -> None:
    for skipped in summary.skipped_pictures:
        typer.echo(f"set aside: {skipped}", err=True)
    for model in summary.models:
        _show_model(model)
    typer.echo(f"Compared on {summary.pictures}.")
    if not summary.real_pictures:
        typer.echo("These are no real pictures; name a folder of real ones with --pictures.")
    typer.echo(summary.tensorrt)


def _show_model(model: ModelResult) -> None:
    from marauder.exporting.report import describe_ties

    typer.echo(f"{model.name} ({model.source})")
    if model.problem is not None or model.report is None:
        typer.echo(f"  not exported: {model.problem}")
        return
    latency = model.report["latency"] or {"timings": {}}
    remarks: dict[str, None] = {}  # of the model: the same for every format
    for name, result in model.formats.items():
        parity = model.report["formats"][name]["parity"]
        timing = latency["timings"].get(name)
        speed = f", p50 {timing['p50']:.1f} ms, p95 {timing['p95']:.1f} ms" if timing else ""
        again = ", done before" if result.reused else ""
        verdict = "same answers" if result.passed else "DIFFERENT ANSWERS, not put in place"
        typer.echo(f"  {result.path}: {verdict} ({parity['boxes']} boxes compared){speed}{again}")
        for note in (*parity["reasons"], *describe_ties(parity)):
            typer.echo(f"    {note}")
        remarks.update(dict.fromkeys(parity["remarks"]))
    for remark in remarks:
        typer.echo(f"  note: {remark}")
    typer.echo(f"  report: {model.folder / 'export_report.md'}")
