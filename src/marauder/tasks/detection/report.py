"""The report, ``eval_report.json`` and the model card of a detection run, from what the run found out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.core.clock import Clock, describe_seconds
from marauder.core.decides import decided
from marauder.core.files import hash_file, read_json
from marauder.core.settings import Decides
from marauder.core.wording import counted
from marauder.data.manifests.pinning import DataPin as Pin
from marauder.data.records import Record
from marauder.engine.state import early_stop
from marauder.evaluation.intervals import OVERALL
from marauder.evaluation.metrics import RECALL_POINTS, precision_at_recall
from marauder.evaluation.roc import presence_curves
from marauder.models.pretraining.files import describe_backbone
from marauder.reporting.advice import CHECK_LABELS, advise
from marauder.reporting.card import write_model_card
from marauder.reporting.evidence import (
    Artifact,
    FormatLatency,
    IntendedUse,
    LatencyFigures,
    Lineage,
    RunEvidence,
)
from marauder.reporting.run_report import write_run_report
from marauder.runs.run_origin import pin_of, provenance_of
from marauder.runs.start_weights import Start, start_of
from marauder.runs.task_runtime import Findings
from marauder.tasks.detection.advice import commands_of, figures_of, on_val
from marauder.tasks.detection.data import labelled
from marauder.tasks.detection.evaluate_split import Measured
from marauder.tasks.detection.preview import BATCH, LABELS, label_examples
from marauder.tasks.detection.results import DetectionResults
from marauder.tasks.detection.settings import DetectionSettings

SHEETS = {"the labels of some training pictures": LABELS, "a training batch as the network is shown it": BATCH}
LABELS_SHOWN = 3
"""Training pictures in the report where labels are to be looked at."""
UNDRAWN = ("step", "seconds")
"""Numbers of an epoch that only grow, and would be drawn as a straight line."""
DRAWN = (
    "train/",
    "val/map50",
    "val/map50_95",
    "val/precision",
    "val/recall",
    "val/f1",
    "val/d_ece",
    "learning_rate",
    "epoch",
    "gradient_norm",
    "data_wait",
)


def write_reports(kind: DetectionResults, findings: Findings, pinned: Pin, clock: Clock) -> Path:
    """All that people read of a run; returns the page's path. Raises ``Interrupted`` between figures."""
    findings.advice = advise(figures_of(kind, findings), commands_of(kind.settings, findings.outcome))
    evidence = run_evidence(kind, findings, pinned)
    report = write_run_report(kind.settings.folder, evidence, clock)
    write_model_card(kind.settings.folder, evidence)
    return report


def run_evidence(kind: DetectionResults, findings: Findings, pinned: Pin) -> RunEvidence:
    """What the run found out, as the report takes it."""
    settings, measured, folder = kind.settings, kind.measured, kind.settings.folder
    assert measured is not None
    intervals = kind.intervals()
    use = IntendedUse()
    card = settings.card
    return RunEvidence(
        title=f"{settings.project}: {settings.model} at {settings.image_size} pixels",
        result=measured.result,
        records=measured.records,
        detections=measured.detections,
        split=kind.split,
        run_id=settings.id or "",
        project=settings.project,
        facts=_facts(kind, findings),
        provenance=provenance_of(read_json(folder / "provenance.json")),
        data=pin_of(pinned, settings),
        settings={
            "recipe": settings.recipe,
            **decided(settings, Decides.RESULT, Decides.LENGTH, by_content=False),
            # In words: the paths are those of this machine.
            "weights": start_of(settings).describe(),
            "ssl_backbone": _backbone_words(settings.ssl_backbone) if settings.ssl_backbone is not None else None,
        },
        history=[_drawn(row) for row in findings.outcome.history],
        intervals={"map50": intervals[OVERALL]},
        slice_intervals={name: one for name, one in intervals.items() if name != OVERALL},
        comparison=kind.comparison,
        production_result=kind.production.result if kind.production is not None else None,
        verdicts=findings.verdicts,
        latency=_latency(findings),
        artifacts=_artifacts(settings, findings),
        lineage=_lineage(settings, findings),
        intended_use=IntendedUse(
            primary=card.intended_use or use.primary,
            out_of_scope=card.out_of_scope or use.out_of_scope,
            licence=card.licence,
            contact=card.contact,
        ),
        advice=findings.advice,
        doubts=measured.doubts,
        labelled=_labelled(kind, findings),
        on_val=on_val(kind, findings),
        sheets={title: name for title, name in SHEETS.items() if (folder / name).is_file()},
    )


def curve_tables(measured: Measured) -> Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]:
    """Precision over recall and ROC by class, as columns and rows; classes without boxes are left out."""
    names = measured.result.matches.names
    precision = precision_at_recall(measured.result.matches)
    rows = [
        [name, float(recall), float(value)]
        for name, curve in zip(names, precision, strict=True)
        if not math.isnan(curve[0])
        for recall, value in zip(RECALL_POINTS, curve, strict=True)
    ]
    return {
        "precision_recall": (("class", "recall", "precision"), rows),
        "roc": (("class", "false_positive_rate", "true_positive_rate"), presence_roc_rows(measured)),
    }


def presence_roc_rows(measured: Measured) -> list[list[Any]]:
    """ROC points of every class that is present in some pictures and absent in others."""
    return [
        [curve.name, float(false), float(true)]
        for curve in presence_curves(measured.result.matches)
        if not math.isnan(curve.auc)
        for false, true in zip(curve.false_rate, curve.true_rate, strict=True)
    ]


def _facts(kind: DetectionResults, findings: Findings) -> dict[str, str]:
    settings, outcome, dataset = kind.settings, findings.outcome, kind.data.dataset
    training, optimizer = settings.training, settings.training.optimizer
    stopped = early_stop(outcome, training, settings.typed("training"))
    counts = ", ".join(f"{count} {name}" for name, count in dataset.splits().items())
    return {
        "Measured on": f"the split {kind.split}" + (", which training never saw" if kind.split == "test" else ""),
        "Detector": f"{settings.model} at {settings.image_size} pixels",
        "Started from": _started_from(settings),
        "Recipe": settings.recipe or "none: settings of the run",
        "Pictures": f"{counts}; classes {', '.join(dataset.names)}",
        "Training": f"{counted(outcome.epochs, 'epoch')}, {counted(outcome.steps, 'update')} of {training.batch_size}, "
        f"{describe_seconds(outcome.seconds)}; best epoch {outcome.best_epoch}",
        **({"Stopped early": stopped} if stopped else {}),
        "Optimiser": f"{optimizer.name}, rate {optimizer.learning_rate}, {optimizer.schedule}",
        "Processes": str(settings.processes),
        **_operating_point(kind, findings),
    }


def _operating_point(kind: DetectionResults, findings: Findings) -> dict[str, str]:
    """From which score ``predict`` counts, chosen on val, beside that of the report's figures; empty: not known."""
    assert kind.measured is not None
    rows = [row for row in findings.outcome.history if row["epoch"] == findings.outcome.best_epoch]
    own, here = rows[0].get("val/confidence") if rows else None, kind.measured.result.overall.confidence
    if own is None:
        return {}
    words = f"marauder predict counts detections from a score of {own:.3g}, the best F1 on val"
    if round(own, 3) != round(here, 3):
        words += f"; precision, recall and F1 in this report apply from {here:.3g} (--conf {here:.3g})"
    return {"Operating point": words}


def _drawn(row: Mapping[str, float]) -> dict[str, float]:
    """The numbers of an epoch that are worth a curve: no class's or slice's own."""
    return {name: value for name, value in row.items() if name not in UNDRAWN and name.startswith(DRAWN)}


def _latency(findings: Findings) -> LatencyFigures | None:
    latency = findings.latency
    if not latency:
        return None
    batch = latency["batch"]
    formats = {
        name: FormatLatency(one["p50"], one["p95"], batch * 1000 / one["p50"])
        for name, one in latency["timings"].items()
    }
    shape = (batch, latency["height"], latency["width"], latency["threads"])
    # Exports of older versions do not say it.
    return LatencyFigures(latency["machine"], formats, *shape, latency.get("unsteady", ""))


def _artifacts(settings: DetectionSettings, findings: Findings) -> dict[str, Artifact]:
    folder = settings.folder
    found = {
        "best weights": folder / "best.safetensors",
        "last weights": folder / "last.safetensors",
        "for Ultralytics": folder / "best.pt",
    }
    found |= {one.format: one.path for one in findings.exported if not one.problems}
    return {
        name: Artifact(path.relative_to(folder).as_posix(), hash_file(path))
        for name, path in found.items()
        if path.is_file()
    }


def _lineage(settings: DetectionSettings, findings: Findings) -> Lineage:
    start, backbone, production = start_of(settings), settings.ssl_backbone, findings.production
    return Lineage(
        parent_weights=start.describe() if start.name else "",
        parent_sha256=start.sha256,
        parent_backbone=_backbone_words(backbone) if backbone is not None else "",
        parent_backbone_sha256=hash_file(backbone) if backbone is not None else "",
        production=production.version.version if production is not None else "",
        production_run=production.version.run_id if production is not None else "",
    )


def _started_from(settings: DetectionSettings) -> str:
    words, backbone = start_of(settings).describe(), settings.ssl_backbone
    return words if backbone is None else f"{words}; the backbone from {_backbone_words(backbone)}"


def _backbone_words(path: Path) -> str:
    """The file in its folder, and what its pretraining started from where it says so."""
    known = (describe_backbone(path) or {}).get("started_from")
    begun = f", pretrained from {Start(**known).describe()}" if known is not None else ""
    return "/".join(path.parts[-2:]) + begun


def _labelled(kind: DetectionResults, findings: Findings) -> list[Record]:
    """Training pictures to look at the labels of, where the advice is to do so."""
    if all(one.kind != CHECK_LABELS for one in findings.advice):
        return []
    return label_examples(labelled(kind.data.dataset.split("train")), LABELS_SHOWN, kind.settings.training.seed)
