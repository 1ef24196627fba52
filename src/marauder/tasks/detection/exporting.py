"""The deployable files of a run: made by the export job from the best weights, noted with their latency."""

from __future__ import annotations

from collections.abc import Sequence

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.data.records import Record
from marauder.exporting.job import export_models
from marauder.exporting.settings import ExportSettings, LatencySettings
from marauder.runs.task_runtime import Exported, Findings
from marauder.tasks.detection.settings import DetectionSettings

EXPORTED = "exported"


def export_run(settings: DetectionSettings, records: Sequence[Record], clock: Clock, findings: Findings) -> None:
    """Export ``best`` in the formats of the settings. Formats that are in place already are not made again.

    Raises ``UserError`` where a model cannot be exported at all; a format that answers differently from the model is
    noted as not passed.
    """
    plan = settings.export
    if not plan.formats:
        findings.why_none_exported = "export.formats is empty"
        return
    wanted = ExportSettings(
        # The file that holds numbers only: nothing is unpickled.
        models=(settings.folder / "best.safetensors",),
        output=settings.folder / EXPORTED,
        formats=plan.formats,
        opset=plan.opset,
        # Real pictures: on noise a detector finds nothing, and nothing could differ.
        pictures=records[0].picture.parent if records else None,
        seed=settings.training.seed,
        latency=LatencySettings(rounds=plan.rounds, threads=plan.threads),
    )
    model = export_models(wanted, clock).models[0]
    if model.problem is not None:
        raise UserError(f"the best weights cannot be exported: {model.problem}")
    findings.latency = dict((model.report or {}).get("latency") or {})
    findings.exported = [
        Exported(name, one.path, one.reasons if not one.passed else ()) for name, one in model.formats.items()
    ]
