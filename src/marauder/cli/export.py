"""``marauder export``: deployable files of trained detectors, checked against the model and timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marauder.cli.job_command import JobCommand
from marauder.cli.options import Option

if TYPE_CHECKING:
    from marauder.bundles.job import EngineSummary
    from marauder.bundles.making import BundleResult
    from marauder.bundles.settings import EngineSettings
    from marauder.exporting.model_export import ModelResult


def _check_paths(settings: EngineSettings) -> EngineSettings:
    from marauder.exporting.folders import weight_files

    weight_files(settings.models)  # a mistyped path is reported before PyTorch is loaded
    return settings


def _show(_: EngineSettings, summary: EngineSummary) -> None:
    for skipped in summary.skipped_pictures:
        typer.echo(f"set aside: {skipped}", err=True)
    for model in summary.models:
        _show_model(model)
    typer.echo(f"Compared on {summary.pictures}.")
    if not summary.real_pictures:
        typer.echo("These are not real pictures; name a folder of real ones with --pictures.")
    typer.echo(summary.tensorrt)
    for bundle in summary.bundles:
        _show_bundle(bundle)
    if not summary.passed:
        raise typer.Exit(1)


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


def _show_bundle(bundle: BundleResult) -> None:
    for problem in bundle.problems:
        typer.echo(f"  {bundle.name}: {problem}", err=True)
    if not bundle.report:
        return
    report = bundle.report
    typer.echo(f"{bundle.name} for {report['board']} (TensorRT {', '.join(report['tensorrt'])}):")
    for precision, entry in report["precisions"].items():
        cost = entry.get("lost_map50_95")
        told = "" if cost is None else f", mAP50-95 {entry['map50_95']:.3f} ({-cost:+.3f})"
        state = "LEFT OUT" if entry["problems"] else "answers as the detector does, and every parser reads it"
        typer.echo(f"  {precision}: {state}{told}")
    for remark in report["remarks"]:
        typer.echo(f"  note: {remark}")
    if bundle.archive is None:
        typer.echo("  no bundle was made")
        return
    typer.echo(f"  bundle: {bundle.archive} ({report['megabytes']} MB)")
    unpacked = bundle.archive.name.removesuffix(".tar.gz")
    if bundle.built:
        typer.echo(f"  {bundle.built}")
    typer.echo(f"  on the board: tar xzf {bundle.archive.name} && cd {unpacked} && ./build.sh")


EXPORT = JobCommand(
    name="export",
    help="""Write ONNX and TorchScript files of trained detectors.

    Each file is compared with its model on pictures, boxes and scores, before it is put in place, and timed beside the
    others. Run again, the same command continues where it stopped. Exits with status 1 if a file does not answer as its
    model does.
    """,
    settings="marauder.bundles.settings:EngineSettings",
    job="marauder.bundles.job:export_engines",
    prepare=_check_paths,
    show=_show,
    options=(
        Option("--models", list[str], "trained detectors: A.pt B.pt, or A.pt,B.pt, or the option repeated"),
        Option("--output --output-dir", Path, "folder to write to; default: exported"),
        Option("--formats", str, "what to write; default: onnx,torchscript"),
        Option("--image-size --imgsz", str, "input pixels: 640, or 384x640 (height x width); default: model's"),
        Option("--pictures", Path, "folder of real pictures to compare on (recommended)"),
        Option("--opset", int, "version of the ONNX operators; default: 13"),
        Option("--batch --batch-size", int, "pictures a call; default: 1"),
        Option("--dynamic/--static", bool, "let batch and size differ from call to call"),
        Option("--target", str, "make a bundle for this board: jetson-nano, jetson-orin-nano, x86"),
        Option("--jetpack", str, "of the board; default: one bundle for all its JetPacks"),
        Option("--precision", str, "fastest one that the board tries: fp32, fp16, int8"),
        Option("--calibration-data", Path, "folder of real pictures that set the scales of int8"),
        Option("--build", bool, "build and test the engine here, where TensorRT is"),
        Option("--data-yaml", Path, "labelled pictures to measure on what each precision costs", to="data"),
        Option("--fresh", bool, "do everything again, even what is done"),
    ),
    listed="models",
    no_args_is_help=False,
    metavar="[MODEL|KEY=VALUE]...",
    words="more models, as after --models; any setting: latency.rounds=20",
)
app = EXPORT.app()
