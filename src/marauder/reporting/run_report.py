"""Everything that a run or an evaluation leaves to look at: figures as files, the numbers as JSON, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marauder.core.clock import Clock
from marauder.core.files import write_bytes, write_json
from marauder.data.records import Detections, Record
from marauder.evaluation.confusion import confusion_matrix, match_across_classes
from marauder.evaluation.curves import confidence_curves
from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.figures import (
    confusion_figure,
    f1_figure,
    group_history,
    precision_recall_figure,
    slices_figure,
    training_curves,
)
from marauder.evaluation.intervals import Interval, bootstrap
from marauder.evaluation.metrics import precision_at_recall
from marauder.evaluation.outcomes import PictureOutcome, picture_outcomes
from marauder.evaluation.selection import picture_weights
from marauder.evaluation.sheet import predictions_sheet
from marauder.reporting.evidence import RunEvidence
from marauder.reporting.page import ReportFigure, write_report

BOOTSTRAP_DRAWS = 200
FEWEST_GROUPS = 5
"""With fewer groups of pictures an interval would say more than is known."""
WORST_LISTED = 50

CAPTIONS = {  # in the report's order; slices stand there as a table
    "curves.png": ("Training curves", "Losses should fall and validation figures rise; where the validation figures "
                   "turn down while the training loss goes on falling, the model learns the pictures by heart."),
    "pr_curves.png": ("Precision over recall", "Each line is a class: reading from left to right, more boxes are found "
                      "and more detections are false. The further to the upper right, the better."),
    "f1_curve.png": ("F1 over confidence", "The dotted line is the confidence at which precision and recall balance "
                     "best on average; a broad hill means that the choice matters little."),
    "confusion_matrix.png": ("Confusion matrix", "Rows are true classes, columns predicted ones. Off the diagonal: "
                             "classes taken for each other. Last column: missed boxes. Last row: false detections."),
}  # fmt: skip


def write_run_report(folder: Path, evidence: RunEvidence, clock: Clock | None = None) -> Path:
    """Write ``report.html``, ``eval_report.json`` and the figures of a run into ``folder``; returns the page's path.

    Figures: ``confusion_matrix.png``, ``pr_curves.png``, ``f1_curve.png``, ``predictions.png`` (left out if there is
    neither a box nor a detection), ``curves.png`` (with a history), ``slices.png`` (with slices). ``clock`` is asked
    between figures: raises ``Interrupted``; each file that is there then is whole, and calling it again writes all.
    """
    folder = Path(folder)
    result, records, detections, names = evidence.result, evidence.records, evidence.detections, evidence.names
    confidence = result.overall.confidence
    confusion = confusion_matrix(match_across_classes(records, detections, names), confidence)
    outcomes = picture_outcomes(result.matches, confidence)
    if clock is not None:
        clock.check()
    pictures = _draw(result, confusion, names, evidence.history)
    for name, content in pictures.items():
        write_bytes(folder / name, content)
    sheet = None
    if any(outcome.errors or len(outcome.right) for outcome in outcomes):
        sheet = predictions_sheet(records, detections, outcomes, names, confidence)
        write_bytes(folder / "predictions.png", sheet)
    interval = evidence.intervals.get("map50")
    write_json(
        folder / "eval_report.json",
        {
            "title": evidence.title,
            **result.to_json(),
            "map50_interval": vars(interval) if interval is not None else None,
            "confusion_matrix": {"labels": [*names, "background"], "rows": "true", "counts": confusion},
            "worst_pictures": _worst(records, outcomes),
            "facts": dict(evidence.facts),
        },
    )
    return write_report(
        folder / "report.html",
        title=evidence.title,
        result=result,
        facts=evidence.facts,
        figures=[ReportFigure(*CAPTIONS[name], pictures[name]) for name in CAPTIONS if name in pictures],
        sheet=sheet,
        interval=interval,
        what_next=evidence.what_next,
    )


def write_evaluation(
    folder: Path,
    result: EvaluationResult,
    records: Sequence[Record],
    detections: Sequence[Detections],
    names: Sequence[str],
    *,
    title: str,
    facts: Mapping[str, str],
    history: Sequence[Mapping[str, Any]] | None = None,
    what_next: str = "",
) -> Path:
    """The report of an evaluation that is no whole run: ``write_run_report`` with what is known then.

    ``records`` and ``detections`` are those that ``result`` was made from, ``names`` its classes. ``facts``: how it
    was made, shown in the report. ``history``: a row an epoch.
    """
    if tuple(names) != result.matches.names:
        raise ValueError(f"the result knows the classes {result.matches.names}, not {tuple(names)}")
    interval = map50_interval(result, records)
    evidence = RunEvidence(
        title, result, records, detections,
        facts=facts, history=history or (), what_next=what_next,
        intervals={"map50": interval} if interval is not None else {},
    )  # fmt: skip
    return write_run_report(folder, evidence)


def map50_interval(result: EvaluationResult, records: Sequence[Record]) -> Interval | None:
    """95 % interval of mAP50 over groups of pictures, or ``None`` with too few groups."""
    if len({record.group for record in records if record.labelled}) < FEWEST_GROUPS:
        return None
    return bootstrap(result.matches, records, "map50", draws=BOOTSTRAP_DRAWS)


def _draw(
    result: EvaluationResult,
    confusion: np.ndarray,
    names: Sequence[str],
    history: Sequence[Mapping[str, Any]] | None,
) -> dict[str, bytes]:
    """The figures by file name, in the report's order."""
    overall, matches = result.overall, result.matches
    pictures = {}
    if history and group_history(history):
        pictures["curves.png"] = training_curves(history)
    pictures["pr_curves.png"] = precision_recall_figure(precision_at_recall(matches), overall)
    everything = confidence_curves(matches, picture_weights(matches, None, None))
    pictures["f1_curve.png"] = f1_figure(everything, overall)
    pictures["confusion_matrix.png"] = confusion_figure(confusion, names, overall.confidence)
    if result.slices:
        pictures["slices.png"] = slices_figure(result.slices, overall)
    return pictures


def _worst(records: Sequence[Record], outcomes: Sequence[PictureOutcome]) -> list[dict[str, Any]]:
    """The pictures with most to learn from, for tools that read the JSON."""
    failing = [index for index, outcome in enumerate(outcomes) if outcome.labelled and outcome.errors]
    failing.sort(key=lambda index: (outcomes[index].f1, -outcomes[index].errors, index))
    return [
        {
            "key": records[index].key,
            "picture": records[index].picture,
            "f1": outcomes[index].f1,
            "found": len(outcomes[index].found),
            "missed": len(outcomes[index].missed),
            "false": len(outcomes[index].wrong),
        }
        for index in failing[:WORST_LISTED]
    ]
