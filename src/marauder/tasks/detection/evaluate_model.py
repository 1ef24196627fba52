"""Measuring any stored detector on any labelled data set, apart from a run: figures, slices and a report."""

from __future__ import annotations

import logging
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.errors import printable
from marauder.data.check import told
from marauder.data.reading import read_dataset
from marauder.data.repair import without_doubtful
from marauder.engine.distributed import choose_device
from marauder.reporting.advice import Commands, Figures, advise
from marauder.reporting.run_report import write_evaluation
from marauder.tasks.detection.advice import class_figures, without_label
from marauder.tasks.detection.evaluate_settings import EvaluateSettings
from marauder.tasks.detection.evaluate_split import Measured, evaluate_split

log = logging.getLogger("marauder")


def evaluate(settings: EvaluateSettings, clock: Clock) -> tuple[Measured, Path | None]:
    """What ``marauder evaluate`` does, see ``evaluate_model``."""
    return evaluate_model(
        settings.model,
        settings.data,
        settings.split,
        clock,
        output=settings.output,
        image_size=settings.image_size,
        pictures=settings.pictures,
        device=settings.device,
    )


def evaluate_model(
    model: Path,
    data: Path,
    split: str,
    clock: Clock,
    *,
    output: Path | None = None,
    image_size: int | None = None,
    pictures: Path | None = None,
    device: str = "auto",
) -> tuple[Measured, Path | None]:
    """What a detector is worth on a split, by class and by every slice that attributes make; and its report's page.

    ``data``: any data set of docs/formats.md; ``pictures``: their folder where they are not beside the labels;
    ``image_size``: pixels of the long side, by default as trained. Without ``output`` no report is written. What is odd
    in the data or about the detector is reported as warnings. Raises ``UserError``, ``Interrupted``.
    """
    dataset = read_dataset(data, pictures=pictures, clock=clock)
    for line in told(dataset.problems):
        log.warning("%s", printable(line))
    dataset, set_aside = without_doubtful(dataset)
    if set_aside:
        log.warning("%s pictures set aside: their labels say too little to measure on", f"{len(set_aside):,}")
    measured = evaluate_split(model, dataset, split, choose_device(device), clock, image_size)
    for doubt in measured.doubts:
        log.warning("%s: %s", model, doubt)
    if output is None:
        return measured, None
    report = write_evaluation(
        output,
        measured.result,
        measured.records,
        measured.detections,
        dataset.names,
        title=f"{model.parent.name}/{model.name} on {split}",
        facts={"Detector": str(model), "Measured on": f"the split {split} of {data}"},
        history=None,
        advice=advise(_figures(measured, split), Commands()),
        doubts=measured.doubts,
    )
    return measured, report


def _figures(measured: Measured, split: str) -> Figures:
    """What advice can rest on where there is no run, only its model."""
    overall, records = measured.result.overall, measured.records
    clips = {split: len({one.group for one in records})}
    classes = class_figures(overall, {split: records})
    unlabelled = without_label(records, measured.detections)
    return Figures(overall.map50, split, clips=clips, classes=classes, unlabelled=unlabelled)
