"""The export job: every model in every chosen format, checked, timed, reported; continued where it was left."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import hash_file, write_json
from marauder.core.plain import Plain
from marauder.core.plugins import make
from marauder.core.progress import Progress
from marauder.exporting.folders import folder_names, weight_files
from marauder.exporting.inputs import load_pictures
from marauder.exporting.model_export import REPORT, ModelExport, ModelResult, read_report, relative_source
from marauder.exporting.settings import ExportSettings

SUMMARY = "export_summary.json"


@dataclass(frozen=True)
class ExportSummary:
    """What an export did. ``tensorrt``: one line on engines; ``pictures``: what was compared on, in words."""

    models: tuple[ModelResult, ...]
    tensorrt: str
    pictures: str
    real_pictures: bool
    skipped_pictures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every format of every model is in place and equal to its model."""
        return all(model.passed for model in self.models)


def export_models(settings: ExportSettings, clock: Clock) -> ExportSummary:
    """Export every model of ``settings`` and return what became of each.

    Raises ``UserError`` for paths and settings that cannot be right, ``Interrupted`` when the clock says so; finished
    formats are then recorded and not done again. A model that cannot be opened is reported in its result, and the
    others are exported.
    """
    sources = weight_files(settings.models)
    folders = [settings.output / name for name in folder_names(sources)]
    exporters = {name: make("exporter", name) for name in settings.formats}
    pictures = load_pictures(settings.pictures, settings.parity.picture_count, settings.seed)
    tensorrt = describe_tensorrt()
    # All of them before the first export: a refusal must not wait for hours of work.
    for source, folder in zip(sources, folders):
        _claim(source, folder, settings)
    results = []
    units = len(sources) * (len(exporters) + int(settings.latency.enabled))
    with Progress("export", units, unit="steps", log_seconds=60.0) as progress:
        for source, folder in zip(sources, folders):
            clock.check()
            job = ModelExport(source, folder, settings, exporters, pictures, tensorrt, clock, progress)
            try:
                results.append(job.run())
            except UserError as error:
                results.append(ModelResult(folder.name, source, folder, {}, None, str(error)))
    summary = ExportSummary(tuple(results), tensorrt, pictures.source, pictures.real, pictures.skipped)
    write_json(settings.output / SUMMARY, _plain_summary(summary))
    return summary


def describe_tensorrt() -> str:
    """One line on TensorRT engines: whether it is here, and that they are built on the device."""
    try:
        version = importlib.import_module("tensorrt").__version__
    except (ImportError, AttributeError):
        return (
            "TensorRT is not installed here: engines are built on the device that runs them, from model.onnx. "
            "The portable formats are done."
        )
    return (
        f"TensorRT {version} is installed here, but an engine fits only the device it was built on: build it there, "
        "from model.onnx. The portable formats are done."
    )


def _claim(source: Path, folder: Path, settings: ExportSettings) -> None:
    """Refuse a folder that holds the exports of another model; forget what is recorded when starting over."""
    if settings.fresh:
        (folder / REPORT).unlink(missing_ok=True)
        return
    recorded = read_report(folder)
    if not recorded or recorded.get("source") == relative_source(source, folder):
        return
    # Weights that were moved or renamed are still the same model.
    if recorded.get("weights_sha256") != hash_file(source):
        raise UserError(
            f"{folder}: holds the exports of another model ({recorded.get('source')}), not of {source}; "
            "choose another --output, or replace them with --fresh"
        )


def _plain_summary(summary: ExportSummary) -> Plain:
    return {
        "verdict": "pass" if summary.passed else "fail",
        "pictures": summary.pictures,
        "real_pictures": summary.real_pictures,
        "skipped_pictures": summary.skipped_pictures,
        "tensorrt": summary.tensorrt,
        "models": [_plain_model(model) for model in summary.models],
    }


def _plain_model(model: ModelResult) -> Plain:
    formats = {
        name: {"file": f"{model.name}/{result.path.name}", "verdict": "pass" if result.passed else "fail"}
        for name, result in model.formats.items()
    }
    return {"name": model.name, "source": str(model.source), "problem": model.problem, "formats": formats}
