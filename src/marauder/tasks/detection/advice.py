"""The figures and command lines from which ``reporting.advice`` chooses what to do next with a detector."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence

import numpy as np

from marauder.core.metrics import with_floor
from marauder.core.wording import to_type
from marauder.data.records import Detections, Record
from marauder.engine.state import Outcome
from marauder.evaluation.intervals import OVERALL
from marauder.evaluation.metrics import Metrics
from marauder.gates.floor import NOT_KNOWN
from marauder.gates.outcome import withheld
from marauder.reporting.advice import ClassFigures, Commands, Figures
from marauder.runs.package import registry_words
from marauder.runs.task_description import FLOOR_GATE
from marauder.runs.task_runtime import Findings
from marauder.tasks.detection.data import labelled
from marauder.tasks.detection.description import Detection
from marauder.tasks.detection.results import DetectionResults, finds_nothing
from marauder.tasks.detection.settings import DetectionSettings

SURE, MANY = 0.5, 5
"""Score from which a box is confident, and how many of them without a label are a reason to doubt the labels."""
INSIDE_IGNORED = 0.5
"""Share of a box within an ignored one from which it is excused: the least overlap of evaluation, where they are
crowds."""
LEAST_EPOCHS = 20
"""Fewer are not proposed for a longer training."""


def figures_of(kind: DetectionResults, findings: Findings) -> Figures:
    """What the run found out, as far as advice depends on it."""
    assert kind.measured is not None
    interval, history = kind.intervals()[OVERALL], findings.outcome.history
    by_split = {name: labelled(kind.data.dataset.split(name)) for name in ("train", "val", kind.split)}
    shown = {name: by_split[name] for name in ("train", kind.split)}
    asked = [one for one in findings.verdicts if one.gate == FLOOR_GATE]
    metric = with_floor(Detection.metrics)
    assert metric is not None and metric.floor is not None
    return Figures(
        value=interval.value,
        split=kind.split,
        low=interval.low,
        high=interval.high,
        level=next((one.limit for one in asked if isinstance(one.limit, float)), metric.floor),
        floor=metric.floor,
        uncertain=any(one.evidence.get("finding") == NOT_KNOWN for one in asked),
        on_val=on_val(kind, findings),
        epochs=findings.outcome.epochs,
        validation=[row[f"val/{metric.name}"] for row in history if f"val/{metric.name}" in row],
        losses=[sum(value for name, value in row.items() if name.startswith("train/")) for row in history],
        pretrained=kind.settings.pretrained,
        clips={name: len({one.group for one in records}) for name, records in by_split.items()},
        classes=class_figures(kind.measured.result.overall, shown),
        failed=[one.gate for one in findings.verdicts if one.answer == "fail"],
        withheld=withheld(findings.verdicts),
        nothing_found=bool(finds_nothing(kind.measured.result.overall)),
        unlabelled=without_label(kind.measured.records, kind.measured.detections),
    )


def on_val(kind: DetectionResults, findings: Findings) -> float:
    """mAP50 on val of the epoch whose weights were measured; NaN where that was val itself."""
    if kind.split == "val":
        return math.nan
    rows = [row for row in findings.outcome.history if row["epoch"] == findings.outcome.best_epoch]
    return rows[0].get("val/map50", math.nan) if rows else math.nan


def class_figures(overall: Metrics, records: Mapping[str, Sequence[Record]]) -> list[ClassFigures]:
    """Each class with its AP50, and its boxes and clips in the ``records`` of each split."""
    found = []
    for number, row in enumerate(overall.per_class):
        boxes, clips = {}, {}
        for split, held in records.items():
            counts = [int(np.sum((one.classes == number) & ~one.ignored)) for one in held]
            boxes[split] = sum(counts)
            clips[split] = len({one.group for one, count in zip(held, counts, strict=True) if count})
        found.append(ClassFigures(row["name"], row["ap50"], boxes, clips))
    return found


def without_label(records: Sequence[Record], detections: Sequence[Detections]) -> list[tuple[str, int]]:
    """Labelled pictures in which more boxes of at least ``SURE``, and ``MANY`` at least, touch no label than there are
    labels: the key, and how many such boxes."""
    found = []
    for record, given in zip(records, detections, strict=True):
        boxes = given.above(SURE).boxes
        if not record.labelled or len(boxes) < MANY:
            continue
        count = int((~_at_a_label(boxes, record)).sum())
        if count >= MANY and count > len(record.boxes):
            found.append((record.key, count))
    return found


def _at_a_label(boxes: np.ndarray, record: Record) -> np.ndarray:
    """Which of ``boxes`` (N, 4) touch a label, of whatever class, or lie in an ignored box: bool (N,)."""
    sides = np.minimum(boxes[:, None, 2:], record.boxes[None, :, 2:])
    sides -= np.maximum(boxes[:, None, :2], record.boxes[None, :, :2])
    shared = np.clip(sides, 0.0, None).prod(axis=2)
    own = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1)[:, None]
    # A label, however large or small, says that somebody looked at this place; an ignored box only of what is in it.
    least = np.where(record.ignored, INSIDE_IGNORED * own, 0.0)
    return ((shared > 0) & (shared >= least)).any(axis=1)


def commands_of(settings: DetectionSettings, outcome: Outcome) -> Commands:
    """Command lines: to train longer, to begin from pretrained weights, to check the data, to use the model."""
    longer = [f"training.epochs={max(LEAST_EPOCHS, 2 * max(settings.training.epochs, outcome.epochs))}"]
    if outcome.stopped_early:
        # With the same patience it would stop where it did.
        longer.append("training.patience=0")
    registered = settings.registry.kind != "none"
    # Of the scale tiny, which is ours, nobody has released weights.
    model = re.sub(r"t$", "n", settings.model)
    other = [] if model == settings.model else [f"model={model}"]
    return Commands(
        longer=shlex.join(settings.command(*longer)),
        pretrained=shlex.join(settings.command(*other, f"weights={model}.pt", fresh=True)),
        check=shlex.join(["marauder", "data", "check", "--input", str(settings.data)]),
        false_on_train=to_type(
            *("evaluate", "--model", settings.folder / "best.pt", "--data", settings.data),
            *("--split", "train", "--output", settings.folder / "on_train"),
        ),
        # By its run: an alias may have moved on by the time this is read.
        promote=shlex.join(
            ["marauder", "registry", "promote", settings.project, settings.id or "", *registry_words(settings)]
        )
        if registered
        else "",
        export=shlex.join(["marauder", "export", "--models", str(settings.folder / "best.pt")]),
    )
