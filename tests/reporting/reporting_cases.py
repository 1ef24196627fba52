"""Runs to report on: detectors that err in known ways on real pictures or on boxes alone, with all evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from evaluation_cases import perturbed_detections, random_case, read_yolo_labels

from marauder.data.groups import group_of
from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.comparison import compare
from marauder.evaluation.evaluate import EvaluationResult, evaluate
from marauder.evaluation.intervals import OVERALL, intervals_by_slice
from marauder.gates.verdict import Verdict
from marauder.reporting.advice import Advice
from marauder.reporting.evidence import (
    Artifact,
    DataPin,
    FormatLatency,
    LatencyFigures,
    Lineage,
    Provenance,
    RunEvidence,
)

AQUARIUM = ["fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"]
NASTY = 'a|b <i>&amp;</i> "q" `c` [x](y) *z* _u_'
HISTORY = [
    {"epoch": e, "train/box": 3 - 0.1 * e, "val/map50": 0.02 * e, "lr": 0.01, "grad_norm": 2.0} for e in range(9)
]
VERDICTS = (
    Verdict("contract", "before", "pass", "Every label lies in its picture.", 0, 20),
    Verdict("drift", "before", "warn", "Brightness differs <b>.", 0.31, 0.25, {"features": {"brightness": 0.31}}),
    Verdict("determinism", "before", "off", "switched off in gates.yaml"),
    Verdict("regression", "end", "fail", "On starfish mAP50 fell.", -0.15, -0.01),
)


def masks_of(records: Sequence[Record], names: Sequence[str]) -> list[SliceMask]:
    """Slices of pictures, of a class, of small boxes, an empty one, and one whose name is a trap."""
    count = len(records)
    classes = np.concatenate([record.classes for record in records])
    boxes = np.concatenate([record.boxes for record in records])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    every = np.ones(count, bool)
    return [
        SliceMask("first half", np.arange(count) < count // 2, description="the first pictures"),
        SliceMask(f"class={names[-1]}", every, boxes=classes == len(names) - 1, protected=True),
        SliceMask("small", every, boxes=area < 96**2, area=(0.0, 96.0**2)),
        SliceMask(NASTY, np.arange(count) % 2 == 0, protected=True),
        SliceMask("nothing", np.zeros(count, bool)),
    ]


def evidence_of(
    records: Sequence[Record],
    candidate: Sequence[Detections],
    production: Sequence[Detections] | None,
    names: Sequence[str],
    masks: Sequence[SliceMask] | None = None,
    **changes: Any,
) -> RunEvidence:
    """A run with all its evidence; ``changes`` replace fields."""
    chosen = masks_of(records, names) if masks is None else masks
    result = evaluate(records, candidate, names, chosen)
    before: EvaluationResult | None = None
    comparison = None
    if production is not None:
        before = evaluate(records, production, names, chosen)
        comparison = compare(result.matches, before.matches, records, chosen, draws=60)
    intervals = intervals_by_slice(result.matches, records, chosen, "map50", draws=60)
    evidence = RunEvidence(
        title="Run <seven> & more",
        result=result,
        records=records,
        detections=candidate,
        split="test",
        run_id="20260101-reef-7",
        project="reef",
        facts={"Detector": "yolov8n at 640 pixels"},
        provenance=Provenance("0123abcd" * 5, True, "sha256:77", {"torch": "2.15.0"}, {"gpu": "none"}, 7, "2026-01-01"),
        data=DataPin("reef", "3", "f" * 64, {"train": 20, "test": 10}, {"test": 44}, {"tag": "golden"}, "CC BY 4.0"),
        settings={"training": {"epochs": 3}, "rate": float("nan")},
        history=HISTORY,
        intervals={"map50": intervals.pop(OVERALL)},
        slice_intervals=intervals,
        comparison=comparison,
        production_result=before,
        verdicts=VERDICTS,
        latency=LatencyFigures("some processor", {"onnx": FormatLatency(14.0, 16.5, 70.1)}, 1, 640, 640, 2),
        artifacts={"weights": Artifact("best.pt", "ab" * 32)},
        lineage=Lineage("start.pt", "cd" * 32, "version 4", "20251201-reef-4" if production is not None else ""),
        advice=[Advice("train_longer", "Train longer:", "marauder train train.yaml training.epochs=40")],
    )
    return replace(evidence, **changes)


def aquarium_run(folder: Path, limit: int, **changes: Any) -> RunEvidence:
    """Real pictures; production is the better detector on starfish and stingray."""
    records = [replace(record, group=group_of(record.key)) for record in read_yolo_labels(folder / "aquarium", limit)]
    candidate = perturbed_detections(records, len(AQUARIUM), seed=1)
    production = perturbed_detections(records, len(AQUARIUM), seed=2)
    return evidence_of(records, candidate, production, AQUARIUM, **changes)


def box_run(seed: int, pictures: int = 12, count: int = 3, **changes: Any) -> RunEvidence:
    """Boxes without picture files."""
    records, detections = random_case(seed, pictures, count)
    names = [f"class {number}" for number in range(count)]
    return evidence_of(records, detections, changes.pop("production", None), names, **changes)
